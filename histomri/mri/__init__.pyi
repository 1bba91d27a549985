from .acquisition import Acquisition, Encoding, Waveform, pulse_pair, twice_refocused
from .images import DwiFile, open_dwi
from .correction import Drift, Motion, correct_drift, correct_motion, estimate_drift
from .labels import LabelMeans, Labels, mean_of_labels
from .noise import NOISE_METHODS, NoiseLevel, Sigma, denoise, estimate_noise, read_sigma
from .preparation import STEPS, Preprocessed, preprocess, tissue_mask, unring
from .reading import as_acquisition, protocol_files, read_acquisition
from .series import Series
from .spoilt import SpoiltVolume, find_spoilt, find_spoilt_before_fit, list_spoilt

__all__ = [
    "NOISE_METHODS",
    "STEPS",
    "Acquisition",
    "Drift",
    "DwiFile",
    "Encoding",
    "LabelMeans",
    "Labels",
    "Motion",
    "NoiseLevel",
    "Preprocessed",
    "Series",
    "Sigma",
    "SpoiltVolume",
    "Waveform",
    "as_acquisition",
    "correct_drift",
    "correct_motion",
    "denoise",
    "estimate_drift",
    "estimate_noise",
    "find_spoilt",
    "find_spoilt_before_fit",
    "list_spoilt",
    "mean_of_labels",
    "open_dwi",
    "preprocess",
    "protocol_files",
    "pulse_pair",
    "read_acquisition",
    "read_sigma",
    "tissue_mask",
    "twice_refocused",
    "unring",
]
