"""Tissue models and their fit to diffusion signals."""

from histomri.fitting.dki import fit_dki
from histomri.fitting.models import (
    MODELS,
    PARAMETERS,
    PRESETS,
    STRATEGIES,
    Model,
    choose_threshold,
    get_model,
    get_preset,
)
from histomri.fitting.results import FitResult
from histomri.fitting.signals import predict, sphere_adc
from histomri.fitting.t2ivim import (
    T2IVIM_BOUNDS,
    T2IVIM_PARAMETERS,
    T2IVIM_UNITS,
    fit_t2ivim,
    predict_t2ivim,
)
from histomri.fitting.voxelwise import fit

__all__ = [
    "MODELS",
    "PARAMETERS",
    "PRESETS",
    "STRATEGIES",
    "T2IVIM_BOUNDS",
    "T2IVIM_PARAMETERS",
    "T2IVIM_UNITS",
    "FitResult",
    "Model",
    "choose_threshold",
    "fit",
    "fit_dki",
    "fit_t2ivim",
    "get_model",
    "get_preset",
    "predict",
    "predict_t2ivim",
    "sphere_adc",
]
