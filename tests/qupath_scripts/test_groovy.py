"""What the scripts for QuPath do to an open image, run as conftest.py says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "qupath_scripts"
WATERSHED = {
    "detectionImageBrightfield": "Hematoxylin OD",
    "requestedPixelSizeMicrons": 0.5,
    "backgroundRadiusMicrons": 8,
    "backgroundByReconstruction": True,
    "medianRadiusMicrons": 0,
    "sigmaMicrons": 1.5,
    "minAreaMicrons": 10,
    "maxAreaMicrons": 400,
    "threshold": 0.1,
    "maxBackground": 2,
    "watershedPostProcess": True,
    "cellExpansionMicrons": 5,
    "includeNuclei": True,
    "smoothBoundaries": True,
    "makeMeasurements": True,
}
POSITIVE = WATERSHED | {
    "thresholdCompartment": "Nucleus: DAB OD mean",
    "thresholdPositive1": 0.2,
    "thresholdPositive2": 0.4,
    "thresholdPositive3": 0.6,
    "singleThreshold": True,
}
STAINS = pytest.mark.parametrize(
    ("stain", "image_type", "plugin", "parameters"),
    [
        ("he", "BRIGHTFIELD_H_E", "qupath.imagej.detect.cells.WatershedCellDetection", WATERSHED),
        ("ki67", "BRIGHTFIELD_H_DAB", "qupath.imagej.detect.cells.PositiveCellDetection", POSITIVE),
    ],
)


Outcome = dict[str, Any]


def calls(outcome: Outcome, what: str) -> list[dict[str, Any]]:
    return [call for call in outcome["calls"] if call["what"] == what]


# ---------------------------------------------------------------- detection


@STAINS
def test_detection_passes_known_parameters(
    outcomes: dict[str, Outcome], stain: str, image_type: str, plugin: str, parameters: dict[str, Any]
) -> None:
    outcome = outcomes[f"{stain}-selected"]
    assert outcome["error"] is None
    (call,) = calls(outcome, "plugin")
    assert call["plugin"] == plugin
    assert json.loads(call["arguments"]) == parameters  # also that it is JSON, and that no other key is there
    assert call["regions"] == ["right"]
    assert outcome["image_type"] == image_type
    assert "4 cells" in outcome["printed"]


@STAINS
def test_detection_takes_all_annotations_without_a_selection(
    outcomes: dict[str, Outcome], stain: str, image_type: str, plugin: str, parameters: dict[str, Any]
) -> None:
    (call,) = calls(outcomes[f"{stain}-all-annotations"], "plugin")
    assert call["regions"] == ["left", "right"]


@STAINS
def test_detection_finds_tissue_without_annotations(
    outcomes: dict[str, Outcome], stain: str, image_type: str, plugin: str, parameters: dict[str, Any]
) -> None:
    outcome = outcomes[f"{stain}-tissue"]
    (tissue,) = calls(outcome, "tissue")
    assert tissue["pixel_um"] == pytest.approx(8.0, rel=1e-9)  # the resolution asked for, whatever that of the image
    assert tissue["classes"] == {"0": "Tissue", "1": "Ignore*"}  # dark is tissue
    assert (tissue["min_area"], tissue["min_hole"], tissue["options"]) == (50000, 5000, ["SPLIT"])
    assert tissue["threshold"] == [220]
    assert tissue["selected"] == 0
    (call,) = calls(outcome, "plugin")
    assert call["regions"] == ["found"]
    assert "no tissue found: raise tissueThreshold" in outcomes[f"{stain}-no-tissue"]["error"]
    assert not calls(outcomes[f"{stain}-no-tissue"], "plugin")


@STAINS
def test_detection_refuses_an_image_without_pixel_size(
    outcomes: dict[str, Outcome], stain: str, image_type: str, plugin: str, parameters: dict[str, Any]
) -> None:
    outcome = outcomes[f"{stain}-uncalibrated"]
    assert "no pixel size in µm: set it in the Image tab" in outcome["error"]
    assert outcome["calls"] == []


@STAINS
def test_detection_notices_that_the_plugin_failed(
    outcomes: dict[str, Outcome], stain: str, image_type: str, plugin: str, parameters: dict[str, Any]
) -> None:
    for name in ("plugin-false", "unknown-key"):
        outcome = outcomes[f"{stain}-{name}"]
        assert "the cell detection failed or was cancelled" in outcome["error"]
        assert "next:" not in outcome["printed"]


@STAINS
def test_detection_gives_gson_plain_strings(
    outcomes: dict[str, Outcome], stain: str, image_type: str, plugin: str, parameters: dict[str, Any]
) -> None:
    outcome = outcomes[f"{stain}-gstring"]
    assert outcome["error"] is None
    assert json.loads(calls(outcome, "plugin")[0]["arguments"]) == parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("he-no-image", "no image is open"),
        ("he-fluorescence", "not a brightfield (RGB) image"),
        ("he-wrong-stain", "set to BRIGHTFIELD_H_DAB, and this script is for BRIGHTFIELD_H_E"),
        ("he-overlap", 'annotations overlap ("tissue" and "tumour"), and cells there would be counted twice'),
    ],
)
def test_detection_stops_before_it_changes_cells(outcomes: dict[str, Outcome], name: str, message: str) -> None:
    assert message in outcomes[name]["error"]
    assert not calls(outcomes[name], "plugin")


def test_detection_settings(outcomes: dict[str, Outcome]) -> None:
    changed = outcomes["he-change-stain"]
    assert (changed["image_type"], changed["stains"]) == ("BRIGHTFIELD_H_E", "Our scanner")
    kept = outcomes["he-keeps-stains"]
    assert (calls(kept, "image type"), kept["stains"]) == ([], "estimated")
    assert calls(outcomes["he-one-class"], "plugin")[0]["regions"] == ["tumour"]
    assert outcomes["he-touching"]["error"] is None  # a shared border is no overlap


def test_labelling_index_counts_only_classified_cells(outcomes: dict[str, Outcome]) -> None:
    # Per region the stub makes 1 positive, 2 negative and 1 unclassified cell.
    assert "Ki-67 labelling index 33.3 % (2 of 6 cells)" in outcomes["ki67-all-annotations"]["printed"]


# ---------------------------------------------------------------- results


def tiles(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome["error"] is None
    return [thing for thing in outcome["objects"] if thing["kind"] == "tile"]


def test_show_results_of_the_project(outcomes: dict[str, Outcome]) -> None:
    shown = tiles(outcomes["show-project"])
    # Of A01 HE, not of A01 HE2; the third tile has no value and is background.
    assert [tile["name"] for tile in shown] == ["histomri: A01 HE"] + ["histomri: A01 HE_mri"] * 2
    assert shown[1]["bounds"] == [0, 0, 400, 400]
    assert shown[1]["measurements"] == {
        "MRI vCS \u00b5m": 21.5,
        "MRI F": 0.61,
        "Histology CD 1/mm^2": 2500,
        "vCS \u00b5m": 12.25,
        "K": 0.5,
    }
    assert shown[2]["measurements"] == {"MRI F": 0.4, "My own map": 7}  # a missing value is missing, not NaN


def test_show_again_replaces_only_its_own_tiles(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["show-again"]
    names = [tile["name"] for tile in tiles(outcome)]
    assert names == ["histomri: other", None, "histomri: A01 HE_mri", "histomri: A01 HE_mri"]
    assert [thing["kind"] for thing in outcome["objects"]][:2] == ["annotation", "cell"]
    assert "in place of 1" in outcome["printed"]
    assert [tile["name"] for tile in tiles(outcomes["show-remove"])] == [None]


def test_show_turns_everything_into_tiles(outcomes: dict[str, Outcome]) -> None:
    assert len(tiles(outcomes["show-args"])) == 3  # empty ones too, as its settings say
    assert len(tiles(outcomes["show-asked"])) == 1
    assert all(thing["kind"] == "tile" for thing in outcomes["show-asked"]["objects"])


def test_show_takes_what_qupath_grid_writes(outcomes: dict[str, Outcome]) -> None:
    shown = tiles(outcomes["show-own"])
    assert len(shown) == 5  # the sixth patch has no value
    assert {tile["name"] for tile in shown} == {"histomri: A01 HE"}
    by_corner = {tuple(tile["bounds"][:2]): tile for tile in shown}
    assert set(by_corner) == {(x, y) for x in (100, 300, 500) for y in (80, 320)} - {(500, 320)}
    assert all(tile["bounds"][2:] == [200, 240] for tile in shown)  # 100 x 60 µm, in pixels
    assert by_corner[300, 80]["measurements"] == pytest.approx(
        {"Histology vCS \u00b5m": 11, "Histology CD 1/mm^2": 1100, "Histology F": 0.11}, rel=1e-6
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("show-asked-cancelled", "no results were given"),
        ("show-headless-none", "no results were given"),
        ("show-missing", "there is no file"),
        ("show-other-image", "none of its 1 tiles lies in this one (5000 x 4000 px)"),
        ("show-background", "all its tiles are background"),
        ("show-broken", "cannot be read; is it GeoJSON, and whole?"),
    ],
)
def test_show_refuses_and_changes_nothing(outcomes: dict[str, Outcome], name: str, message: str) -> None:
    assert message in outcomes[name]["error"]
    assert all(thing["name"] == "histomri: A01 HE" and thing["class"] is None for thing in outcomes[name]["objects"])
    assert not calls(outcomes[name], "hierarchy updated")


def test_show_warns_of_tiles_outside(outcomes: dict[str, Outcome]) -> None:
    assert "WARNING: only 1 of 3 tiles lie in this image" in outcomes["show-mostly-outside"]["printed"]


# ---------------------------------------------------------------- what the scripts share


def functions(script: Path) -> dict[str, str]:
    text = script.read_text(encoding="utf-8")
    return {found[1]: found[0] for found in re.finditer(r"^[\w<>]+ (\w+)\(.*?\) \{\n.*?^\}\n", text, re.M | re.S)}


def test_the_detect_scripts_share_one_part() -> None:
    # Each script must run by itself in QuPath's editor; common/insert.py copies the part into each.
    shared = (SCRIPTS / "common" / "detection.groovy").read_text(encoding="utf-8")
    scripts = sorted(SCRIPTS.glob("detect_cells_*.groovy"))
    assert len(scripts) == 4
    for script in scripts:
        before, _, after = script.read_text(encoding="utf-8").partition("SHARED: the same in all detect scripts")
        assert after.split("\n", 1)[1] == "\n" + shared, f"run python {SCRIPTS / 'common' / 'insert.py'}"
        assert not re.search(r"^\w+ (stop|report|chooseRegions)\(", before, re.M)


def test_functions_of_one_name_are_one_function() -> None:
    texts: dict[str, str] = {}
    for script in SCRIPTS.glob("*.groovy"):
        for name, text in functions(script).items():
            own = name in ("detectCells", "requireCalibratedImage")  # the export takes any image, not only RGB
            assert own or texts.setdefault(name, text) == text, name


# ---------------------------------------------------------------- extensions, old versions, microarrays


@pytest.mark.parametrize("name", ["stardist", "instanseg"])
def test_detectors_of_extensions(outcomes: dict[str, Outcome], name: str) -> None:
    found = outcomes[f"{name}-he"]
    assert found["error"] is None
    (call,) = calls(found, name)
    assert call["regions"] == ["left", "right"]
    assert call["asked"]["model"] == "he_heavy_augment.pb"
    assert found["image_type"] == "BRIGHTFIELD_H_E"
    assert "8 cells" in found["printed"]
    dab = outcomes[f"{name}-dab"]
    assert dab["error"] is None and dab["image_type"] == "BRIGHTFIELD_H_DAB"
    (classified,) = calls(dab, "classified")
    assert classified["threshold"] == 0.2
    assert classified["measurement"] == {"stardist": "DAB: Nucleus: Mean", "instanseg": "Nucleus: DAB: Mean"}[name]
    assert "Ki-67 labelling index 25.0 % (1 of 4 cells)" in dab["printed"]
    for case, message in (
        ("no-model", "set modelPath at the top of the script"),
        ("lost-model", "model at /nowhere/model.pb: set modelPath"),
        ("not-installed", "is not installed: see Extensions > Manage extensions"),
    ):
        assert message in outcomes[f"{name}-{case}"]["error"]
        assert not calls(outcomes[f"{name}-{case}"], name)


def test_stardist_asks_for_what_its_settings_say(outcomes: dict[str, Outcome]) -> None:
    expected = {
        "model": "he_heavy_augment.pb", "percentiles": [1, 99], "threshold": 0.5, "pixelSize": 0.5, "cellExpansion": 5,
        "cellConstrainScale": 1.5, "shape": True, "intensity": True, "probability": True,
    }  # fmt: skip
    assert calls(outcomes["stardist-he"], "stardist")[0]["asked"] == expected
    assert len(calls(outcomes["stardist-he"], "stardist closed")) == 1
    dab = calls(outcomes["stardist-dab"], "stardist")[0]["asked"]
    assert dab["preprocess"] == ["deconvolve", "extract", "sum"]
    assert calls(outcomes["instanseg-he"], "instanseg")[0]["asked"] == {
        "model": "he_heavy_augment.pb", "device": "cpu", "tileDims": 512, "padding": 32, "threads": 4,
        "measurements": True, "colors": False,
    }  # fmt: skip
    assert "set makeMeasurements to true" in outcomes["instanseg-no-measurements"]["error"]


@pytest.mark.parametrize("name", ["stardist", "instanseg"])
def test_microarrays_are_detected_core_by_core(outcomes: dict[str, Outcome], name: str) -> None:
    found = outcomes[f"{name}-tma"]
    assert found["error"] is None
    assert calls(found, name)[0]["regions"] == ["A-1", "A-2"]  # A-3 is missing
    assert "using 2 TMA core(s); 1 are missing" in found["printed"]
    assert calls(outcomes["he-tma"], "plugin")[0]["regions"] == ["A-1", "A-2"]


def test_older_versions_of_qupath_are_refused_plainly(outcomes: dict[str, Outcome]) -> None:
    for script in sorted(SCRIPTS.glob("*.groovy")):
        found = outcomes[f"old-{script.name}"]
        assert "this script needs QuPath 0.5.0 or newer: this is 0.4.4" in found["error"], script.name
        assert not [call for call in found["calls"] if call["what"] != "image type"]
        # Classes that came with 0.5 must not be imported, or the script would not even start there.
        assert "import qupath.fx" not in script.read_text(encoding="utf-8")


# ---------------------------------------------------------------- the test itself


def test_mistakes_are_noticed(outcomes: dict[str, Outcome]) -> None:
    assert "MultipleCompilationErrors" in outcomes["bad-syntax"]["error"]
    assert "MissingMethodException" in outcomes["bad-call"]["error"]


def test_every_script_is_run() -> None:
    scenarios = (HERE / "scenarios.groovy").read_text(encoding="utf-8")
    assert all(f"'{script.name}'" in scenarios for script in SCRIPTS.glob("*.groovy"))


def test_every_function_is_run(outcomes: dict[str, Outcome]) -> None:
    ran = set(outcomes["functions"]["ran"])
    declared = {f"{script.name}:{name}" for script in SCRIPTS.glob("*.groovy") for name in functions(script)}
    # The part that all detect scripts share need not run in each.
    shared = set(functions(SCRIPTS / "common" / "detection.groovy"))
    missing = {each for each in declared - ran if each.split(":")[1] not in shared}
    assert not missing
    assert shared <= {each.split(":")[1] for each in ran if each.startswith("detect")}
