"""Point files of other programs, written by hand after their definitions."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.errors import InputError, UnitError
from histomri.registration import read_landmarks, read_points, unpaired_landmarks


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def markups(system, positions, **extra):
    points = [{"label": f"F-{n + 1}", "position": place, **extra} for n, place in enumerate(positions)]
    return {"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": points}]}


@pytest.mark.parametrize(("system", "sign"), [("LPS", -1), ("RAS", 1)])
def test_slicer_markups(tmp_path, system, sign):
    found = read_points(write(tmp_path / "a.mrk.json", markups(system, [[1, 2, 3], [4, 5, 6]])))
    np.testing.assert_array_equal(found.xyz_mm, [[sign * 1, sign * 2, 3], [sign * 4, sign * 5, 6]])
    assert found.names == ("F-1", "F-2")


@pytest.mark.parametrize(("system", "sign"), [("LPS", -1), ("1", -1), ("RAS", 1), ("0", 1)])
def test_slicer_fcsv(tmp_path, system, sign):
    text = (
        f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        "1,1.5,-2,3,0,0,0,1,1,1,0,F-1,,\n2,4,5,6,0,0,0,1,1,1,0,F-2,,\n"
    )
    found = read_points(write(tmp_path / "a.fcsv", text))
    np.testing.assert_array_equal(found.xyz_mm, [[sign * 1.5, sign * -2, 3], [sign * 4, sign * 5, 6]])
    assert found.names == ("F-1", "F-2")


def test_fcsv_of_slicer_5_and_quoted_names(tmp_path):
    # Version 5 appends the status of the point (2: it has a place) and whether a program made it, without columns.
    text = (
        "# Markups fiducial file version = 5.6\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        '1,1,2,3,0,0,0,1,1,1,0,"notch, ""left""",,vtkMRMLScalarVolumeNode1,2,0\n'
        "2,0,0,0,0,0,0,1,1,1,0,unset,,,0,0\n3,0,0,0,0,0,0,1,1,1,0,skipped,,,3,0\n4,4,5,6,0,0,0,1,1,1,0,F-4,,,2,0\n"
    )
    found = read_points(write(tmp_path / "a.fcsv", text))
    np.testing.assert_array_equal(found.xyz_mm, [[-1, -2, 3], [-4, -5, 6]])
    assert found.names == ('notch, "left"', "F-4")


def test_undefined_points_of_slicer_are_left_out(tmp_path):
    content = markups("RAS", [[1, 2, 3], [4, 5, 6]])
    content["markups"][0]["controlPoints"][0]["positionStatus"] = "undefined"
    assert read_points(write(tmp_path / "a.json", content)).names == ("F-2",)


def test_qupath_points(tmp_path):
    def feature(kind, coordinates, **properties):
        return {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"objectType": "annotation", **properties},
        }

    content = {
        "type": "FeatureCollection",
        "features": [
            feature("Point", [1000, 400], name="notch"),
            feature("MultiPoint", [[10, 20], [30, 40]], classification={"name": "vessel"}),
            feature("Polygon", [[[0, 0], [1, 0], [1, 1], [0, 0]]]),
        ],
    }
    path = write(tmp_path / "p.geojson", content)
    found = read_points(path, mpp=(0.5, 0.25))
    # World x and y of a slide run against its pixels.
    np.testing.assert_allclose(found.xyz_mm, [[-0.5, -0.1, 0], [-0.005, -0.005, 0], [-0.015, -0.01, 0]])
    assert found.names == ("notch", "vessel 1", "vessel 2")
    with pytest.raises(UnitError, match="mpp"):
        read_points(path)
    np.testing.assert_allclose(read_points(write(tmp_path / "l.geojson", content["features"]), mpp=1).xyz_mm[0, 0], -1)


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"name": "a", "classification": {"name": "b"}}, "a"),
        ({"classification": {"name": "b", "colorRGB": -1}}, "b"),
        ({"classification": {"names": ["b", "c"], "color": [1, 2, 3]}}, "b: c"),  # a derived class since QuPath 0.5
        ({"classification": "b"}, "b"),
        ({"classification": None}, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_names_of_qupath_points(tmp_path, properties, name):
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": properties}
    assert read_points(write(tmp_path / "a.geojson", [feature]), mpp=1).names == (name,)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 3), min_size=1, max_size=6))
def test_slicer_keeps_every_number(tmp_path_factory, places):
    path = write(tmp_path_factory.mktemp("m") / "a.mrk.json", markups("LPS", places))
    np.testing.assert_array_equal(read_points(path).xyz_mm * (-1, -1, 1), places)


