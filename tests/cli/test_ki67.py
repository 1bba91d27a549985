"""`histomri ki67`: the labelling index of a table, the stained area fraction of a slide, and never both."""

import json
from functools import partial

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Picture
from statsmodels.stats.proportion import proportion_confint

from histomri.cells import CellTable, read_cells
from histomri.patches import measure_labelling

GLASS = np.array([236.0, 230.0, 241.0])
STAINS = {"Stain 1": "Hematoxylin", "Values 1": "0.65 0.704 0.286", "Stain 2": "DAB", "Values 2": "0.268 0.57 0.776"}


@pytest.fixture
def histomri(run):
    return partial(run, "ki67")


@pytest.fixture
def export(tmp_path, rng):
    """A QuPath table of 4000 cells on 1 x 2 mm; a third of the upper half and a tenth of the lower are positive."""
    x, y = rng.uniform(0, 1000, 4000), rng.uniform(0, 2000, 4000)
    positive = rng.random(4000) < np.where(y < 1000, 1 / 3, 0.1)
    name = np.where(x < 500, "Tumor: ", "")
    classes = np.char.add(name, np.where(positive, "Positive", "Negative"))
    classes[:50] = "Stroma"
    table = pd.DataFrame(
        {
            "Image": "A01_Ki67.ndpi",
            "Object ID": [f"{n:08d}" for n in range(4000)],
            "Classification": classes,
            "Centroid X µm": x,
            "Centroid Y µm": y,
            "Cell: Area": rng.uniform(60, 90, 4000),
        }
    )
    path = tmp_path / "A01.tsv"
    table.to_csv(path, sep="\t", index=False)
    return path, table


@pytest.fixture
def slide(tmp_path):
    """Tissue of 800 x 400 µm, its lower left quarter brown, glass around; 1 µm pixels."""
    amounts = np.zeros((550, 1000, 2))
    amounts[75:475, 100:900] = (0.25, 0.0)
    amounts[275:475, 100:500] = (0.2, 0.5)
    vectors = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rgb = np.round(GLASS * 10 ** -(amounts @ vectors)).astype(np.uint8)
    path = tmp_path / "ki67.ome.tif"
    size = {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0, "axes": "YXS"}
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(256, 256), compression="zlib", metadata=size)
    return path


def pixels(path):
    with Picture.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def region(path, *corners):
    (left, top), (right, bottom) = corners
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    path.write_text(json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}))
    return path


def expected(classes):
    positive, negative = classes.str.endswith("Positive"), classes.str.endswith("Negative")
    hits, n = int(positive.sum()), int((positive | negative).sum())
    return hits, n, proportion_confint(hits, n, method="wilson")


