"""Real exports: those that can be read are, the others are refused with the reason."""

import numpy as np
import pandas as pd
import pytest

from histomri.cells import read_cells
from histomri.core.errors import InputError


def test_brainways(real_data):
    path = real_data / "qupath" / "brainways_qupath_sample_file.txt"
    table = read_cells(path)
    truth = pd.read_csv(path, sep="\t")
    assert (table.metadata.n_read, table.metadata.n_kept, table.metadata.compartment) == (44, 44, "cell")
    np.testing.assert_array_equal(table.data["area_um2"], truth["Cell: Area"])
    np.testing.assert_array_equal(table.data["x_um"], truth["Centroid X µm"])
    np.testing.assert_array_equal(table.data["y_um"], truth["Centroid Y µm"])
    assert table.data["classification"].value_counts().to_dict() == {"Negative": 37, "Positive": 7}
    assert table.metadata.area_unit_from == "um2, by the unit of column 'Centroid X µm'"


def test_stardist_nuclei(real_data):
    path = real_data / "qupath" / "sscx_539_02_detections.txt"
    table = read_cells(path)
    truth = pd.read_csv(path, sep="\t")
    assert len(table) == len(truth) == 8293
    np.testing.assert_allclose(table.data["area_um2"], truth["Area µm^2"], rtol=1e-15)
    np.testing.assert_allclose(table.data["perimeter_um"], truth["Length µm"], rtol=1e-6)  # single precision
    np.testing.assert_allclose(table.data["detection_probability"], truth["Detection probability"], rtol=1e-6)
    assert table.metadata.compartment == "nucleus"
    assert any("only nuclei" in text for text in table.metadata.warnings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qupath/cuisto_cells_detections.tsv", "has no column 'Centroid X µm' or 'Centroid Y µm'"),
        ("qupath/cuisto_mouse1_030_annotations_TABSEP.csv", "holds no cells: its 217 objects are of type annotation"),
        ("qupath/brca_HE_annotation_area.csv", "has no column 'Centroid X µm'"),
        ("qupath/ki67_KI67_3_in_50_run4_head5000.csv", "has no column 'Centroid X µm'.*'DAB: Mean'"),
        ("qupath/project_andrew_v0.5.1/project.qpproj", "is a QuPath project, and reading cells"),
        ("slides/CMU-1-Small-Region.svs", "is a TIFF picture"),
        ("slides/hamamatsu_dapi.ndpi", "is a TIFF picture"),
        ("dmri/derived_genu.nii.gz", "is a NIfTI image"),
        ("dmri/derived_isbi.bval", "is not a table|has no column"),
    ],
)
def test_what_must_be_refused(real_data, name, message):
    with pytest.raises(InputError, match=f"{name}: .*{message}"):
        read_cells(real_data / name)
