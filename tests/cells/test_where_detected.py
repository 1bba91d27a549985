"""Regions as objects, and the area that cells are relative to: where they were looked for, not what was drawn."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from histomri.cells import CellTable, Region, load_cells, read_cells, read_region_objects, read_regions
from histomri.core.errors import InputError, UnitError

DATA = Path(__file__).resolve().parents[1] / "data" / "histology"
ANNOTATIONS = DATA / "selected.annotations.geojson"


def square(x, y, side, high=None):
    high = side if high is None else high
    ring = [[x, y], [x + side, y], [x + side, y + high], [x, y + high], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def annotation(geometry, name=None, classification=None, identifier=None, kind="annotation", **more):
    properties = {"objectType": kind, **more}
    properties |= {"name": name} if name else {}
    properties |= {"classification": {"name": classification}} if classification else {}
    feature = {"type": "Feature", "geometry": geometry, "properties": properties}
    return feature | ({"id": identifier} if identifier else {})


def save(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def export(path, rng, *boxes, parents=None):
    """Write cells, so many in each box (x, y, side, number), µm; as histomri's script does if they have parents."""
    at = np.concatenate([rng.uniform(0, side, (n, 2)) + np.array([x, y]) for x, y, side, n in boxes])
    if parents is None:
        rows = "".join(f"{x}\t{y}\t100\n" for x, y in at)
        path.write_text("Centroid X um\tCentroid Y um\tCell: Area um^2\n" + rows)
        return path
    names = np.repeat(parents, [n for *_, n in boxes])
    rows = "".join(f"c{k}\tcell\t{name}\t{x}\t{y}\t100\n" for k, ((x, y), name) in enumerate(zip(at, names)))
    path.write_text("object_id\tobject_type\tparent_id\tx_px\ty_px\tcell_area_px2\n" + rows)
    return path


def area_of(cells):
    return cells.region.area / 1e6


# ---------------------------------------------------------------- the file


def test_a_region_is_an_object(tmp_path):
    inner = annotation(square(10, 10, 20), "hot spot", "Tumor", "t")
    outer = annotation(square(0, 0, 100), classification="Tissue", identifier="o") | {"childObjects": [inner]}
    path = save(tmp_path / "r.geojson", [outer, annotation(square(0, 0, 5), kind="cell")])
    tissue, tumour = read_region_objects(path, (0.5, 0.25))
    assert (tissue.classification, tissue.object_id, tissue.area_um2) == ("Tissue", "o", 100 * 100 * 0.125)
    assert (tumour.name, tumour.parent_id, tumour.area_um2) == ("hot spot", "o", 50)
    assert Region.from_record(json.loads(json.dumps(tumour.record()))) == tumour


