"""A whole study on disk: the files a user would have, the study file that names them, and the truth beside them."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, write_json, write_text
from histomri.core.formulas import without_formulas
from histomri.core.images import map_name, write_image, write_map
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition
from histomri.registration import Transform

from .biopsy import Biopsy
from .liver import LOBE_SLICE, LiverPhantom, default_acquisition, simulate_liver
from .realism import Physics, Realism
from .tissue import GROUPS

_HEADER = """\
# A digital mouse liver: made by histomri, nothing in it was ever alive. The truth lies in truth/.

[study]
name = "Digital mouse liver"
simulated = true               # the report says so everywhere
preset = "mouse-exvivo"        # shrinkage, corrections, bounds and b thresholds

[fit]
models = ["diff-in", "diff-in-ex"]
strategies = ["whole", "high-b"]

[patches]
like_mri = true                # patches of the size of the MRI voxels
"""
_RIMS = """\
outline_kind = "R"             # outlines are nuclei with a rim, as QuPath's cell detection draws them
cell_fraction = 0.5            # share of the volume that is cells: stated, as nuclei do not show it
size = "paper"                 # compared with MRI: sizes as published; "volume" for those of cells in 3D
"""
_MASKS = """\
outline_kind = "M"             # outlines are cells, where their nucleus is seen
"""
_SECTION = """\
section_thickness_um = {thickness:g}       # as cut
nucleus_limit_um2 = {limit:g}         # smallest nucleus that is detected
"""
_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), dtype=np.uint8).reshape(256, 2)
_SAMPLE = """
[[samples]]
id = "{id}"
group = "{group}"
scanner = "9.4T"
cells = "{id}_cells.tsv"
dwi = "{id}_dwi.nii.gz"
protocol = "protocol.txt"
mask = "{id}_mask.nii.gz"
sigma = {sigma:g}                 # noise, in the units of the DWI
mri_slice = {slice}
"""


def write_study(
    folder: str | Path, *, samples: int = 6, seed: int = 1, snr: float = 50.0, area_mm2: float = 75.0,
    physics: Physics = "realistic", realism: Realism | None = None, progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write a digital mouse-liver study: QuPath tables, DWI, masks, protocol, study.toml, and truth/.

    Returns the study file. The same seed gives the same files, and a sample does not depend on how many others there
    are. `snr`, `area_mm2`, `physics` and `realism` are those of `simulate_liver`; `progress` is called with the
    fraction done.

    Parameters
    ----------
    folder : path-like
        Made if missing.
    samples : int
        Number of livers, at least 3; control, infiltrated and necrotic in turn.

    Raises
    ------
    InputError
        If fewer than three samples are asked for, or a number is out of range.
    """
    if samples < len(GROUPS):
        problem = f"a study of {samples} samples has no sample of some groups"
        raise InputError(problem, hint="ask for three or more samples")
    folder, report, entries = Path(folder), share_of(progress), []

    def one(index: int) -> str:
        name = f"{GROUPS[index % len(GROUPS)]}{index // len(GROUPS) + 1}"
        matter: dict[str, Any] = {"area_mm2": area_mm2, "physics": physics, "realism": realism}
        return write_mouse(folder, name, index, seed=seed, key=(index,), snr=snr, **matter)[0]

    # Two at a time: the work is mostly in compiled code, and two livers still fit in little memory.
    with ThreadPoolExecutor(2) as pool:
        for entry in pool.map(one, range(samples)):
            entries.append(entry)
            report(len(entries) / samples)
    write_protocol(folder / "protocol.txt", default_acquisition())
    return write_text(folder / "study.toml", _HEADER + stated_section(physics, realism) + "".join(entries))


def stated_section(physics: Physics, realism: Realism | None) -> str:
    """Return what a user would state of the sections under [patches]; nothing of those of the simple physics."""
    if physics == "simple":
        return ""
    real = realism or Realism()
    kind = _RIMS if real.detector.outline == "rim" else _MASKS
    return kind + _SECTION.format(thickness=real.thickness_um, limit=real.detector.limit_um2)


def write_mouse(
    folder: Path, name: str, index: int, *, seed: int, key: tuple[int, ...], snr: float, area_mm2: float,
    physics: Physics = "realistic", realism: Realism | None = None,
) -> tuple[str, LiverPhantom]:  # fmt: skip
    """Simulate the liver of a mouse, write its files, and return its entry in a study file, and the phantom.

    Groups, sides and orientations take turns with `index`; `key` keeps the random numbers apart from other samples'.
    """
    group = GROUPS[index % len(GROUPS)]
    own = np.random.SeedSequence(seed, spawn_key=key)
    liver = simulate_liver(
        group, seed=own, area_mm2=area_mm2, snr=snr, flipped=index % 2 == 1, orientation=index, physics=physics,
        realism=realism,
    )  # fmt: skip
    write_sample(folder, name, liver, seed=seed)
    return _SAMPLE.format(id=name, group=group, sigma=liver.sigma, slice=LOBE_SLICE), liver


def write_sample(folder: str | Path, name: str, liver: LiverPhantom, *, seed: int = 0) -> list[Path]:
    """Write the files of a sample called `name`, and its truth under truth/; return the files written.

    The seed serves what carries no truth in the QuPath table: object ids, nuclei, stains.
    """
    folder = Path(folder)
    rng = np.random.default_rng([seed, *name.encode()])
    cells = write_qupath_tsv(folder / f"{name}_cells.tsv", f"{name}_HE.ndpi", liver.cells, rng)
    return [cells, *write_scan(folder, name, liver), *_write_truth(folder / "truth", name, liver)]


