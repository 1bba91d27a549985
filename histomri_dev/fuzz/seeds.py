"""Valid files of every kind, small, made anew for each run."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import shapely
import tifffile
from PIL import Image as Picture
from scipy.io import savemat

from histomri.core.images import map_name, write_map
from histomri.mri import Acquisition
from histomri.registration import Displacement, Transform

Files = dict[str, bytes]
GRID = np.array([[0, -0.1, 0, -0.05], [-0.1, 0, 0, -0.05], [0, 0, 1, 0], [0, 0, 0, 1.0]])
AFFINE = np.diag([0.5, 0.5, 1.0, 1.0])
B, DELTA, SEPARATION = (0, 500, 1000, 1500, 2000), (10,) * 5, (20,) * 5
_NAMES = ("Image", "Object ID", "Name", "Class", "Centroid X µm", "Centroid Y µm", "Cell: Area", "Nucleus: Area")


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def cell_table(separator: str = "\t", point: str = ".") -> bytes:
    """Return a table of cells as QuPath exports it."""
    rows = [separator.join(_NAMES)]
    for k, (x, y, size) in enumerate(_rng().uniform((10, 10, 60), (900, 900, 250), (40, 3)).round(2)):
        numbers = (f"{value:g}".replace(".", point) for value in (x, y, size, size / 3))
        rows.append(separator.join(["a.svs", f"id{k}", "", "Tumor" if k % 2 else "", *numbers]))
    return "\n".join(rows).encode() + b"\n"


def square(x: float, y: float, side: float) -> list[list[float]]:
    """Return the ring of a square."""
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def cells_geojson() -> bytes:
    """Cells with nuclei and measurements, as QuPath exports them."""
    features = []
    for k, (x, y) in enumerate(_rng().uniform(10, 900, (12, 2)).round(2).tolist()):
        features.append({
            "type": "Feature", "id": f"{k:08d}-0000-0000-0000-000000000000",
            "geometry": {"type": "Polygon", "coordinates": [square(x, y, 20.0)]},
            "nucleusGeometry": {"type": "Polygon", "coordinates": [square(x + 5, y + 5, 10.0)]},
            "properties": {
                "objectType": "cell", "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "measurements": {"Cell: Area": 400.0, "Nucleus: Area": 100.0},
            },
        })  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def regions_geojson() -> bytes:
    """Annotations, one with a hole and one in two parts."""
    shapes = (
        {"type": "Polygon", "coordinates": [square(0, 0, 900), square(100, 100, 50)]},
        {"type": "MultiPolygon", "coordinates": [[square(1000, 0, 50)], [square(1100, 0, 50)]]},
        {"type": "Polygon", "coordinates": [square(0, 1000, 80)]},
    )
    features = [
        {"type": "Feature", "id": str(k), "geometry": shape,
         "properties": {"objectType": "annotation", "name": f"R{k}", "classification": {"names": ["Tumor", "a"]}}}
        for k, shape in enumerate(shapes)
    ]  # fmt: skip
    return json.dumps(features).encode()


def shapes_parquet() -> bytes:
    """Outlines in GeoParquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    boxes = [shapely.box(x, x, x + 12, x + 9) for x in (10.0, 60.0, 140.0, 200.0)]
    about = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    table = pa.table({"geometry": pa.array(shapely.to_wkb(boxes), pa.binary()), "cell_id": list("abcd")})
    packed = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(about).encode()}), packed)
    return packed.getvalue()