def test_the_labelling_index_of_a_table(histomri, export, tmp_path):
    path, table = export
    done = histomri(path, "-o", tmp_path / "out", "--map-um", 500)
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "ki67.json").read_text())
    assert "stained_area_fraction" not in content
    index = content["labelling_index"]
    hits, n, interval = expected(table["Classification"])
    assert (index["n_positive"], index["n_negative"], index["n_not_counted"]) == (hits, n - hits, 50)
    assert index["value"] == pytest.approx(hits / n)
    np.testing.assert_allclose(index["ci95"], interval)
    assert "NOT to be compared with a stained area fraction" in index["Description"]
    spot = index["hot_spot"]
    (left, top), edge = spot["corner_um"], spot["window_um"]
    x, y = table["Centroid X µm"], table["Centroid Y µm"]
    inside = (x >= left) & (x < left + edge) & (y >= top) & (y < top + edge)
    hits, n, interval = expected(table["Classification"][inside])
    assert n >= 500 and top < 1000 and spot["value"] == pytest.approx(hits / n)
    np.testing.assert_allclose(spot["ci95"], interval)
    flat = pd.read_csv(tmp_path / "out" / "ki67.csv")
    assert flat["region"].tolist() == ["whole", "hot spot"] and set(flat["quantity"]) == {"labelling_index"}
    np.testing.assert_allclose(flat["value"], [index["value"], spot["value"]])
    shown = nib.load(tmp_path / "out" / "param-labellingIndex_histomap.nii.gz").get_fdata()[..., 0]
    assert shown.shape == (4, 2)
    for row in range(4):
        for column in range(2):
            here = (x // 500 == column) & (y // 500 == row)
            hits, n, _ = expected(table["Classification"][here])
            assert shown[row, column] == pytest.approx(hits / n, rel=1e-6)
    assert pixels(tmp_path / "out" / "ki67.png").shape[1] > 500


@pytest.mark.parametrize("parquet", [False, True])
def test_a_region_and_a_class(histomri, export, tmp_path, parquet):
    path, table = export
    if parquet:
        path = tmp_path / "cells.parquet"
        read_cells(export[0]).save(path)
    roi = region(tmp_path / "roi.geojson", (0, 0), (1200, 3000))  # 600 x 1500 µm
    done = histomri(path, "-o", tmp_path / "out", "--roi", roi, "--mpp", 0.5, "--classes", "Tumor")
    assert done.exit_code == 0, done.output
    index = json.loads((tmp_path / "out" / "ki67.json").read_text())["labelling_index"]
    kept = table[(table["Centroid Y µm"] < 1500) & table["Classification"].str.startswith("Tumor")]
    hits, n, _ = expected(kept["Classification"])
    assert (index["n_positive"], index["n_positive"] + index["n_negative"]) == (hits, n)
    assert index["cells_by_class"].keys() == {"Tumor: Positive", "Tumor: Negative"}


def test_few_cells_are_told(histomri, export, tmp_path):
    path, table = export
    table[:300].to_csv(path, sep="\t", index=False)
    done = histomri(path, "-o", tmp_path / "out", "-q")
    assert done.exit_code == 0 and done.stdout == ""
    assert "only 250 cells were counted; 500 is the least" in done.stderr
    content = json.loads((tmp_path / "out" / "ki67.json").read_text())
    assert content["labelling_index"]["hot_spot"] is None and len(content["warnings"]) >= 1


def test_very_many_cells_are_drawn_binned(tmp_path, rng):
    x, y = rng.uniform(0, 1000, (2, 120_000))
    table = CellTable.from_columns(x, y, np.full(x.size, 80.0))
    table.data["classification"] = np.where(rng.random(x.size) < 0.2, "Positive", "Negative")
    result = measure_labelling(table)
    result.save(tmp_path / "out")
    assert result.value == pytest.approx(0.2, abs=0.005)
    colours = pixels(tmp_path / "out" / "ki67.png").reshape(-1, 3)
    blue = (colours[:, 2] > colours[:, 0] + 60).mean()
    brown = (colours[:, 0] > colours[:, 2] + 60).mean()
    assert blue > 2 * brown > 0


def test_the_stained_area_of_a_slide(histomri, slide, tmp_path):
    roi = region(tmp_path / "roi.geojson", (300, 275), (600, 475))
    done = histomri(slide, "-o", tmp_path / "out", "--roi", roi, "--map-um", 100, "--sub", "1")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "ki67.json").read_text())
    assert "labelling_index" not in content
    stained = content["stained_area_fraction"]
    # Of the region of 300 x 200 µm, 200 x 200 are brown.
    assert stained["value"] == pytest.approx(2 / 3, abs=1e-12)
    assert stained["counted_area_mm2"] == pytest.approx(0.06) and stained["n_counted_pixels"] == 60_000
    np.testing.assert_allclose(stained["background_rgb"], GLASS)
    assert stained["background_from"] == "median of the glass"
    image = nib.load(tmp_path / "out" / "sub-1_param-stainedFraction_histomap.nii.gz")
    shown = image.get_fdata()[..., 0]
    assert shown.shape == (6, 10)
    np.testing.assert_allclose(shown[3, 3:6], [1, 1, 0])
    assert np.isnan(shown[:, :3]).all() and np.isnan(shown[:2]).all()
    # Row 3, column 4 is the patch around x 450, y 350 µm.
    np.testing.assert_allclose((image.affine @ [3, 4, 0, 1])[:2], [-0.45, -0.35], atol=1e-6)
    whole = histomri(slide, "-o", tmp_path / "whole", "--no-tissue")
    assert whole.exit_code == 0
    stained = json.loads((tmp_path / "whole" / "ki67.json").read_text())["stained_area_fraction"]
    assert stained["value"] == pytest.approx(400 * 200 / (1000 * 550), abs=1e-12)
    assert stained["counted"] == "all of the slide"
    flat = pd.read_csv(tmp_path / "whole" / "ki67.csv")
    assert flat["quantity"].tolist() == ["stained_area_fraction"] and flat["unit_counted"].tolist() == ["pixels"]


