"""The kinds of files that histomri reads: for each a valid seed, what reads it, and what may be changed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import eye

from histomri_dev.fuzz import seeds
from histomri_dev.fuzz.mutations import BYTES, JSON, TEXT, Mutation, within_gzip, within_zip

_BINARY = (".nii", ".npy", ".parquet", ".tif", ".tiff", ".png", ".jpg", ".mat", ".h5", ".svs", ".ndpi")
_JSON = (".json", ".geojson", ".qpproj")


@dataclass(frozen=True)
class Kind:
    """A kind of file: `make` gives the files of a valid seed by name, the first of which `read` is called with."""

    name: str
    make: Callable[[], dict[str, bytes]]
    read: Callable[[Path], Any]
    checksum: bool = False  # whether a flipped bit must be noticed
    kept: tuple[str, ...] = field(default=())  # files beside it that are not changed


def mutations_of(name: str) -> tuple[tuple[Mutation, bool], ...]:
    """Return the changes that are made to a file of this name, and whether the checksum is right after each."""
    stem, _, ending = name.rpartition(".")
    if ending == "gz":
        return (*((each, False) for each in BYTES), *((within_gzip(each), True) for each, _ in mutations_of(stem)))
    if ending in ("zip", "xlsx", "npz"):
        inner = {"zip": TEXT, "xlsx": (*TEXT, *TEXT), "npz": BYTES}[ending]
        return (*((each, False) for each in BYTES), *((within_zip(each), True) for each in inner))
    changes = JSON if f".{ending}" in _JSON else BYTES if f".{ending}" in _BINARY else TEXT
    return tuple((each, False) for each in changes)


def _cells(path: Path) -> Any:
    from histomri.cells import read_cells

    found = (
        read_cells(path, mpp=0.5)
        if path.suffix in (".npy", ".png", ".parquet", ".geojson") or ".geojson" in path.name
        else read_cells(path)
    )
    return found.data


def _own_cells(path: Path) -> Any:
    from histomri.cells import CellTable

    return CellTable.load(path, geometries=True).data


def _regions(path: Path) -> Any:
    from histomri.cells.regions import read_region_objects

    return [region.geometry.wkb for region in read_region_objects(path, (0.5, 0.5))]


def _project(path: Path) -> Any:
    from histomri.cells.sidecar import find_image

    return repr(find_image(path, ["a.svs"]))


def _slide(path: Path) -> Any:
    from histomri.slides import open_slide

    with open_slide(path, mpp=0.5 if path.suffix in (".png", ".jpg") else None) as slide:
        return slide.thumbnail(2.0)


def _image(path: Path) -> Any:
    from histomri.core.images import Image

    return Image.load(path).data


def _dwi(path: Path) -> Any:
    from histomri.mri.images import open_dwi

    images = open_dwi(path)
    return images.read(np.ones(images.shape[:3], bool))


def _maps(path: Path) -> Any:
    from histomri.patches import PatchMaps

    return list(PatchMaps.load(path.parent).maps.values())


def _protocol(path: Path) -> Any:
    from histomri.mri import read_acquisition

    found = read_acquisition(path, timing=False)
    return [found.b_smm2, found.delta_ms, found.Delta_ms]


def _transform(path: Path) -> Any:
    from histomri.core.images import Image
    from histomri.registration import Transform

    image = Image(np.zeros((4, 5, 3), np.float32), seeds.AFFINE)
    found = Transform.load(path, moving=image, fixed=image)
    return found.points(np.array([[0.0, 0, 0], [1, 1, 1]]))


def _landmarks(path: Path) -> Any:
    from histomri.registration.landmark_files import read_landmarks

    return read_landmarks(path)


def _points(path: Path) -> Any:
    from histomri.registration.landmark_files import read_points

    return read_points(path, mpp=0.5).xyz_mm


def _study(path: Path) -> Any:
    from histomri.study import Study

    return repr(Study.load(path).samples)


def _dictionary(path: Path) -> Any:
    from histomri.fitting.dictionary import Dictionary

    parameters = path.with_name("parameters.npy")
    found = Dictionary.load(path, parameters if parameters.exists() else None)
    return [found.parameters, found.signals]


def _fit(path: Path) -> Any:
    from histomri.fitting import FitResult

    return list(FitResult.load(path).maps.values())


def _column_map(path: Path) -> Any:
    from histomri.analysis.mapping import read_column_map

    return repr(read_column_map(path).models)


def _layout_map(path: Path) -> Any:
    from histomri.cells import read_cells

    return read_cells(path.with_name("a.csv"), columns=path).data


def _measurements(path: Path) -> Any:
    from histomri.core.tables import read_table

    table = read_table(path)
    return table.numbers([name for name in table.names if "_mri_" in name or "_histo_" in name])


def _pairs(path: Path) -> Any:
    from histomri.pairing import PairedTable

    return PairedTable.load(path).data


def _slide_record(path: Path) -> Any:
    from histomri.core.calibration import read_slide_record

    return repr(read_slide_record(path))


def _results(path: Path) -> Any:
    from histomri.report import collect

    collect(path.parent)


def _one(name: str, make: Callable[[], bytes]) -> Callable[[], dict[str, bytes]]:
    return lambda: {name: make()}


def _text(name: str, text: str) -> Callable[[], dict[str, bytes]]:
    return lambda: {name: text.encode()}


def _lines(*rows: Any) -> str:
    return "\n".join(" ".join(map(str, row)) for row in rows) + "\n"


def _first(name: str, make: Callable[[Path], None]) -> Callable[[], dict[str, bytes]]:
    """Return the files of a folder, the one of this name first."""

    def files() -> dict[str, bytes]:
        found = seeds.own_files(make)
        return {name: found[name], **found}

    return files


_ROWS = (seeds.B, seeds.DELTA, seeds.SEPARATION)
_WAVE = {
    "waveforms": {"w": {"start_ms": [0, 20], "duration_ms": [10, 10], "amplitude": [1, -1]}},
    "waveform": [None, "w", "w"], "b_smm2": [0, 500, 1000],
}  # fmt: skip
_WAVE_LINES = "volume,b_smm2,start_ms,duration_ms,amplitude\n0,0,0,0,0\n1,500,0,10,1\n1,500,20,10,-1\n"
_METHOD = (
    "##TITLE=Parameter List\n##$Method=<Bruker:DtiEpi>\n##$PVM_EchoTime=45\n##$PVM_DwGradDur=( 1 )\n10\n"
    "##$PVM_DwGradSep=( 1 )\n20\n##$PVM_DwEffBval=( 6 )\n@2*(22.5) 520.25 1020.5 1521\n2022\n##END=\n"
)
_FCSV = (
    "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    "1,1.5,2.5,3,0,0,0,1,1,1,0,a,,\n2,4,5,6,0,0,0,1,1,1,0,b,,\n"
)
_MARKUPS = {
    "markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": [
        {"id": "1", "label": "a", "position": [1.0, 2, 3], "positionStatus": "defined"},
        {"id": "2", "label": "b", "position": [4.0, 2, 3], "positionStatus": "defined"},
    ]}],
}  # fmt: skip
_POINTS = [
    {"type": "Feature", "geometry": {"type": kind, "coordinates": places}, "properties": {"name": "p"}}
    for kind, places in (("Point", [1, 2]), ("MultiPoint", [[3, 4], [5, 6]]))
]
_RECORD = {
    "schema": "histomri.qupath/1", "pixel_width_um": 0.5, "pixel_height_um": 0.5, "width_px": 2000, "height_px": 1000,
    "stains": "{}", "image_type": "OTHER", "image_name": "a.svs", "n_cells": 40, "complete": True,
}  # fmt: skip
_COLUMN_MAP = (
    'vCS_mri_um = "size"\n[constants]\nmodel = "diff-in"\n[[models]]\nmodel = "a"\ncolumns = { F_mri = "f" }\n'
)
_LAYOUT = (
    'x = { column = "X", unit = "um" }\ny = { column = "Y", unit = "um" }\narea = { column = "A", unit = "um2" }\n'
)
_FLIRT = _lines((1, 0.1, 0, 1), (0, 1, 0, 2), (0, 0, 1, 3), (0, 0, 0, 1))
_LTA = (
    "type      = 1\nnxforms   = 1\nmean      = 0 0 0\nsigma     = 10000\n1 4 4\n" + _FLIRT
    + "".join(f"{side} volume info\nvalid = 1\nfilename = x\nvolume = 4 5 3\nvoxelsize = 0.5 0.5 1\nxras   = -1 0 0\n"
              "yras   = 0 1 0\nzras   = 0 0 1\ncras   = 0 0 0\n" for side in ("src", "dst"))
)  # fmt: skip


def _json(name: str, content: Any) -> Callable[[], dict[str, bytes]]:
    import json

    return lambda: {name: json.dumps(content).encode()}


def _gzipped(name: str, make: Callable[[], bytes]) -> Callable[[], dict[str, bytes]]:
    import gzip

    return lambda: {name: gzip.compress(make(), mtime=0)}


def _bval() -> dict[str, bytes]:
    import json

    times = {"SmallDelta": 0.01, "LargeDelta": 0.02, "EchoTime": 0.06}
    vectors = eye(5)[:3].tolist()
    return {
        "d.bval": _lines(seeds.B).encode(), "d.json": json.dumps(times).encode(),
        "d.bvec": _lines(*vectors).encode(),
    }  # fmt: skip


def _saved_protocol(folder: Path) -> None:
    from histomri.mri import Acquisition

    Acquisition.preset("mouse-exvivo").select(np.arange(6)).save(folder / "p.json")


def _npy_dictionary() -> dict[str, bytes]:
    table = seeds.dictionary()
    columns = table.iloc[:, 1:].to_numpy(), table.iloc[:, :1].to_numpy()
    return {name: seeds.npy(values) for name, values in zip(("d.npy", "parameters.npy"), columns, strict=True)}


def _csv(table: Any) -> bytes:
    return bytes(table.to_csv(index=False).encode())


KINDS: tuple[Kind, ...] = (
    Kind("cell table", _one("a.tsv", seeds.cell_table), _cells),
    Kind("cell table of Excel", _one("a.csv", lambda: seeds.cell_table(";", ",")), _cells),
    Kind("cell table, gzip", _gzipped("a.csv.gz", lambda: seeds.cell_table(",")), _cells, checksum=True),
    Kind("cell table, zip", _one("a.tsv.zip", lambda: seeds.zipped("a.tsv", seeds.cell_table())), _cells, checksum=True),
    Kind("cells in GeoJSON", _one("a.geojson", seeds.cells_geojson), _cells),
    Kind("cells in GeoJSON, gzip", _gzipped("a.geojson.gz", seeds.cells_geojson), _cells, checksum=True),
    Kind("cells in GeoParquet", _one("a.parquet", seeds.shapes_parquet), _cells),
    Kind("cells.parquet", _first("cells.parquet", seeds.saved_cells), _own_cells),
    Kind("labels in TIFF", _one("a.tif", seeds.label_tiff), _cells),
    Kind("labels in PNG", _one("a.png", lambda: seeds.png(seeds.labels())), _cells, checksum=True),
    Kind("labels in NumPy", _one("a.npy", lambda: seeds.npy(seeds.labels())), _cells),
    Kind("names of columns", lambda: {"m.toml": _LAYOUT.encode(), "a.csv": b"X,Y,A\n10,20,100\n30,40,90\n"}, _layout_map, kept=("a.csv",)),
    Kind("QuPath project", seeds.project, _project),
    Kind("record of a slide", _json("a.histomri.json", _RECORD), _slide_record),
    Kind("regions", _one("roi.geojson", seeds.regions_geojson), _regions),
    Kind("slide of Aperio", _one("a.svs", seeds.svs), _slide),
    Kind("slide of Hamamatsu", _one("a.ndpi", seeds.ndpi), _slide),
    Kind("slide in OME-TIFF", _one("a.ome.tif", seeds.ome_tiff), _slide),
    Kind("slide in TIFF", _one("a.tif", lambda: seeds.tiff(compression="lzw")), _slide),
    Kind("slide in PNG", _one("a.png", lambda: seeds.png(seeds.picture())), _slide, checksum=True),
    Kind("slide in JPEG", _one("a.jpg", seeds.jpeg), _slide),
    Kind("image", _one("a.nii", lambda: seeds.nifti(seeds.dwi()[..., 0])), _image),
    Kind("image, gzip", _one("a.nii.gz", lambda: seeds.nifti(seeds.dwi()[..., 0], True)), _image, checksum=True),
    Kind("diffusion images", _one("d.nii", lambda: seeds.nifti(seeds.dwi())), _dwi),
    Kind("diffusion images, gzip", _one("d.nii.gz", lambda: seeds.nifti(seeds.dwi(), True)), _dwi, checksum=True),
    Kind("folder of patches", lambda: seeds.own_files(seeds.saved_maps), _maps),
    Kind("protocol in rows", _text("p.txt", _lines(*_ROWS)), _protocol),
    Kind("protocol with a header", _text("p.csv", "b_smm2,delta_ms,Delta_ms\n0,10,20\n500,10,20\n1000,10,20\n"), _protocol),
    Kind("protocol of FSL and BIDS", _bval, _protocol),
    Kind("protocol of Camino", _text("p.scheme", "VERSION: BVECTOR\n0 0 1 0\n1 0 0 500\n0 1 0 1000\n"), _protocol),
    Kind("protocol of Bruker", _text("method", _METHOD), _protocol),
    Kind("protocol of MRtrix", _json("p.json", {"dw_scheme": [[0, 0, 1, 0], [1, 0, 0, 500], [0, 1, 0, 900]]}), _protocol),
    Kind("protocol, saved", _first("p.json", _saved_protocol), _protocol),
    Kind("waveforms in JSON", _json("w.json", _WAVE), _protocol),
    Kind("waveforms in a table", _text("w.csv", _WAVE_LINES), _protocol),
    Kind("transform", _first("x.json", seeds.affine_json), _transform),
    Kind("transform of ITK", _first("x.tfm", seeds.affine_json), _transform, kept=("x.json",)),
    Kind("transform of ANTs", _first("x.mat", seeds.matlab), _transform),
    Kind("transform of ITK in HDF5", _first("x.h5", seeds.composite), _transform),
    Kind("transform that deforms", _first("x.json", seeds.saved_transform), _transform),
    Kind("transform of FSL", _text("x.mat", _FLIRT), _transform),
    Kind("transform of AFNI", _text("x.aff12.1D", "1 0.1 0 1 0 1 0 2 0 0 1 3\n"), _transform),
    Kind("transform of FreeSurfer", _text("x.lta", _LTA), _transform),
    Kind("landmark pairs", _text("l.csv", "moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm\n1,2,3,4\n5,6,7,8\n"), _landmarks),
    Kind("landmarks of Slicer", _text("l.fcsv", _FCSV), _points),
    Kind("markups of Slicer", _json("l.mrk.json", _MARKUPS), _points),
    Kind("landmarks of QuPath", _json("l.geojson", _POINTS), _points),
    Kind("study file", seeds.study, _study, kept=("c.tsv", "d.nii", "p.txt")),
    Kind("dictionary in NumPy", _npy_dictionary, _dictionary),
    Kind("dictionary as a table", _one("d.csv", lambda: _csv(seeds.dictionary())), _dictionary),
    Kind("result of a fit", _first("fit.npz", seeds.saved_fit), _fit, checksum=True),
    Kind("column map", _text("m.toml", _COLUMN_MAP), _column_map),
    Kind("table of measurements", _one("t.csv", lambda: _csv(seeds.pairs())), _measurements),
    Kind("workbook", _one("t.xlsx", seeds.workbook), _measurements, checksum=True),
    Kind("table in Parquet", _one("t.parquet", lambda: seeds.parquet(seeds.pairs())), _measurements),
    Kind("pairs", _one("pairs.csv", lambda: _csv(seeds.pairs())), _pairs),
    Kind("pairs in Parquet", _one("pairs.parquet", lambda: seeds.parquet(seeds.pairs())), _pairs),
    Kind("results folder", _first("study.json", seeds.results), _results),
)  # fmt: skip
