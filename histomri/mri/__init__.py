"""Diffusion MRI: protocols, and volumes read from NIfTI."""

from histomri.mri.acquisition import Acquisition, Encoding
from histomri.mri.images import DwiFile, open_dwi
from histomri.mri.presets import PRESETS
from histomri.mri.protocols import read_acquisition
from histomri.mri.waveforms import Waveform, pulse_pair, twice_refocused

__all__ = [
    "PRESETS",
    "Acquisition",
    "DwiFile",
    "Encoding",
    "Waveform",
    "open_dwi",
    "pulse_pair",
    "read_acquisition",
    "twice_refocused",
]