def test_pairs_by_name_and_by_order(tmp_path):
    moving = write(tmp_path / "m.csv", "name,x_mm,y_mm\nb,1,2\na,3,4\nextra,5,6\n")
    fixed = write(tmp_path / "f.mrk.json", markups("RAS", [[7, 8, 9], [10, 11, 12]]))
    named = json.loads(fixed.read_text())
    for point, label in zip(named["markups"][0]["controlPoints"], "ab", strict=True):
        point["label"] = label
    pairs = read_landmarks(moving, write(tmp_path / "g.mrk.json", named))
    np.testing.assert_array_equal(pairs, [[[1, 2, 0], [10, 11, 12]], [[3, 4, 0], [7, 8, 9]]])
    both = (moving, tmp_path / "g.mrk.json")
    assert unpaired_landmarks(*both) == (("extra",), ())
    assert unpaired_landmarks(*reversed(both)) == ((), ("extra",))
    assert unpaired_landmarks(moving, fixed) == ((), ())  # no name in common: by order, if the numbers agree
    with pytest.raises(InputError, match=r"3 points and f\.mrk\.json has 2"):
        read_landmarks(moving, fixed)
    pairs = read_landmarks(write(tmp_path / "n.csv", "X,Y\n10,20\n30,40\n"), fixed, mpp=100)
    np.testing.assert_allclose(pairs[:, 0], [[-1, -2, 0], [-3, -4, 0]])
    np.testing.assert_array_equal(pairs[:, 1], [[7, 8, 9], [10, 11, 12]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mrk.json", markups("IJK", [[1, 2, 3]]), "system IJK"),
        ("a.mrk.json", markups("RAS", [[1, 2]]), "three numbers"),
        ("a.mrk.json", markups("RAS", []), "no points"),
        ("a.mrk.json", {"markups": [{"coordinateUnits": "um"}]}, "in um"),
        ("a.mrk.json", {"markups": [3]}, "no markups file"),
        ("a.mrk.json", {"markups": [{"coordinateUnits": []}]}, "no markups file"),
        ("a.mrk.json", {"markups": 3}, "no markups file"),
        ("a.fcsv", "1,2,3\n", "lacks the header"),
        ("a.fcsv", "# CoordinateSystem = LPS\n# columns = id,x,y,z\n1,2,3\n", "without three coordinates"),
        ("a.geojson", {"type": "FeatureCollection", "features": []}, "no points"),
        ("a.geojson", {"type": "Point", "coordinates": ["a", 2]}, "two numbers"),
        ("a.csv", "a,b\n1,2\n", "x_mm"),
        ("a.csv", "x_mm,y_mm\n1,\n", "empty or infinite"),
        ("a.txt", "1 2\n", "no file of points"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_points(path, mpp=1.0)
    assert str(path) in str(caught.value)


def test_a_point_without_a_name_means_order(tmp_path):
    moving = write(tmp_path / "m.csv", "name,x_mm,y_mm\n1,1,2\n,3,4\n2,5,6\n")
    fixed = write(tmp_path / "f.csv", "name,x_mm,y_mm\n2,7,8\n1,9,10\n3,11,12\n")
    assert read_points(moving).names == ("1", "", "2")
    np.testing.assert_array_equal(read_landmarks(moving, fixed)[:, 1, 0], [7, 9, 11])


def test_a_z_that_is_not_given_is_not_known(tmp_path):
    # In the section it is the plane of the slide; in the MRI it is not the slice nearest to z = 0.
    one = read_landmarks(write(tmp_path / "a.csv", "moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm\n1,2,3,4\n"))
    np.testing.assert_array_equal(one, [[[1, 2, 0], [3, 4, np.nan]]])
    moving, fixed = (write(tmp_path / f"{n}.csv", f"x_mm,y_mm\n{n},2\n") for n in (1, 3))
    np.testing.assert_array_equal(read_landmarks(moving, fixed), [[[1, 2, 0], [3, 2, np.nan]]])
    slide = write(tmp_path / "s.csv", "x_um,y_um\n1000,2000\n")
    np.testing.assert_array_equal(read_landmarks(moving, slide), [[[1, 2, 0], [-1, -2, 0]]])


def test_one_file_of_points_is_not_enough(tmp_path):
    with pytest.raises(InputError, match="one image"):
        read_landmarks(write(tmp_path / "a.mrk.json", markups("RAS", [[1, 2, 3]])))


def test_tables_of_excel_and_comments(tmp_path):
    header = "# clicked twice\nname;moving_x_mm;moving_y_mm;fixed_x_mm;fixed_y_mm\n"
    pairs = read_landmarks(write(tmp_path / "l.csv", f"{header}a;1,5;2,5;0,5;3\n# again\nb;3;4;5;6\n"))
    np.testing.assert_array_equal(pairs[:, :, 0], [[1.5, 0.5], [3, 5]])
