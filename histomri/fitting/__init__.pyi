from .compartments import Ball, Gone, Sphere, TimedBall
from .choices import bounds_warnings, check_bic, choose_noise, choose_threshold, preset_warnings
from .cramer_rao import CramerRao, ProtocolBound, bound_of_protocol, crlb
from .dictionary import Dictionary
from .dki import fit_dki
from .engine import fit
from .misfit import Residuals, bootstrap, residuals
from .models import MODELS, PAPER_NAMES, PARAMETERS, Model, Parameter, get_model
from .results import FitResult
from .run import FitOutputs, FitRun
from .signals import predict, sphere_adc
from .t2ivim import T2IVIM_PARAMETERS, T2IVIM_UNITS, fit_t2ivim, predict_t2ivim

__all__ = [
    "MODELS",
    "PAPER_NAMES",
    "PARAMETERS",
    "T2IVIM_PARAMETERS",
    "T2IVIM_UNITS",
    "Ball",
    "CramerRao",
    "Dictionary",
    "FitOutputs",
    "FitResult",
    "FitRun",
    "Gone",
    "Model",
    "Parameter",
    "ProtocolBound",
    "Residuals",
    "Sphere",
    "TimedBall",
    "bootstrap",
    "bound_of_protocol",
    "bounds_warnings",
    "check_bic",
    "choose_noise",
    "choose_threshold",
    "crlb",
    "fit",
    "fit_dki",
    "fit_t2ivim",
    "get_model",
    "predict",
    "predict_t2ivim",
    "preset_warnings",
    "residuals",
    "sphere_adc",
]