@pytest.mark.parametrize("word", ["tma_core", "tmaCore", "TMA core", "TMACoreObject"])
def test_tma_cores_have_a_place_and_may_be_missing(tmp_path, word):
    cores = [
        annotation(square(0, 0, 100), "A-1", kind=word, isMissing=False, metadata={"Unique ID": "P7"}),
        annotation(square(200, 0, 100), "A-2", kind=word, isMissing=True),
    ]
    inside = [annotation(square(10 + x, 10, 20), classification="Tumor") for x in (0, 200)]
    found = read_region_objects(save(tmp_path / "r.geojson", [*cores, *inside]), (1, 1))
    facts = [(one.kind, one.core, one.row, one.column, one.missing, one.unique_id) for one in found]
    assert facts == [
        ("core", "A-1", "A", "1", False, "P7"), ("core", "A-2", "A", "2", True, ""),
        ("annotation", "A-1", "A", "1", False, "P7"), ("annotation", "A-2", "A", "2", True, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["roi_unclosed", "roi_geometrycollection"])
def test_open_rings_and_collections_are_read(name):
    assert read_regions(DATA / f"{name}.geojson", (0.25, 0.25)).area == 500**2


def test_a_missing_core_is_out():
    assert read_regions(DATA / "roi_tma.geojson", (1, 1)).area == 2 * 1200 * 2000


def test_classes_that_end_in_an_asterisk_are_out_and_cut_out(tmp_path):
    tissue, fold = annotation(square(0, 0, 100), "t"), annotation(square(50, 50, 100), classification="Ignore*")
    frame = annotation(square(-50, -50, 500), classification="Region*")
    path = save(tmp_path / "r.geojson", [tissue, fold, frame])
    assert read_regions(path, (1, 1)).area == 100**2 - 50**2
    # Drawn around the tissue, it is out, and what was drawn inside stays.
    around = save(tmp_path / "r.geojson", [tissue, annotation(square(-5, -5, 200), classification="Ignore*")])
    assert read_regions(around, (1, 1)).area == 100**2
    assert read_regions(around, (1, 1), roi_classes=["Ignore*"]).area == 200**2


def test_classes_are_taken_and_cut_out(tmp_path):
    path = save(
        tmp_path / "r.geojson",
        [
            annotation(square(0, 0, 100), classification="Tissue"),
            annotation(square(0, 0, 40), classification="Tumor: Positive"),
            annotation(square(200, 0, 50), classification="Stroma"),
            annotation(square(0, 0, 10), classification="Necrosis"),
        ],
    )
    area = lambda **choice: read_regions(path, (1, 1), **choice).area  # noqa: E731
    assert area(roi_classes=["Tumor", "Stroma"]) == 40**2 + 50**2
    assert area(roi_classes=["tumor"], exclude_classes=["Necrosis"]) == 40**2 - 10**2
    assert area(exclude_classes=["Necrosis", "Stroma"]) == 100**2 - 10**2
    with pytest.raises(InputError, match=r"r\.geojson: no annotation is of class 'Strome' \(is it 'Stroma'\?\)"):
        area(roi_classes=["Strome"])
    with pytest.raises(InputError, match=r"its classes are 'Tissue', .*pass --exclude-classes"):
        area(exclude_classes=["Vessel"])
    with pytest.raises(InputError, match=r"no region is left \(1 region was left out: Necrosis lies wholly in what"):
        area(roi_classes=["Necrosis"], exclude_classes=["Tissue"])


def test_cores_that_are_not_there_or_have_no_name_are_refused(tmp_path):
    path = DATA / "roi_tma.geojson"
    assert read_regions(path, (1, 1), core="A-3").bounds == (2800, 0, 4000, 2000)
    with pytest.raises(InputError, match=r"holds no TMA core 'A-4' \(is it 'A-3'\?\); its cores are 'A-1', 'A-3'"):
        read_regions(path, (1, 1), core="A-4")
    with pytest.raises(InputError, match="the TMA core 'A-2' is marked as missing"):
        read_regions(path, (1, 1), core="A-2")
    with pytest.raises(InputError, match="holds no TMA cores"):
        read_regions(ANNOTATIONS, (1, 1), core="A-1")
    nameless = save(tmp_path / "r.geojson", [annotation(square(0, 7, 9), kind="tma_core")])
    with pytest.raises(InputError, match="the first is the core without a name at x 0, y 7 µm; name them in QuPath"):
        read_regions(nameless, (1, 1), core="A-1")
    assert read_regions(nameless, (1, 1)).area == 81


# ---------------------------------------------------------------- the cells


@pytest.mark.parametrize("classes", [None, ["Tumor"], ["Tissue"], ["Tissue", "Tumor"]])
def test_cells_of_our_export_are_relative_to_the_annotation_they_were_found_in(classes):
    cells = read_cells(DATA / "selected.cells.tsv", roi=ANNOTATIONS, roi_classes=classes)
    area = cells.data["area_um2"].sum()
    assert (len(cells), area_of(cells)) == (1500, 1.0)  # CD 1500 / mm²
    assert any(text.startswith("F and CD are relative to 1 mm² in 1 region: T") for text in cells.messages())
    assert area / cells.region.area == pytest.approx(0.254, abs=5e-4)
    named = any("Tissue" in text for text in cells.metadata.warnings)
    assert named is (classes != ["Tumor"])


def test_the_annotations_beside_an_export_are_found_where_classes_are_asked_for():
    cells = read_cells(DATA / "selected.cells.tsv", roi_classes=["Tumor"])
    assert area_of(cells) == 1.0 and cells.metadata.sources[1] == "selected.annotations.geojson"
    assert read_cells(DATA / "selected.cells.tsv").region is None
    with pytest.raises(InputError, match=r"no cell was detected in Tissue.*the cells were detected in Tumor"):
        read_cells(DATA / "selected.cells.tsv", exclude_classes=["Tumor"])


def test_an_annotation_drawn_where_detection_ran_counts(tmp_path, rng):
    roi = save(
        tmp_path / "r.geojson",
        [
            annotation(square(0, 0, 1000), classification="Tissue", identifier="tissue"),
            annotation(square(100, 100, 300), classification="Tumor", identifier="tumour"),  # drawn later
            annotation(square(5000, 0, 1000), "other", identifier="other"),
        ],
    )
    path = export(tmp_path / "a.tsv", rng, (0, 0, 1000, 2000), parents=["tissue"])
    cells = read_cells(path, roi=roi, mpp=1)
    assert [one["classification"] for one in cells.metadata.regions] == ["Tissue", "Tumor"]
    assert any(text.startswith("other has no cells of its own and was left out") for text in cells.metadata.warnings)
    tumour = read_cells(path, roi=roi, mpp=1, roi_classes=["Tumor"])
    assert area_of(tumour) == 0.09 and len(tumour) == pytest.approx(180, rel=0.3)


def test_parents_that_point_nowhere(tmp_path, rng):
    features = [annotation(square(0, 0, 1000), "one", identifier="1-1"), annotation(square(0, 0, 9), identifier="2-2")]
    table = export(tmp_path / "a.cells.tsv", rng, (0, 0, 1000, 200), parents=["gone"])
    own = save(tmp_path / "a.annotations.geojson", features)
    with pytest.raises(InputError, match=r"a\.annotations\.geojson: 200 cells name .*such as gone\).*of two exports"):
        read_cells(table, roi=own, mpp=1)
    other = save(tmp_path / "drawn.geojson", features)
    warnings = read_cells(table, roi=other, mpp=1).metadata.warnings
    assert any("whether detection was run in all of its area is not known" in text for text in warnings)


def test_parents_in_another_unit_are_refused(tmp_path, rng):
    shrunk = [annotation(square(1000, 1000, 250), "one", identifier="1-1"), annotation(square(0, 0, 9), "two")]
    table = export(tmp_path / "a.tsv", rng, (4000, 4000, 1000, 200), parents=["1-1"])
    with pytest.raises(InputError, match="only 0 of 200 cells lie in the annotation that they name as their parent"):
        read_cells(table, roi=save(tmp_path / "r.geojson", shrunk), mpp=1)


def test_without_parents_an_annotation_without_cells_on_its_own_ground_is_left_out(tmp_path, rng):
    tissue = annotation(square(0, 0, 3000), classification="Tissue")
    tumour, far = annotation(square(0, 0, 1000), "lesion", "Tumor"), annotation(square(9000, 0, 500), "far")
    roi = save(tmp_path / "r.geojson", [tissue, tumour, far])
    # Centroids of a few cells lie beyond the edge, as QuPath expands cells over it.
    table = export(tmp_path / "a.tsv", rng, (0, 0, 1000, 1500), (1000, 0, 10, 5))
    cells = read_cells(table, roi=roi, mpp=1)
    assert area_of(cells) == 1.0 and cells.metadata.dropped == {"outside the region of interest": 5}
    assert (
        "Tissue, far have no cells of their own and were left out: F and CD are relative to lesion (Tumor), where "
        "cells are"
    ) in cells.metadata.warnings
    # All of the tissue was looked at: it counts, and so does a part of it without cells.
    table = export(tmp_path / "a.tsv", rng, (0, 0, 3000, 4000))
    assert area_of(read_cells(table, roi=roi, mpp=1)) == 9.0
    table = export(tmp_path / "a.tsv", rng, (1000, 1000, 2000, 4000))
    assert area_of(read_cells(table, roi=roi, mpp=1)) == 9.0


def test_what_cannot_be_settled_is_asked(tmp_path, rng):
    tissue, tumour = annotation(square(0, 0, 3000), "t", "Tissue"), annotation(square(0, 0, 1000), "l", "Tumor")
    roi = save(tmp_path / "r.geojson", [tissue, tumour])
    table = export(tmp_path / "a.tsv", rng, (0, 0, 1000, 1500), (1500, 1500, 1000, 20))
    with pytest.raises(InputError, match=r"t \(Tissue\) has 20 cells .*was all of it looked at\?; say with --roi"):
        read_cells(table, roi=roi, mpp=1)
    assert area_of(read_cells(table, roi=roi, mpp=1, roi_classes=["Tumor"])) == 1.0
    cells = read_cells(table, roi=roi, mpp=1, roi_classes=["Tissue"])
    assert area_of(cells) == 9.0 and any("as --roi-classes says" in text for text in cells.metadata.warnings)


def test_a_core_of_few_cells_is_no_question(tmp_path, rng):
    cores = [annotation(square(x, 0, 1000), f"A-{k}", kind="tma_core") for k, x in ((1, 0), (2, 2000))]
    table = export(tmp_path / "a.tsv", rng, (0, 0, 1000, 5000), (2000, 0, 1000, 40))
    assert area_of(read_cells(table, roi=save(tmp_path / "r.geojson", cores), mpp=1)) == 2.0


def test_a_core_is_replaced_by_the_annotations_in_it(tmp_path, rng):
    cores = [annotation(square(x, 0, 1000), f"A-{k}", kind="tma_core") for k, x in ((1, 0), (2, 2000))]
    roi = save(tmp_path / "r.geojson", [*cores, annotation(square(100, 100, 500), classification="Tumor")])
    table = export(tmp_path / "a.tsv", rng, (100, 100, 500, 400), (2000, 0, 1000, 900))
    cells = read_cells(table, roi=roi, mpp=1)
    assert [(one["core"], one.get("classification")) for one in cells.metadata.regions] == [
        ("A-2", None), ("A-1", "Tumor"),
    ]  # fmt: skip
    assert area_of(cells) == 1.25 and not any("left out" in text for text in cells.metadata.warnings)
    alone = read_cells(table, roi=roi, mpp=1, core="A-1")
    assert (len(alone), area_of(alone)) == (400, 0.25)


def test_several_files_vouch_for_their_regions_together(tmp_path, rng):
    features = [annotation(square(x, 0, 500), name, identifier=name) for x, name in ((0, "a"), (900, "b"))]
    roi = save(tmp_path / "r.geojson", features)
    places = ((0, "a"), (900, "b"))
    tables = [export(tmp_path / f"s.{name}.tsv", rng, (x, 0, 500, 50), parents=[name]) for x, name in places]
    for path in tables:  # identifiers of one slide are unique
        path.write_text(path.read_text().replace("\nc", f"\n{path.stem}-"))
    cells = read_cells(*tables, roi=roi, mpp=1)
    assert (len(cells), area_of(cells)) == (100, 0.5)
    assert not any("left out" in text for text in cells.metadata.warnings)


def test_a_table_keeps_its_regions(tmp_path):
    cells = read_cells(DATA / "selected.cells.tsv", roi=ANNOTATIONS)
    cells.save(tmp_path / "c.parquet")
    again = CellTable.load(tmp_path / "c.parquet")
    assert again.metadata == cells.metadata and again.metadata.regions[0]["classification"] == "Tumor"
    tumour, _ = load_cells(tmp_path / "c.parquet", roi_classes=["Tumor"])
    assert len(tumour) == 1500
    with pytest.raises(InputError, match="no annotation is of class 'Stroma'"):
        load_cells(tmp_path / "c.parquet", roi_classes=["Stroma"])
    read_cells(DATA / "selected.cells.tsv").save(tmp_path / "d.parquet")
    with pytest.raises(InputError, match="holds no regions to choose from"):
        load_cells(tmp_path / "d.parquet", core="A-1")
    loaded, warnings = load_cells(tmp_path / "d.parquet", roi=ANNOTATIONS)
    assert area_of(loaded) == 1.0 and "Tissue has no cells of its own" in warnings[0]


def test_a_pixel_size_is_needed_and_a_class_without_a_file_refused(tmp_path, rng):
    table = export(tmp_path / "a.tsv", rng, (0, 0, 100, 20))
    with pytest.raises(UnitError, match=r"pass --mpp"):
        read_cells(table, roi=ANNOTATIONS)
    with pytest.raises(InputError, match=r"a\.tsv: has no file of annotations beside it.*pass --roi, or put a\.ann"):
        read_cells(table, roi_classes=["Tumor"])


def test_objects_of_one_file_are_cells_and_regions(tmp_path):
    cells = [annotation(square(x, y, 8), kind="cell", identifier=f"{x}-{y}") for x in (1, 20, 40) for y in (1, 20, 40)]
    tumour = annotation(square(0, 0, 50), classification="Tumor", identifier="t") | {"childObjects": cells}
    path = save(tmp_path / "all.geojson", [annotation(square(0, 0, 900), classification="Tissue"), tumour])
    found = read_cells(path, mpp=1, roi_classes=["Tumor"])
    assert (len(found), found.region.area) == (9, 2500)
    assert read_cells(path, mpp=1, roi=path).region.equals(box(0, 0, 50, 50))


def test_a_frame_with_regions_survives_pandas(tmp_path, rng):
    path = export(tmp_path / "a.tsv", rng, (0, 0, 100, 20), parents=["p"])
    data = read_cells(path, mpp=1).data
    assert data.columns[-1] == "parent_id" and isinstance(data, pd.DataFrame)
