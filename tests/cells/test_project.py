"""Calibration from a QuPath project file, and cells through paquo, without QuPath: by objects with its attributes."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from shapely.geometry import Polygon, box

from histomri.cells import read_cells
from histomri.cells.sidecar import find_image, read_project
from histomri.core.errors import InputError, UnitError

TABLE = "Image\tCentroid X px\tCentroid Y px\tCell: Area\n"


def entry(name="A.ndpi", number=1, size=(0.25, 0.5), unit="µm", extent=(1000, 800)):
    sides = {"pixelWidth": {"value": size[0], "unit": unit}, "pixelHeight": {"value": size[1], "unit": unit}}
    metadata = {"name": name, "width": extent[0], "height": extent[1], "pixelCalibration": sides}
    builder = {"builderType": "uri", "uri": "file:/x", "metadata": metadata}
    return {"serverBuilder": builder, "entryID": number, "imageName": name}


def project(folder, *entries, **summary):
    path = folder / "project.qpproj"
    path.write_text(json.dumps({"version": "0.6.0", "images": list(entries)}))
    if summary:
        (folder / "data" / "1").mkdir(parents=True)
        content = {"server": {"width": 1000, "height": 800}, "hierarchy": {"objectTypeCounts": summary}}
        (folder / "data" / "1" / "summary.json").write_text(json.dumps(content))
    return path


def table(folder, *rows, name="A.tsv"):
    path = folder / name
    path.write_text(TABLE + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def test_a_real_project(real_data):
    path = real_data / "qupath" / "project_andrew_v0.5.1" / "project.qpproj"
    first, second, third = read_project(path)
    assert first.name == "MTA3-8_GPC3 (2).svs"
    assert (first.pixel_size_um, first.size_px) == ((0.2532, 0.2532), (101591, 62506))
    assert (first.n_cells, first.n_detections) == (13370, 0)
    assert second.name == "MTA3-3_GPC3.svs"
    assert (second.pixel_size_um, second.n_cells) == ((0.2532, 0.2532), None)
    assert third.pixel_size_um is None  # its metadata were in a file that was not copied
    assert find_image(path, ["mta3-3_gpc3.tif"]) == second


def test_the_project_calibrates_a_table(tmp_path):
    path = project(tmp_path, entry("B.ndpi", 7), entry(), Cells=5)
    cells = read_cells(table(tmp_path, ("A.ndpi", 100, 100, 800), ("A.ndpi", 5000, 1, 800)), project=path)
    assert cells.data[["x_um", "y_um", "area_um2"]].to_numpy().tolist() == [[25, 50, 100]]
    assert cells.metadata.field_um == (250, 400)
    assert cells.metadata.dropped == {"outside the slide": 1}
    assert "pixel size from project.qpproj" in cells.metadata.area_unit_from
    # The counts are of entry 7's neighbour, entry 1.
    assert any("A.tsv has 2 cells, and the QuPath project holds 5" in text for text in cells.metadata.warnings)
    with pytest.raises(UnitError, match=r"0\.3 x 0\.3 by --mpp, 0\.25 x 0\.5 by project.qpproj"):
        read_cells(tmp_path / "A.tsv", project=path, mpp=0.3)


def test_the_image_is_found_by_its_name_or_the_files(tmp_path):
    path = project(tmp_path, entry(), entry("B.ndpi", 2, (0.1, 0.1)))
    nameless = tmp_path / "B.txt"
    nameless.write_text("Centroid X px\tCentroid Y px\tCell: Area\n10\t10\t800\n")
    assert read_cells(nameless, project=path).metadata.pixel_size_um == (0.1, 0.1)
    with pytest.raises(InputError, match=r"project.qpproj: holds no image named 'C.ndpi'; it holds 'A.ndpi', 'B.ndpi'"):
        read_cells(table(tmp_path, ("C.ndpi", 1, 1, 9)), project=path)
    twice = project(tmp_path, entry(), entry(number=2))
    with pytest.raises(InputError, match=r"holds several images named 'A\.ndpi'"):
        read_cells(table(tmp_path, ("A.ndpi", 1, 1, 9)), project=twice)


def test_an_image_without_calibration_needs_the_pixel_size(tmp_path):
    path = project(tmp_path, entry(unit="px"))
    cells = table(tmp_path, ("A.ndpi", 1, 1, 800))
    with pytest.raises(UnitError, match="pass --mpp"):
        read_cells(cells, project=path)
    assert read_cells(cells, project=path, mpp=0.5).metadata.field_um == (500, 400)


def test_a_rotated_image_is_told_and_its_outer_size_taken(tmp_path):
    inner = entry()["serverBuilder"]
    outer = {**entry(extent=(800, 1000))["serverBuilder"], "builderType": "rotated", "rotation": "ROTATE_90"}
    path = project(tmp_path, {**entry(), "serverBuilder": {**outer, "builder": inner}})
    cells = read_cells(table(tmp_path, ("A.ndpi", 1, 1, 800)), project=path)
    assert cells.metadata.field_um == (200, 500)
    assert any("in the project the image is rotated" in text for text in cells.metadata.warnings)


def test_calibration_of_an_entry_may_lie_in_a_file_of_its_own(tmp_path):
    path = project(tmp_path, {"entryID": 1, "imageName": "A.ndpi", "serverBuilder": {"builderType": "uri"}}, Cells=1)
    (tmp_path / "data" / "1" / "server.json").write_text(json.dumps(entry()["serverBuilder"]))
    assert read_project(path)[0].pixel_size_um == (0.25, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the QuPath project is empty"),
        ("{", "is not valid JSON"),
        ("[]", "is no QuPath project: it has no list of images"),
        ('{"images": 3}', "has no list of images"),
        ('{"images": ["A"]}', "has no list of images"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps({"images": [entry(size=(-1, 2))]}), "the pixel size of 'A.ndpi' is -1 x 2 µm, which is not poss"),
        (json.dumps({"images": [entry(size=("a", 2))]}), "the pixel size of 'A.ndpi' is a x 2 µm"),
        (json.dumps({"images": []}), "holds no image named 'A.ndpi'; it holds none"),
        (json.dumps({"images": [{**entry(), "entryID": "../../etc", "serverBuilder": 3}]}), None),
    ],
)
def test_damaged_projects_are_refused(tmp_path, content, message):
    path = tmp_path / "project.qpproj"
    path.write_text(content)
    cells = table(tmp_path, ("A.ndpi", 1, 1, 800))
    with pytest.raises(InputError, match=message or "pass --mpp"):
        read_cells(cells, project=path)


class CellObject(SimpleNamespace):
    """What paquo gives for a cell."""


class DetectionObject(SimpleNamespace):
    """What paquo gives for a detection."""


TUMOR = SimpleNamespace(name="Tumor", parent=None)


POSITIVE = SimpleNamespace(name="Positive", parent=TUMOR)


def cell(x, y, size=40, nucleus=True):
    inner = box(x + 10, y + 10, x + 20, y + 20) if nucleus else None
    measured = {"Nucleus: DAB OD mean": 0.25, "Nucleus: Area": 12.5}
    return CellObject(roi=box(x, y, x + size, y + size), nucleus_roi=inner, path_class=POSITIVE, measurements=measured)


@pytest.fixture
def paquo(monkeypatch):
    """Put a stand-in in the place of paquo; it holds the images that the test puts in."""
    images = []

    class QuPathProject:
        def __init__(self, path, mode):
            assert mode == "r"
            if not images:
                raise RuntimeError("no QuPath here")
            self.images = images

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

    projects = ModuleType("paquo.projects")
    projects.QuPathProject = QuPathProject
    monkeypatch.setitem(sys.modules, "paquo", ModuleType("paquo"))
    monkeypatch.setitem(sys.modules, "paquo.projects", projects)
    return images


def image(name, *objects):
    return SimpleNamespace(image_name=name, hierarchy=SimpleNamespace(detections=list(objects)))


def test_regions_come_through_paquo(tmp_path, paquo):
    path = project(tmp_path, entry(size=(0.5, 0.5)), entry("B.ndpi", 2))
    drawn = [
        SimpleNamespace(roi=box(0, 0, 600, 400), name="lesion", path_class=TUMOR),
        SimpleNamespace(roi=box(0, 0, 900, 800), name=None, path_class=SimpleNamespace(name="Tissue", parent=None)),
    ]
    core = SimpleNamespace(roi=box(0, 0, 1000, 800), name="A-1", path_class=None, missing=False)
    held = image("A.ndpi", cell(100, 200), cell(300, 200), cell(100, 100), cell(700, 700))
    held.hierarchy.annotations, held.hierarchy.tma_grid = drawn, SimpleNamespace(cores=[core])
    paquo += [held, image("B.ndpi")]
    cells = read_cells(path, image="A.ndpi", roi=path, roi_classes=["Tumor"])
    assert (len(cells), cells.region.bounds) == (3, (0, 0, 300, 200))
    assert (cells.metadata.regions[0]["name"], cells.metadata.regions[0]["core"]) == ("lesion", "A-1")
    # The regions are those of the project, also where only classes or a core are asked for; and of a table.
    assert len(read_cells(path, image="A.ndpi", core="A-1")) == 4
    rows = [("A.ndpi", 100, 100, 800), ("A.ndpi", 700, 100, 800)]
    alone = read_cells(table(tmp_path, *rows), image="A.ndpi", project=path, roi=path, roi_classes=["Tumor"])
    assert len(alone) == 1


def test_cells_come_through_paquo(tmp_path, paquo):
    path = project(tmp_path, entry(), entry("B.ndpi", 2))
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    tile = type("TileObject", (SimpleNamespace,), {})(roi=box(0, 0, 9, 9), path_class=None, measurements={})
    twisted = CellObject(roi=bow, nucleus_roi=None, path_class=None, measurements={})
    paquo += [image("A.ndpi", cell(100, 200), cell(300, 200, nucleus=False), twisted, tile), image("B.ndpi")]
    table = read_cells(path, image="A.ndpi")
    row = table.data.iloc[0]
    assert (row.x_um, row.y_um, row.area_um2, row.nucleus_area_um2) == pytest.approx((30, 110, 200, 12.5))
    assert (row.object_type, row.classification, row.image) == ("cell", "Tumor: Positive", "A.ndpi")
    assert row.nucleus_dab_od_mean == 0.25
    assert table.data["area_um2"].tolist() == pytest.approx([200, 200, 6.25])
    assert table.metadata.dropped == {"not a cell or detection": 1}
    assert table.metadata.field_um == (250, 400)
    with pytest.raises(InputError, match=r"holds 2 images; its images are 'A.ndpi', 'B.ndpi'; choose one with --image"):
        read_cells(path)
    with pytest.raises(InputError, match="holds no cells"):
        read_cells(path, image="B.ndpi")
    with pytest.raises(InputError, match="holds no image 'C'"):
        read_cells(path, image="C")


def test_a_qupath_that_fails_is_told(tmp_path, paquo):
    with pytest.raises(InputError, match=r"project.qpproj: QuPath cannot open it \(no QuPath here\)"):
        read_cells(project(tmp_path, entry()))


def test_without_paquo_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "paquo", None)
    with pytest.raises(InputError, match=r"needs paquo and QuPath .*pip install 'histomri\[qupath\]'.*groovy"):
        read_cells(project(tmp_path, entry()))
    with pytest.raises(InputError, match="no such QuPath project"):
        read_cells(tmp_path / "gone.qpproj")
