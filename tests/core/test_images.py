"""Maps go to disk and come back in the same place, with everything that says what they are."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.images import Image, map_name, parse_map_name, write_map

AFFINE = np.array([[0, -0.386, 0, 5.0], [-0.2, 0, 0, -7.0], [0, 0, 2.216, 3.0], [0, 0, 0, 1.0]])

label = st.text("abcXYZ019", min_size=1, max_size=6)


@given(
    param=label, sub=st.none() | label, model=st.sampled_from([None, "diff-in-ex"]), stat=st.sampled_from([None, "se"])
)
def test_names_are_parsed_back(param, sub, model, stat):
    entities = parse_map_name(map_name(param, "dwimap", sub=sub, model=model, stat=stat))
    expected = {"sub": sub, "model": model and "diffinex", "param": param, "stat": stat, "suffix": "dwimap"}
    assert entities == {key: value for key, value in expected.items() if value}


@pytest.mark.parametrize("name", ["vCS.nii.gz", "param-vCS.nii.gz", "param-vCS_bold.nii.gz", "sub-1_dwimap.nii.gz", ""])
def test_other_names_are_no_maps(name):
    assert parse_map_name(name) == {}


def test_a_map_keeps_values_place_and_index_order(tmp_path, rng):
    data = rng.normal(size=(7, 9))
    data[2, 3] = np.nan
    path = tmp_path / map_name("vCS", "histomap", sub="1")
    image_path, sidecar = write_map(path, data, AFFINE, sources=["a/b/cells.tsv"], parameters={"min_cells": 3})
    stored = nib.load(image_path)
    assert stored.shape == (7, 9, 1)
    assert stored.get_data_dtype() == np.float32
    assert int(stored.header["sform_code"]) > 0 and int(stored.header["qform_code"]) > 0
    np.testing.assert_allclose(stored.get_sform(), AFFINE, atol=1e-6)  # float32 header
    np.testing.assert_allclose(stored.get_qform(), AFFINE, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(stored.dataobj)[..., 0], data.astype(np.float32))
    content = json.loads(sidecar.read_text())
    assert content["Units"] == "um" and content["Sources"] == ["cells.tsv"]
    assert content["Parameters"] == {"min_cells": 3} and content["GeneratedBy"][0]["Name"] == "histomri"
    image = Image.load(image_path)
    np.testing.assert_array_equal(image.data, data.astype(np.float32))
    np.testing.assert_allclose(image.voxel_mm, [0.2, 0.386, 2.216], atol=1e-6)


def test_a_slice_lies_where_it_lay_in_the_volume(rng):
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [0.3, 0.4, 2.0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, [1, 2, 3]
    volume = Image(rng.normal(size=(4, 5, 6)), affine)
    part = volume.slice(4)
    np.testing.assert_array_equal(part.data, volume.data[:, :, 4])
    np.testing.assert_allclose(part.affine @ [2, 3, 0, 1], affine @ [2, 3, 4, 1], atol=1e-12)
    with pytest.raises(GeometryError, match="from 0 to 5"):
        volume.slice(6)


def test_a_map_without_a_known_name_needs_its_unit(tmp_path):
    with pytest.raises(ValueError, match="pass Units="):
        write_map(tmp_path / "what.nii.gz", np.zeros((2, 3)), np.eye(4))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x1f\x8b\x08\x00broken"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.nii\.gz"):
        Image.load(path)


def test_an_image_cut_short_is_an_error(tmp_path, rng):
    path = write_map(tmp_path / map_name("F", "dwimap"), rng.normal(size=(30, 31, 4)), np.eye(4))[0]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cut short"):
        Image.load(path)


@pytest.mark.parametrize(("unit", "said"), [("micron", "µm"), ("meter", "m"), ("mm", None), ("unknown", None)])
def test_lengths_other_than_mm_are_refused(tmp_path, unit, said):
    image = nib.Nifti1Image(np.ones((3, 4), np.float32), np.eye(4))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "map.nii.gz")
    if said is None:
        assert Image.load(tmp_path / "map.nii.gz").data.shape == (3, 4)
        return
    with pytest.raises(UnitError, match=f"lengths are in {said},"):
        Image.load(tmp_path / "map.nii.gz")


def test_a_singular_affine_is_refused():
    with pytest.raises(GeometryError, match="cannot be inverted"):
        Image(np.zeros((2, 3)), np.diag([1.0, 0, 1, 1]))
