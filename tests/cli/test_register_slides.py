"""`histomri register` of one slide on another, and what `histomri apply` then carries over."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from typer.testing import CliRunner

from histomri.core.images import Image
from histomri.registration import Transform
from histomri_cli.app import app

# µm of the slide HE to µm of the slide Ki67: a turn, and a shift that keeps the tissue on the slide.
ANGLE = np.radians(65)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
MIDDLE, SHIFT_UM = np.array([7000.0, 6500]), np.array([400.0, -300])
HE_UM, KI67_UM = 25.0, 20.0


def to_ki67(points_um):
    return (points_um - MIDDLE) @ TURN.T + MIDDLE + SHIFT_UM


def tissue(points_um):
    """Return how dense the tissue is, 0 where there is none; of HE, in µm."""
    x, y = ((points_um - MIDDLE) / 1000).T
    angle = np.arctan2(y, x)
    inside = np.hypot(x, y) < 4 + np.cos(2 * angle) + 0.7 * np.cos(3 * angle + 1)
    inside &= np.hypot(x - 1, y - 1.5) > 0.6
    return np.where(inside, 0.6 + 0.2 * np.sin(4 * x + 1) * np.sin(5 * y) + 0.15 * np.sin(9 * x - 7 * y), 0)


def picture(um, shape, colour, back):
    """Draw the tissue in a stain; `back` takes µm of the slide to µm of HE."""
    row, column = np.indices(shape).reshape(2, -1)
    dense = tissue(back(np.column_stack([column + 0.5, row + 0.5]) * um)).reshape(*shape, 1)
    return np.rint(245 * 10 ** (-dense * colour)).astype(np.uint8)


def call(command, *arguments):
    return CliRunner().invoke(app, [command, *map(str, arguments)])


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    Picture.fromarray(picture(HE_UM, (520, 560), [0.2, 0.6, 0.3], lambda p: p)).save(folder / "HE.png")
    ki67 = picture(KI67_UM, (640, 690), [0.5, 0.4, 0.1], lambda p: (p - MIDDLE - SHIFT_UM) @ TURN + MIDDLE)
    told = {"axes": "YXS", "PhysicalSizeX": KI67_UM, "PhysicalSizeY": KI67_UM}
    tifffile.imwrite(folder / "Ki67.ome.tif", ki67, photometric="rgb", metadata=told)
    return folder


@pytest.fixture(scope="module")
def registered(slides):
    options = ["--mpp", HE_UM, "--kind", "affine", "-o", slides / "xfm"]
    return call("register", slides / "HE.png", slides / "Ki67.ome.tif", *options)


@pytest.fixture
def xfm(slides, registered):
    return slides / "xfm" / "from-HE_to-Ki67_mode-image_xfm.json"


POINTS_UM = np.array([[5000.0, 6000], [9000, 7000], [7500, 4000], [6500, 8500]])


def test_a_slide_is_found_on_another(slides, registered, xfm):
    assert registered.exit_code == 0, registered.output
    assert "good" in registered.output
    assert "of the size of Ki67" in registered.output
    found = Transform.load(xfm)
    there = -1000 * found.points(-POINTS_UM / 1000)[:, :2]
    assert np.linalg.norm(there - to_ki67(POINTS_UM), axis=1).max() < 30  # a pixel and a half
    record = found.info["Registration"]["QualityControl"]
    assert record["density_r"] > 0.9  # the same picture in another colour
    assert record["density_lead"] > 0.1
    assert found.info["Parameters"]["Shrinkage"] == 0
    assert found.info["Fixed"]["Slide"] == "Ki67.ome.tif"
    assert found.info["Moving"]["PixelSize_um"] == [HE_UM, HE_UM]
    figures = [path.name for path in (slides / "xfm" / "figures").iterdir()]
    assert len(figures) == 9
    page = (slides / "xfm" / "from-HE_to-Ki67_mode-image_xfm.html").read_text(encoding="utf-8")
    assert "Does the HE lie on the Ki67?" in page
    assert not list((slides / "xfm").glob("*.tif"))


def test_cells_are_carried_over_and_back(tmp_path, xfm):
    pixels = (POINTS_UM / HE_UM).tolist()
    cells = tmp_path / "cells.geojson"
    cells.write_text(json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [pixels]}}))
    result = call("apply", xfm, cells, "-o", tmp_path / "there.geojson")
    assert result.exit_code == 0, result.output
    assert "lies on" not in result.stderr  # the record of a slide is that of its whole field
    content = json.loads((tmp_path / "there.geojson").read_text())
    there = np.array(content["geometry"]["coordinates"][0]) * KI67_UM
    assert np.linalg.norm(there - to_ki67(POINTS_UM), axis=1).max() < 30
    assert content["histomri"]["Units"] == "px"
    assert content["histomri"]["Slide"] == "Ki67.ome.tif"
    again = call("apply", xfm, tmp_path / "there.geojson", "-o", tmp_path / "no.geojson")
    assert again.exit_code == 2
    assert "pixels of Ki67.ome.tif already" in again.stderr
    assert call("apply", xfm, tmp_path / "there.geojson", "--inverse", "-o", tmp_path / "back.geojson").exit_code == 0
    back = json.loads((tmp_path / "back.geojson").read_text())
    np.testing.assert_allclose(back["geometry"]["coordinates"][0], pixels, atol=1e-6)
    # Cells of the full slide where a thumbnail was registered: their own pixel sizes.
    finer = ["--mpp", HE_UM / 10, "--fixed-mpp", KI67_UM / 10]
    assert call("apply", xfm, cells, *finer, "-o", tmp_path / "fine.geojson").exit_code == 0
    fine = json.loads((tmp_path / "fine.geojson").read_text())
    expected = to_ki67(POINTS_UM / 10) / KI67_UM * 10
    assert np.abs(np.array(fine["geometry"]["coordinates"][0]) - expected).max() < 30 / KI67_UM * 10


def test_centroids_are_carried_over_and_back(tmp_path, xfm):
    table = tmp_path / "cells.tsv"
    rows = "".join(f"a\t{x}\t{y}\n" for x, y in POINTS_UM)
    table.write_text("Class\tCentroid X µm\tCentroid Y µm\n" + rows)
    assert call("apply", xfm, table, "-o", tmp_path / "there.tsv").exit_code == 0
    there = np.loadtxt(tmp_path / "there.tsv", skiprows=1, usecols=(1, 2), delimiter="\t")
    assert np.linalg.norm(there - to_ki67(POINTS_UM), axis=1).max() < 30
    assert call("apply", xfm, tmp_path / "there.tsv", "--inverse", "-o", tmp_path / "back.tsv").exit_code == 0
    back = np.loadtxt(tmp_path / "back.tsv", skiprows=1, usecols=(1, 2), delimiter="\t")
    np.testing.assert_allclose(back, POINTS_UM, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_slide_is_drawn_on_the_other(tmp_path, slides, xfm, inverse):
    pair = slides / "HE.png", slides / "Ki67.ome.tif"
    source, like = reversed(pair) if inverse else pair
    options = ["--mpp", HE_UM, "--um-per-px", 50, *(["--inverse"] if inverse else [])]
    result = call("apply", xfm, source, "--like", like, *options, "-o", tmp_path / "on.ome.tif")
    assert result.exit_code == 0, result.output
    drawn = tifffile.imread(tmp_path / "on.ome.tif")
    assert drawn.shape[:2] == ((260, 280) if inverse else (256, 276))
    still = np.array(Picture.open(pair[0])) if inverse else tifffile.imread(pair[1])
    still = np.array(Picture.fromarray(still).resize((drawn.shape[1], drawn.shape[0]), Picture.Resampling.BOX))
    apart = (drawn.min(axis=2) < 200) != (still.min(axis=2) < 200)
    assert apart.mean() < 0.01  # where the tissue is; the stains differ


def test_landmarks_in_um_of_the_slides(tmp_path, slides):
    table = tmp_path / "l.csv"
    rows = [f"{a[0]},{a[1]},{b[0]},{b[1]}" for a, b in zip(POINTS_UM, to_ki67(POINTS_UM), strict=True)]
    table.write_text("moving_x_um,moving_y_um,fixed_x_um,fixed_y_um\n" + "\n".join(rows) + "\n")
    options = ["--mpp", HE_UM, "--no-figures", "-o", tmp_path / "xfm"]
    result = call(
        "register",
        slides / "HE.png",
        slides / "Ki67.ome.tif",
        "--landmarks",
        table,
        "--landmarks-only",
        "--kind",
        "affine",
        *options,
    )
    assert result.exit_code == 0, result.output
    found = Transform.load(tmp_path / "xfm" / "from-HE_to-Ki67_mode-image_xfm.json")
    np.testing.assert_allclose(-1000 * found.points(-POINTS_UM / 1000)[:, :2], to_ki67(POINTS_UM), atol=1e-6)
    assert found.info["Registration"]["QualityControl"]["verdict"] == "good"


def test_an_annotation_as_mask(tmp_path, slides):
    # A square annotation of either slide: the outlines are then those of the annotations, whatever the tissue is.
    square = np.array([[4000.0, 4000], [8000, 4000], [8000, 7000], [4000, 7000], [4000, 4000]])
    for name, points in (("m", square / HE_UM), ("f", to_ki67(square) / KI67_UM)):
        shape = {"type": "Polygon", "coordinates": [points.tolist()]}
        (tmp_path / f"{name}.geojson").write_text(json.dumps({"type": "Feature", "geometry": shape, "properties": {}}))
    masks = ["--moving-mask", tmp_path / "m.geojson", "--fixed-mask", tmp_path / "f.geojson"]
    options = ["--mpp", HE_UM, "--angle", "65", "--as-it-lies", "--no-figures", "-o", tmp_path / "xfm"]
    result = call("register", slides / "HE.png", slides / "Ki67.ome.tif", *masks, *options)
    assert result.exit_code == 0, result.output
    found = Transform.load(tmp_path / "xfm" / "from-HE_to-Ki67_mode-image_xfm.json")
    there = -1000 * found.points(-square / 1000)[:, :2]
    assert np.linalg.norm(there - to_ki67(square), axis=1).max() < 60  # a corner of a square, of 3 pixels


def test_real_serial_sections(tmp_path, real_data):
    # Lung of the ANHIR challenge, cropped within the tissue, at 5 %; landmarks were set at 50 %. They lie 124 µm apart
    # before; two people differ by 25 µm.
    sections, um = {"moving": "He", "fixed": "Ki67-7"}, 3.48
    columns = {}
    for side, stain in sections.items():
        path = real_data / "registration" / f"user-PS_scale-50pc__29-041-Izd2-w35-{stain}-les3.csv"
        table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 2)) / 10 * um
        columns |= {f"{side}_x_um": table[:, 0], f"{side}_y_um": table[:, 1]}
    names = ",".join(columns)
    np.savetxt(tmp_path / "l.csv", np.column_stack(list(columns.values())), delimiter=",", header=names, comments="")
    pictures = [real_data / "registration" / f"scale-5pc__29-041-Izd2-w35-{s}-les3.jpg" for s in sections.values()]
    options = ["--landmarks", tmp_path / "l.csv", "--landmarks-check", "--no-figures", "-o", tmp_path / "xfm"]
    result = call("register", *pictures, "--mpp", um, *options)
    assert result.exit_code == 0, result.output
    assert "dense parts" in result.stderr
    record = json.loads(next((tmp_path / "xfm").glob("*.json")).read_text())["Info"]["Registration"]["QualityControl"]
    assert 1000 * np.median(record["landmark_error_mm"]) < 90
    assert record["verdict"] == "check"
    assert record["density_lead"] > 0.05  # the densities were not matched, and agree better here than beside


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HE.png", "Ki67.ome.tif"], "--mpp"),
        (["Ki67.ome.tif", "HE.png"], "--fixed-mpp"),
        (["white.png", "Ki67.ome.tif", "--mpp", "25"], "no tissue"),
        (["broken.png", "Ki67.ome.tif", "--mpp", "25"], "no picture that can be read"),
        (["deep.png", "Ki67.ome.tif", "--mpp", "25"], "8 bits"),
        (["HE.png", "Ki67.ome.tif", "--mpp", "25000"], "not possible"),
        (["HE.png", "Ki67.ome.tif", "--mpp", "250"], "more than twice"),
        (["HE.png", "Ki67.ome.tif", "--mpp", "25", "--fixed-mpp", "5"], "not settled"),
        (["HE.png", "cells.txt", "--mpp", "25"], "neither a NIfTI image nor a slide"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(tmp_path, slides, monkeypatch, arguments, message):
    monkeypatch.chdir(slides)
    Picture.new("RGB", (200, 150), (240, 240, 242)).save("white.png")
    (slides / "broken.png").write_bytes((slides / "HE.png").read_bytes()[:3000])
    Picture.fromarray(np.zeros((40, 50), np.uint16)).save("deep.png")
    (slides / "cells.txt").write_text("x")
    result = call("register", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_slide_on_an_mri(tmp_path, slides):
    import nibabel as nib

    i, j = np.indices((50, 55))
    affine = np.array([[-0.25, 0, 0, 1], [0, 0.25, 0, -14], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    world = np.stack([i, j, 0 * i, 0 * i + 1], axis=-1).reshape(-1, 4) @ affine.T
    volume = tissue(-1000 * world[:, :2]).reshape(50, 55, 1)
    nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), tmp_path / "mri.nii.gz")
    options = ["--mpp", HE_UM, "--shrinkage", 0, "--kind", "affine", "--no-figures", "-o", tmp_path / "xfm"]
    result = call("register", slides / "HE.png", tmp_path / "mri.nii.gz", *options)
    assert result.exit_code == 0, result.output
    found = Transform.load(tmp_path / "xfm" / "from-histo_to-dwi_mode-image_xfm.json")
    assert np.abs(found.points(-POINTS_UM / 1000)[:, :2] + POINTS_UM / 1000).max() < 0.08  # a third of a voxel
    assert Image.load(tmp_path / "mri.nii.gz").data.shape == (50, 55)