def labels() -> np.ndarray:
    """Return a mask of sixteen numbered cells."""
    mask = np.zeros((64, 80), np.uint16)
    for k in range(16):
        y, x = 4 + 15 * (k // 4), 4 + 18 * (k % 4)
        mask[y : y + 8, x : x + 9] = k + 1
    return mask


def label_tiff() -> bytes:
    """Return the mask as TIFF with ImageJ's calibration."""
    packed = io.BytesIO()
    tifffile.imwrite(packed, labels(), imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    return packed.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """Return a picture as PNG."""
    packed = io.BytesIO()
    Picture.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


def jpeg() -> bytes:
    """Return a picture as JPEG."""
    packed = io.BytesIO()
    Picture.fromarray(picture()).save(packed, "JPEG", quality=90)
    return packed.getvalue()


def npy(array: np.ndarray) -> bytes:
    """Return an array as NumPy writes it."""
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def picture() -> np.ndarray:
    """Return a stained section, (96, 128, 3)."""
    rgb = np.full((96, 128, 3), 240, np.uint8)
    rgb[20:70, 30:90] = (150, 90, 160)
    rgb[::7, ::5] = (90, 40, 110)
    return rgb


def tiff(**options: object) -> bytes:
    """Return a slide as tiled TIFF."""
    packed = io.BytesIO()
    options = {"photometric": "rgb", "tile": (32, 48), "resolution": (20000, 20000), "resolutionunit": 3} | options
    tifffile.imwrite(packed, picture(), **options)
    return packed.getvalue()


def ome_tiff() -> bytes:
    """Return a slide with OME's calibration and a smaller level."""
    packed = io.BytesIO()
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YXS"}
    with tifffile.TiffWriter(packed, ome=True) as writer:
        options = {"photometric": "rgb", "tile": (32, 32), "compression": "zlib"}
        writer.write(picture(), subifds=1, metadata=size, **options)
        writer.write(picture()[::2, ::2], subfiletype=1, **options)
    return packed.getvalue()


def svs() -> bytes:
    """Return a slide with the description by which Aperio's are known."""
    text = "Aperio Image Library v11.2.1\r\n128x96 [0,0 128x96] (32x32) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"
    return tiff(description=text, compression="jpeg", tile=(32, 32), metadata=None)


def ndpi() -> bytes:
    """Return a slide with the tags by which Hamamatsu's are known: one strip of JPEG."""
    tags = [(65420, "I", 1, 1, True), (65421, "f", 1, 20.0, True), (65422, "i", 1, 0, True), (65423, "i", 1, 0, True)]
    tags += [(65424, "i", 1, 0, True)]
    packed, page = io.BytesIO(), {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(packed) as writer:
        writer.write(picture(), extratags=tags, rowsperstrip=96, resolution=(20000, 20000), resolutionunit=3, **page)
        small = [(65420, "I", 1, 1, True), (65421, "f", 1, -1.0, True), (65424, "i", 1, 0, True)]
        writer.write(picture()[::2, ::2], extratags=small, rowsperstrip=48, **page)
    return packed.getvalue()


def nifti(data: np.ndarray, packed: bool = False) -> bytes:
    """Return an image in mm."""
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0) if packed else image.to_bytes()


def dwi() -> np.ndarray:
    """Signals of 4 x 3 x 2 voxels and five volumes."""
    decay = np.exp(-np.array(B) * 0.8e-3) * 1000
    return (decay + _rng().normal(0, 5, (4, 3, 2, 5))).astype(np.float32)


def own_files(write: object, *names: str) -> Files:
    """Return what a writer of histomri puts into a folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))  # type: ignore[operator]
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*.*"))}
    return {name: content for name, content in found.items() if not names or name in names}


def saved_cells(folder: Path) -> None:
    """Write a table of cells of histomri."""
    from histomri.cells import read_cells

    (folder / "a.tsv").write_bytes(cell_table())
    read_cells(folder / "a.tsv").save(folder / "cells.parquet")
    (folder / "a.tsv").unlink()


def saved_maps(folder: Path) -> None:
    """Write the maps of a section."""
    parameters = {"Window_um": [100.0, 100.0]}
    for name in ("vCS", "F", "CD"):
        write_map(
            folder / map_name(name, "histomap", sub="a"), _rng().uniform(5, 20, (6, 8)), GRID, parameters=parameters
        )


def saved_transform(folder: Path) -> None:
    """Write a transform that deforms."""
    vectors = _rng().normal(0, 0.1, (4, 5, 3, 3))
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    Transform(matrix, (Displacement(vectors, AFFINE),)).save(folder / "x")


def affine_json(folder: Path) -> None:
    """Write an affine transform."""
    Transform(np.array([[1, 0.1, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1.0]])).save(folder / "x")


def saved_fit(folder: Path) -> None:
    """Write the result of a fit."""
    from histomri.fitting import fit

    signals = dwi().reshape(-1, 5)[:3]
    fit(signals / signals[:, :1], Acquisition(B, DELTA, SEPARATION), "diff-in", sigma=0.02, bmin_smm2=0).save(
        folder / "fit.npz"
    )


def matlab(folder: Path) -> None:
    """Write an affine as ITK writes it to MATLAB's format."""
    numbers = [1, 0.1, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3.0]
    savemat(
        folder / "x.mat", {"AffineTransform_double_3_3": np.array([numbers]).T, "fixed": np.zeros((3, 1))}, format="4"
    )


def composite(folder: Path) -> None:
    """Write an affine and a field as ITK writes them to HDF5."""
    with h5py.File(folder / "x.h5", "w") as file:
        group = file.create_group("TransformGroup")
        text = h5py.string_dtype()
        group.create_dataset("0/TransformType", data=["CompositeTransform_double_3_3"], dtype=text)
        group.create_dataset("1/TransformType", data=["AffineTransform_double_3_3"], dtype=text)
        group.create_dataset("1/TransformParameters", data=[1, 0.1, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3.0])
        group.create_dataset("1/TransformFixedParameters", data=[0.0, 0, 0])
        group.create_dataset("2/TransformType", data=["DisplacementFieldTransform_double_3_3"], dtype=text)
        fixed = [4, 3, 2, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1.0]
        group.create_dataset("2/TransformFixedParameters", data=fixed)
        group.create_dataset("2/TransformParameters", data=_rng().normal(0, 0.1, 72))


def pairs() -> pd.DataFrame:
    """Return a row per sample and model."""
    rng, rows = _rng(), []
    for k in range(8):
        for model in ("diff-in", "diff-in-ex"):
            size = float(10 + k + rng.normal(0, 0.3))
            rows.append(
                (f"s{k}", "a" if k % 2 else "b", model, "whole", size, 0.4 + k / 50, 10.0 + k, 0.4 + k / 40, 0.5)
            )
    names = ("sample", "group", "model", "strategy", "vCS_mri_um", "F_mri", "vCS_histo_um", "F_histo", "BIC_vote")
    return pd.DataFrame(rows, columns=list(names))


def workbook() -> bytes:
    """Return the pairs as a workbook."""
    packed = io.BytesIO()
    pairs().to_excel(packed, index=False)
    return packed.getvalue()


def parquet(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet."""
    packed = io.BytesIO()
    table.to_parquet(packed, index=False)
    return packed.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    """Return an archive of one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def project() -> Files:
    """Return a project of QuPath with the summary of its image."""
    sides = {"pixelWidth": {"value": 0.25, "unit": "µm"}, "pixelHeight": {"value": 0.25, "unit": "µm"}}
    about = {"name": "a.svs", "width": 4000, "height": 4000, "pixelCalibration": sides}
    entry = {"serverBuilder": {"builderType": "uri", "metadata": about}, "entryID": 1, "imageName": "a.svs"}
    summary = {"server": {"width": 4000, "height": 4000}, "hierarchy": {"objectTypeCounts": {"Cells": 40}}}
    return {
        "project.qpproj": json.dumps({"version": "0.6.0", "images": [entry]}).encode(),
        "data/1/summary.json": json.dumps(summary).encode(),
    }


def dictionary() -> pd.DataFrame:
    """Parameters and signals of forty examples."""
    size = np.linspace(0.1, 2, 40)
    return pd.DataFrame({"a": size, **{f"s{k}": np.exp(-size * k / 2) for k in range(5)}})


def study() -> Files:
    """Return a study file with the files that it names."""
    text = '[study]\nname = "x"\npreset = "mouse-exvivo"\n\n[fit]\nmodels = ["diff-in"]\n\n[[samples]]\nid = "a"\n'
    text += 'group = "g"\ncells = "c.tsv"\ndwi = "d.nii"\nprotocol = "p.txt"\nmri_slice = 1\n'
    rows = "\n".join(" ".join(map(str, row)) for row in (B, DELTA, SEPARATION))
    return {"study.toml": text.encode(), "c.tsv": cell_table(), "d.nii": nifti(dwi()), "p.txt": rows.encode()}


def results(folder: Path) -> None:
    """Write a folder of results of one sample, small."""
    from histomri.core.files import write_json
    from histomri.pairing import PairedTable

    sample = folder / "sub-a"
    saved_maps(sample / "histo")
    for name in ("vCS", "F", "BIC"):
        values = _rng().uniform(5, 20, (8, 6, 2))
        path = sample / "mri" / "whole" / map_name(name, "dwimap", sub="a", model="diff-in")
        write_map(path, values, AFFINE, Model="diff-in", Strategy="whole")
    PairedTable(pairs(), "sample").save(folder / "pairs.csv")
    record = {"study": {"name": "x", "preset": "mouse-exvivo"}, "samples": [{"id": "a", "status": "done", "steps": {}}]}
    write_json(folder / "study.json", record)
    write_json(folder / "scores.json", {"models": []})