def write_scan(folder: Path, name: str, scanned: LiverPhantom | Biopsy) -> list[Path]:
    """Write the images of a sample and their mask."""
    return [
        write_image(folder / f"{name}_dwi.nii.gz", scanned.dwi, scanned.affine),
        write_image(folder / f"{name}_mask.nii.gz", scanned.mask.astype(np.uint8), scanned.affine),
    ]


def write_csv(path: Path, table: pd.DataFrame, digits: str = "%.6g") -> Path:
    """Write a table as CSV, numbers with the given format."""
    with atomic_path(path) as temporary:
        without_formulas(table).to_csv(temporary, index=False, float_format=digits)
    return path


def write_protocol(path: str | Path, acquisition: Acquisition) -> Path:
    """Write a protocol as rows of b (s/mm²), δ, Δ and TE (ms), one column per volume."""
    rows = (acquisition.b_smm2, acquisition.delta_ms, acquisition.Delta_ms, acquisition.te_ms)
    lines = (" ".join(f"{value:.10g}" for value in row) for row in rows if row is not None)
    return write_text(path, "".join(f"{line}\n" for line in lines))


def _write_truth(folder: Path, name: str, liver: LiverPhantom) -> list[Path]:
    written: list[Path] = []
    filled: dict[str, Any] = {"Units": "1", "Description": "Part of the voxel filled with tissue"}
    for param, data in liver.truth.items():
        path = folder / map_name(param, "dwimap", sub=name, desc="truth")
        written += write_map(path, data, liver.affine, **(filled if param == "tissueFraction" else {}))
    axes = [f"{side}_{axis}_mm" for side in ("moving", "fixed") for axis in "xyz"]
    stem = f"sub-{re.sub('[^0-9A-Za-z]', '', name)}"
    landmarks = pd.DataFrame(np.hstack(liver.landmarks()), columns=axes)
    transform = Transform(liver.affine_truth(), info={"Truth": "affine part, least squares over the section"})
    return [
        *written,
        write_csv(folder / f"{stem}_landmarks.csv", landmarks, "%.5f"),
        *transform.save(folder / f"{stem}_from-histo_to-dwi_mode-image_xfm"),
        write_json(folder / f"{stem}_truth.json", liver.summary()),
    ]


def write_qupath_tsv(path: Path, image: str, cells: pd.DataFrame, rng: np.random.Generator) -> Path:
    """Write cells (x_um, y_um, area_um2) of a slide called `image` as QuPath exports them: names, rounding, no quotes.

    Object ids and stains come from the generator: they look real, and carry no truth. So do the nuclei of a table
    without nucleus_area_um2.
    """
    table = _table(image, cells, rng)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        # QuPath's TSV has no quotes, and pyarrow would quote the header.
        file.write("\t".join(table.column_names).encode() + b"\n")
        options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        pyarrow.csv.write_csv(table, file, options)
    return path


def _table(image: str, cells: pd.DataFrame, rng: np.random.Generator) -> pa.Table:
    number, area_um2 = len(cells), cells["area_um2"].to_numpy()
    size = np.sqrt(4.0 * area_um2 / np.pi)
    found = "nucleus_area_um2" in cells
    ratio = cells["nucleus_area_um2"].to_numpy() / area_um2 if found else rng.beta(18.0, 42.0, number)
    none = pa.nulls(number, pa.string())
    columns = {
        "Image": pa.repeat(image, number), "Object ID": _object_ids(number, rng),
        "Object type": pa.repeat("Cell", number), "Name": none, "Classification": none,
        "Parent": pa.repeat("Annotation (Tissue)", number), "ROI": pa.repeat("Polygon", number),
        "Centroid X µm": cells["x_um"].to_numpy(), "Centroid Y µm": cells["y_um"].to_numpy(),
        "Nucleus: Area": ratio * area_um2,
        "Nucleus: Circularity": np.minimum(0.999, rng.normal(0.90, 0.04, number)),
        "Nucleus: Hematoxylin OD mean": np.maximum(0.1, rng.normal(0.42, 0.07, number)),
        "Cell: Area": area_um2, "Cell: Circularity": np.minimum(0.999, rng.normal(0.87, 0.05, number)),
        "Cell: Eosin OD mean": np.maximum(0.02, 0.15 + 0.005 * size + rng.normal(0.0, 0.03, number)),
        "Nucleus/Cell area ratio": ratio,
    }  # fmt: skip
    return pa.table({name: _rounded(c) if isinstance(c, np.ndarray) else c for name, c in columns.items()})


def _rounded(column: FloatArray) -> pa.Array:
    """Round as QuPath shows numbers: the larger, the fewer decimals."""
    size = np.abs(column)
    power = np.select([size > 1000, size > 10, size > 1], [10.0, 100.0, 1000.0], 10000.0)
    return pa.array(np.rint(column * power) / power)


def _object_ids(number: int, rng: np.random.Generator) -> pa.Array:
    """Make random UUIDs (version 4) without a loop: 36 characters each, back to back in one buffer."""
    raw = rng.integers(0, 256, (number, 16), dtype=np.uint8)
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x40
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    digits = _HEX[raw].reshape(number, 32)
    text = np.full((number, 36), ord("-"), dtype=np.uint8)
    for first, last, place in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        text[:, place : place + last - first] = digits[:, first:last]
    offsets = np.arange(0, 36 * number + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(number, pa.py_buffer(offsets), pa.py_buffer(text))
