"""Tissue models and their fit to diffusion signals."""

from histomri.core.presets import PRESETS, STRATEGIES, choose_preset, get_preset
from histomri.fitting.bootstrap import bootstrap
from histomri.fitting.crlb import CramerRao, crlb
from histomri.fitting.dictionary import Dictionary, fit_dictionary
from histomri.fitting.dki import fit_dki
from histomri.fitting.models import (
    MODELS,
    PARAMETERS,
    Model,
    bounds_warnings,
    choose_threshold,
    get_model,
    preset_warnings,
)
from histomri.fitting.residuals import Residuals, residuals
from histomri.fitting.results import FitResult, check_bic
from histomri.fitting.signals import predict, sphere_adc
from histomri.fitting.t2ivim import (
    T2IVIM_PARAMETERS,
    T2IVIM_UNITS,
    fit_t2ivim,
    predict_t2ivim,
)
from histomri.fitting.voxelwise import choose_noise, fit

__all__ = [
    "MODELS",
    "PARAMETERS",
    "PRESETS",
    "STRATEGIES",
    "T2IVIM_PARAMETERS",
    "T2IVIM_UNITS",
    "CramerRao",
    "Dictionary",
    "FitResult",
    "Model",
    "Residuals",
    "bootstrap",
    "bounds_warnings",
    "check_bic",
    "choose_noise",
    "choose_preset",
    "choose_threshold",
    "crlb",
    "fit",
    "fit_dictionary",
    "fit_dki",
    "fit_t2ivim",
    "get_model",
    "get_preset",
    "predict",
    "predict_t2ivim",
    "preset_warnings",
    "residuals",
    "sphere_adc",
]