def test_the_picture_shows_what_was_counted(histomri, slide, tmp_path):
    assert histomri(slide, "-o", tmp_path / "out", "--threshold", 0.2).exit_code == 0
    shown = pixels(tmp_path / "out" / "ki67.png")
    magenta = (abs(shown - (255, 0, 153)) < 3).all(axis=2)
    left, right = magenta[:, : shown.shape[1] // 3], magenta[:, 2 * shown.shape[1] // 3 :]
    assert left.any() and right.any()


def test_stains_of_ones_own(histomri, slide, tmp_path):
    text = json.dumps(STAINS | {"Background": "236 230 241"})
    (tmp_path / "stains.json").write_text(text)
    values = []
    options = (["--stains", text], ["--stains", tmp_path / "stains.json"], ["--background", "236,230,241"])
    for number, option in enumerate(options):
        done = histomri(slide, "-o", tmp_path / str(number), *option)
        assert done.exit_code == 0, done.output
        content = json.loads((tmp_path / str(number) / "ki67.json").read_text())["stained_area_fraction"]
        values.append(content["value"])
        np.testing.assert_allclose(content["background_rgb"], GLASS)
    assert max(values) == pytest.approx(min(values)) == pytest.approx(0.25, abs=0.01)
    # QuPath's JSON beside the slide tells the stains, and what kind of slide it is.
    record = {"schema": "histomri.qupath/1", "image_type": "BRIGHTFIELD_H_DAB", "stains": text}
    (tmp_path / "ki67.histomri.json").write_text(json.dumps(record))
    assert "stains: ki67.histomri.json" in histomri(slide, "-o", tmp_path / "a").stdout
    (tmp_path / "ki67.histomri.json").write_text(json.dumps(record | {"image_type": "BRIGHTFIELD_H_E"}))
    done = histomri(slide, "-o", tmp_path / "b")
    assert done.exit_code == 2 and "is of type BRIGHTFIELD_H_E" in done.stderr and not (tmp_path / "b").exists()


def test_stains_are_estimated_on_request(histomri, slide, tmp_path):
    done = histomri(slide, "-o", tmp_path / "out", "--stains", "estimate")
    assert done.exit_code == 0, done.output
    assert "stains: estimated from the slide (Macenko)" in done.stdout
    content = json.loads((tmp_path / "out" / "ki67.json").read_text())["stained_area_fraction"]
    assert content["value"] == pytest.approx(0.25, abs=0.01)


def test_mistakes_are_told(histomri, export, slide, tmp_path):
    path, table = export
    plain = tmp_path / "plain.tsv"
    table.assign(Classification="Tumor").to_csv(plain, sep="\t", index=False)
    far = region(tmp_path / "far.geojson", (0, 0), (30, 30))
    (tmp_path / "file").write_text("x")
    out = tmp_path / "out"
    beside = region(tmp_path / "beside.geojson", (5000, 0), (6000, 100))
    picture = tmp_path / "ki67.jpg"
    Picture.new("RGB", (8, 8)).save(picture)
    cases = [
        ((plain,), "no cell is classified Positive or Negative; the classes are Tumor; run QuPath's positive cell"),
        ((path, "--threshold", 0.1), "is a cell table, for which there is no --threshold"),
        ((path, "--um-per-px", 2), "is a cell table, for which there is no --um-per-px"),
        ((path, "--no-tissue"), "is a cell table, for which there is no --no-tissue"),
        ((slide, "--window-um", 300), "is a slide, for which there is no --window-um"),
        ((slide, "--min-cells", 100), "is a slide, for which there is no --min-cells"),
        ((slide, "--um-per-px", 50), "are larger than half a nucleus"),
        (
            (slide, "--roi", beside),
            "lies beside the slide: it spans x 5000 to 6000 and y 0 to 100 µm, and the slide is",
        ),
        ((slide, "--mpp", "0,5"), "--mpp 0,5 looks like a decimal comma; write --mpp 0.5"),
        ((picture, "--roi", beside), "not read as a slide; pass the slide as the scanner wrote it (svs"),
        ((path, "--stains", "{}"), "is a cell table, for which there is no --stains"),
        ((slide, "--classes", "Tumor"), "is a slide, for which there is no --classes"),
        ((slide, "--roi", far), "there is no tissue to count in; check the region"),
        ((slide, "--mpp", 0.25), "0.25 x 0.25 by --mpp, 1 x 1 by its OME metadata"),
        ((slide, "--threshold", 0), "--threshold: must be greater than 0"),
        ((slide, "--um-per-px", -1), "--um-per-px: must be greater than 0"),
        ((slide, "--background", "white"), "--background white is no list of numbers"),
        ((slide, "--background", "0,0,300"), "a background of"),
        ((slide, "--stains", "nowhere.json"), "no such file of stain vectors"),
        ((slide, "--stains", "{}"), "the stain vectors lack three numbers at 'Values 1'"),
        ((slide, "--map-um", 0), "--map-um: must be greater than 0"),
        ((path, "--roi", far), "pass --mpp"),
        ((path, "--min-cells", 0), "--min-cells: must be at least 1"),
        ((tmp_path / "no.svs",), "no such slide or cell table"),
    ]
    for arguments, message in cases:
        done = histomri(*arguments, "-o", out)
        assert done.exit_code == 2 and message in done.stderr, (arguments, done.output)
        assert not out.exists()
    assert "is a file, and a folder is needed for the results" in histomri(path, "-o", tmp_path / "file").stderr


def test_a_real_ki67_section(histomri, real_data, tmp_path):
    done = histomri(real_data / "slides" / "OS-2-ndpi.ome.tif", "-o", tmp_path / "out")
    assert done.exit_code == 0 and done.stderr == ""
    stained = json.loads((tmp_path / "out" / "ki67.json").read_text())["stained_area_fraction"]
    # By eye about one cell in seven is brown, and nuclei fill half of the tissue.
    assert 0.06 < stained["value"] < 0.13


def test_a_slide_without_dab_is_doubted(histomri, real_data, tmp_path):
    done = histomri(real_data / "slides" / "CMU-1-Small-Region.svs", "-o", tmp_path / "out")
    assert done.exit_code == 0 and "the pixels that count as stained have more Hematoxylin than DAB" in done.stderr
    fluorescence = histomri(real_data / "slides" / "hamamatsu_dapi.ndpi", "-o", tmp_path / "dark")
    assert fluorescence.exit_code == 2 and "is dark: a fluorescence image" in fluorescence.stderr
    assert not (tmp_path / "dark").exists()


def test_one_folder_never_holds_both_quantities(histomri, export, slide, tmp_path):
    for first, second in ((export[0], slide), (slide, export[0])):
        out = tmp_path / first.stem
        assert histomri(first, "-o", out, "--map-um", 200).exit_code == 0
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        done = histomri(second, "-o", out)
        assert done.exit_code == 2 and "they are different quantities; pass another folder, --out" in done.stderr
        # Nor beside a map that is all that is left of a run.
        for name in ("ki67.json", "ki67.csv", "ki67.png"):
            (out / name).unlink()
        assert histomri(second, "-o", out).exit_code == 2
        assert {path.name: path.read_bytes() for path in out.iterdir()}.items() <= before.items()
        assert histomri(first, "-o", out).exit_code == 0


def test_a_hot_spot_that_sticks_out_tells_how_much_of_it_is_tissue(histomri, tmp_path, rng):
    # A strip 200 µm wide, so a window of 600 µm holds at most a third of itself, 0.12 mm².
    x, y = rng.uniform(0, 200, 6000), rng.uniform(0, 3000, 6000)
    cells = CellTable.from_columns(x, y, np.full(6000, 60.0))
    cells.data["classification"] = np.where(rng.random(6000) < 0.3, "Positive", "Negative")
    cells.save(tmp_path / "cells.parquet")
    done = histomri(tmp_path / "cells.parquet", "-o", tmp_path / "out", "--window-um", 600)
    assert done.exit_code == 0, done.output
    assert "of its 0.36 mm² covered by cells" in done.stdout
    spot = json.loads((tmp_path / "out" / "ki67.json").read_text())["labelling_index"]["hot_spot"]
    wide = min(200, spot["corner_um"][0] + 600) - max(0, spot["corner_um"][0])
    high = min(3000, spot["corner_um"][1] + 600) - max(0, spot["corner_um"][1])
    # To a square of 600 / 15 µm along the edge of the strip.
    assert spot["covered_mm2"] == pytest.approx(wide * high / 1e6, abs=2 * 0.04 * 0.6)


def test_classes_and_cores_of_regions_are_counted_in(histomri, slide, export, tmp_path):
    first = {"type": "Polygon", "coordinates": [[[0, 0], [400, 0], [400, 400], [0, 400]]]}  # not closed
    second = {"type": "Polygon", "coordinates": [[[0, 0], [900, 0], [900, 900], [0, 900], [0, 0]]]}
    features = [
        {"type": "Feature", "geometry": first, "properties": {"classification": {"name": "Tumor"}}},
        {"type": "Feature", "geometry": second, "properties": {"classification": {"name": "Necrosis"}}},
        {
            "type": "Feature",
            "geometry": second,
            "properties": {"objectType": "tma_core", "name": "A-1", "isMissing": False},
        },
        {"type": "Feature", "geometry": second, "properties": {"classification": {"name": "Ignore*"}}},
    ]
    roi = tmp_path / "r.geojson"
    roi.write_text(json.dumps(features))
    done = histomri(slide, "-o", tmp_path / "a", "--roi", roi, "--roi-classes", "Tumor")
    assert done.exit_code == 0, done.output
    assert "warning: 1 region was left out: Ignore* has a class that ends in *" in done.stderr
    for words, message in (
        (("--roi", roi, "--roi-classes", "Tumour"), "no annotation is of class 'Tumour' (is it 'Tumor'?)"),
        (("--roi-classes", "Tumor"), "has no regions to choose from; give their file with --roi"),
        (("--roi", roi, "--core", "A-2"), "holds no TMA core 'A-2' (is it 'A-1'?)"),
    ):
        done = histomri(slide, "-o", tmp_path / "b", *words)
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
    assert not (tmp_path / "b").exists()
