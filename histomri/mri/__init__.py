"""Diffusion MRI: protocols, volumes read from NIfTI, and their preprocessing."""

from histomri.core.presets import PRESETS
from histomri.mri.acquisition import Acquisition, Encoding
from histomri.mri.drift import Drift, correct_drift, estimate_drift
from histomri.mri.images import DwiFile, open_dwi
from histomri.mri.motion import Motion, correct_motion
from histomri.mri.noise import NOISE_METHODS, NoiseLevel, denoise, estimate_noise
from histomri.mri.preparation import STEPS, Preprocessed, preprocess, tissue_mask, unring
from histomri.mri.protocols import read_acquisition
from histomri.mri.waveforms import Waveform, pulse_pair, twice_refocused

__all__ = [
    "NOISE_METHODS",
    "PRESETS",
    "STEPS",
    "Acquisition",
    "Drift",
    "DwiFile",
    "Encoding",
    "Motion",
    "NoiseLevel",
    "Preprocessed",
    "Waveform",
    "correct_drift",
    "correct_motion",
    "denoise",
    "estimate_drift",
    "estimate_noise",
    "open_dwi",
    "preprocess",
    "pulse_pair",
    "read_acquisition",
    "tissue_mask",
    "twice_refocused",
    "unring",
]
