"""The three kinds of scan that histomri knows by name, each declared once: its tissue, its protocol, its bounds.

Numbers are those of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2, unless a comment says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from histomri.core.errors import InputError

Bounds = Mapping[str, tuple[float, float]]
Row = tuple[float, ...]
PresetName = Literal["mouse-exvivo", "invivo-3t", "invivo-1.5t"]
CorrectionName = Literal["mouse-exvivo", "human-biopsy", "none"]
SectionName = Literal["sphere-mean", "wicksell", "none"]
Strategy = Literal["whole", "high-b"]
STRATEGIES: tuple[Strategy, ...] = ("whole", "high-b")
SECTIONS: tuple[SectionName, ...] = ("sphere-mean", "wicksell", "none")


@dataclass(frozen=True)
class HistologyCorrection:
    """Linear shrinkage in processing (a fraction), and how sizes of discs become sizes of spheres."""

    shrinkage: float
    section: SectionName


@dataclass(frozen=True)
class Block:
    """Volumes of a protocol that share an echo time: a value per volume, s/mm² and ms.

    A twice-refocused echo has δ1, δ2, δ3, δ4 and the starts of the second and the fourth lobe in place of δ and Δ.
    """

    te_ms: float
    b_smm2: Row
    delta_ms: Row = ()
    Delta_ms: Row = ()
    lobes_ms: Row = ()


@dataclass(frozen=True)
class Preset:
    """One kind of scan."""

    in_vivo: bool  # whether blood flows
    histology: CorrectionName  # what usually happened to the tissue before the slide
    protocol: tuple[Block, ...]  # the volumes of the source paper's scan
    bounds: Bounds  # of the tissue models: 1, µm²/ms, µm, µm²/ms, µm²; signal over b = 0, ms, ms, µm/s
    bmin_smm2: Mapping[str, float]  # by strategy, the b-value that the measurements fitted must exceed
    t2ivim: Bounds  # of the vascular step: 1, ms, µm²/ms, ms, µm²/ms, 1
    # What ADC and kurtosis are fitted to, where such measurements are there.
    dki_bmin_smm2: float
    dki_te_ms: float | None
    dki_Delta_ms: float | None
    free_water_um2_ms: float  # diffusivity of free water where the tissue was scanned
    all_bmin_smm2: float  # b-value above which models fitted to all b have no blood in their signals
    held: Mapping[str, float]  # values at which models may hold parameters


CORRECTIONS: dict[str, HistologyCorrection] = {
    "mouse-exvivo": HistologyCorrection(0.129, "sphere-mean"),
    "human-biopsy": HistologyCorrection(0.153, "sphere-mean"),
    "none": HistologyCorrection(0.0, "none"),
}

_B_MOUSE = (*(k * (2800.0 / 9) for k in range(9)), 2800.0)
_B_3T: Row = (0, 50, 100, 400, 900, 1200, 1500)
_B_15T: Row = (0, 50, 100, 400, 900, 1200, 1600)
_DELTA_3T: Row = (0, 3.9, 5.2, 9.2, 13.0, 15.8, 18.5)
_SEPARATION_3T: Row = (0, 27.8, 29.0, 33.0, 37.0, 39.6, 42.3)
_EX_VIVO = {
    "fI": (0.0, 1.0), "D0I": (0.8, 2.6), "vCS": (8.0, 40.0), "DEinf": (0.8, 2.6), "beta": (0.0, 10.0),
    "S0": (0.1, 1e4), "T2I": (5.0, 80.0), "T2E": (5.0, 80.0), "kappa": (0.0, 100.0),
}  # fmt: skip
_IN_VIVO = {
    **_EX_VIVO, "D0I": (0.8, 3.0), "DEinf": (0.8, 3.0), "T2I": (20.0, 140.0), "T2E": (20.0, 140.0),
    "kappa": (0.0, 200.0),
}  # fmt: skip
# Between what is known of cells ex vivo and in vivo, as in simulations of exchange.
_HELD = {"D0I": 1.5}
# Ex vivo the second pool is the fluid around the sample, whose diffusivity and T2 are those of saline.
_SALINE = {
    "fV": (0.0, 1.0), "T2T": (5.0, 80.0), "DV": (2.2, 2.6), "T2V": (400.0, 600.0), "DT": (0.1, 1.9), "KT": (0.0, 5.0)
}  # fmt: skip
_BLOOD = {
    "fV": (0.0, 1.0), "T2T": (20.0, 140.0), "DV": (4.0, 100.0), "T2V": (150.0, 250.0), "DT": (0.2, 3.0),
    "KT": (0.0, 5.0),
}  # fmt: skip


def _living(*protocol: Block) -> Preset:
    return Preset(
        in_vivo=True, histology="human-biopsy", protocol=protocol, bounds=_IN_VIVO,
        bmin_smm2={"whole": 100.0, "high-b": 900.0}, t2ivim=_BLOOD,
        dki_bmin_smm2=100.0, dki_te_ms=None, dki_Delta_ms=None, free_water_um2_ms=3.0,
        all_bmin_smm2=150.0, held=_HELD,
    )  # fmt: skip


PRESETS: dict[str, Preset] = {
    "mouse-exvivo": Preset(
        in_vivo=False, histology="mouse-exvivo", bounds=_EX_VIVO, t2ivim=_SALINE,
        protocol=tuple(
            Block(te, _B_MOUSE, (10.0,) * 10, (separation,) * 10)
            for separation, te in ((15.0, 31.0), (15.0, 45.0), (15.0, 65.0), (30.0, 45.0), (30.0, 65.0))
        ),
        bmin_smm2={"whole": 1000.0, "high-b": 1800.0}, dki_bmin_smm2=-1.0, dki_te_ms=45.0, dki_Delta_ms=30.0,
        free_water_um2_ms=2.4,  # saline at room temperature
        all_bmin_smm2=0.0, held=_HELD,
    ),
    "invivo-3t": _living(
        Block(75.0, _B_3T, (0, 3.9, 5.2, 9.2, 15.0, 18.2, 21.0), (0, 27.8, 29.0, 33.0, 28.7, 31.8, 34.7)),
        Block(90.0, _B_3T, _DELTA_3T, _SEPARATION_3T),
        Block(105.0, _B_3T, _DELTA_3T, _SEPARATION_3T),
    ),
    "invivo-1.5t": _living(
        Block(93.0, _B_15T, lobes_ms=(8.9, 17.6, 20.4, 6.0, 17.4, 63.9)),
        Block(105.0, _B_15T, lobes_ms=(13.2, 19.3, 24.8, 7.7, 21.7, 74.2)),
        Block(120.0, _B_15T, lobes_ms=(18.9, 21.0, 30.5, 9.5, 27.5, 87.5)),
    ),
}  # fmt: skip
PRESET_NAMES: tuple[str, ...] = tuple(PRESETS)
DEFAULT_PRESET: PresetName = "mouse-exvivo"
IN_VIVO_NAMES = " or ".join(name for name, preset in PRESETS.items() if preset.in_vivo)


def get_preset(name: str) -> Preset:
    """Return a preset by name; InputError if there is none.

    Examples
    --------
    >>> from histomri.core.presets import get_preset
    >>> get_preset('invivo-3t').bmin_smm2
    {'whole': 100.0, 'high-b': 900.0}
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}", hint=f"choose among {', '.join(PRESETS)}")
    return PRESETS[name]


def names_preset(protocol: object) -> bool:
    """Tell whether a protocol is given by the name of a preset, and not by a file of that name."""
    return str(protocol) in PRESETS and not Path(str(protocol)).exists()


def choose_preset(preset: str | None, protocol: object, otherwise: str = DEFAULT_PRESET) -> str:
    """Return the preset given; or else that of a protocol named after it; or else the one otherwise."""
    if preset is None:
        return str(protocol) if names_preset(protocol) else otherwise
    get_preset(preset)
    return preset
