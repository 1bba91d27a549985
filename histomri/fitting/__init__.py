"""Tissue models and their fit to diffusion signals."""

from histomri.fitting.dki import fit_dki
from histomri.fitting.models import MODELS, PARAMETERS, PRESETS, STRATEGIES, Model, get_model, get_preset
from histomri.fitting.results import FitResult
from histomri.fitting.signals import predict, sphere_adc
from histomri.fitting.voxelwise import fit

__all__ = [
    "MODELS",
    "PARAMETERS",
    "PRESETS",
    "STRATEGIES",
    "FitResult",
    "Model",
    "fit",
    "fit_dki",
    "get_model",
    "get_preset",
    "predict",
    "sphere_adc",
]
