"""The benchmark sets: the one list of their names, versions, truths and hashes."""

from functools import partial

from histomri.core.errors import InputError
from histomri.core.tables import suggestion
from histomri.simulation.benchmarks import insilico, liver, lobes, sections
from histomri.simulation.benchmarks.declaration import BenchmarkSet
from histomri.simulation.section_pairs import PIXEL

_TISSUE = ("F", "vCS_um", "D0I_um2_ms")
# Of the truth. Another hash is another truth, and needs another version.
_SHA256 = {
    "insilico-paper": "4833315f5497861d51f54e7daa46c94b08c0e46b6cbf6e89261f8a4ceabe961a",
    "insilico-small": "be7534407b7b3a0a3448e5425b0c88e3e146b0649519da57992bd94e4d3db51f",
    "liver-exvivo": "bf9525f581b7266c52971df64e1a60e073eac938684c76714a64fdb3fa1e60d4",
    "liver-3t": "383107333507ef0447fc8e01ccc9f70a6af118dd90c8b73320151522760bda66",
    "liver-1.5t": "8a5d5b8801cbd8d9ba795e57f5288862d74e5cf357849083522954bc80477035",
    "sections-nuclei": "b059edd2c8165f41f1e5def25680fda547bd47dd29dc96265b1d2458f12c2354",
    "registration-lobes": "e784176d27e6c5af1d49d344319b398e4ea47d576161fdef628c888a9c7f0929",
}


def _liver(name: str, protocol: str, scan: str) -> BenchmarkSet:
    label = name.removeprefix("liver-")
    return BenchmarkSet(
        name, 1, f"walked signals of permeable, packed cells, {scan}: 68 tissues, SNR 50, 20 noisy copies of each",
        ids=("id",), estimates=_TISSUE, conditions=("kappa_um_s", "cv", "packing"), unit="tissue",
        make_truth=partial(liver.truth, protocol, label), sha256=_SHA256[name],
        write_inputs=partial(liver.write, protocol),
    )  # fmt: skip


_EVERY = (
    BenchmarkSet(
        "insilico-paper", 1, "the in-silico study of the paper: 1600 tissues, three protocols, κ 10, 25 and 50, SNR 30",
        ids=("id",), estimates=_TISSUE, conditions=("protocol", "kappa_um_s"), unit="id",
        make_truth=insilico.paper_truth, sha256=_SHA256["insilico-paper"], write_inputs=insilico.write_paper,
        reads_study=True,
    ),
    BenchmarkSet(
        "insilico-small", 1, "a part of the in-silico study: 144 tissues, mouse ex vivo, κ 10, SNR 30, 3 noisy copies",
        ids=("id",), estimates=_TISSUE, conditions=("F", "vCS_um"), unit="tissue",
        make_truth=insilico.small_truth, sha256=_SHA256["insilico-small"], write_inputs=insilico.write_small,
    ),
    _liver("liver-exvivo", "mouse-exvivo", "mouse ex vivo"),
    _liver("liver-3t", "invivo-3t", "in vivo at 3 T"),
    _liver("liver-1.5t", "invivo-1.5t", "in vivo at 1.5 T"),
    BenchmarkSet(
        "sections-nuclei", 1, "nuclei and QuPath's cells of seven simulated tissues, cut, shrunk and detected",
        ids=("condition",), estimates=sections.ESTIMATES, conditions=(), unit="condition",
        make_truth=sections.truth, sha256=_SHA256["sections-nuclei"], write_inputs=sections.write,
    ),
    BenchmarkSet(
        "registration-lobes", 1, "20 sections and MRI slices of lobes: turned, shrunk, deformed, a tenth missing",
        ids=("pair", "point"), estimates=("x_mm", "y_mm", "z_mm"), conditions=("turned_over",), unit="pair",
        make_truth=lobes.truth, sha256=_SHA256["registration-lobes"], write_inputs=lobes.write,
        scored_by="points", pixel_mm=PIXEL,
    ),
)  # fmt: skip
SETS: dict[str, BenchmarkSet] = {each.name: each for each in _EVERY}


def get_set(name: str) -> BenchmarkSet:
    """Return a set by name; InputError if there is none."""
    if name not in SETS:
        problem = f"there is no benchmark set '{name}'{suggestion(name, SETS)}"
        raise InputError(problem, hint=f"choose among {', '.join(SETS)}")
    return SETS[name]
