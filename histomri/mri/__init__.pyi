from .acquisition import Acquisition, Encoding, Waveform, pulse_pair, twice_refocused
from .images import DwiFile, open_dwi
from .correction import Drift, Motion, correct_drift, correct_motion, estimate_drift
from .distortion import PHASE_ENCODINGS, EddyRecord, FieldMap, undistort
from .effects import Effect, draw_effects
from .labels import LabelMeans, Labels, mean_of_labels
from .noise import NOISE_METHODS, NoiseLevel, Sigma, denoise, estimate_noise, parse_patch, read_sigma
from .preparation import STEPS, Preprocessed, preprocess, tissue_mask, unring
from .reading import as_acquisition, protocol_files, read_acquisition
from .series import Series
from .spoilt import SpoiltVolume, find_spoilt, find_spoilt_before_fit, list_spoilt

__all__ = [
    "NOISE_METHODS",
    "PHASE_ENCODINGS",
    "STEPS",
    "Acquisition",
    "Drift",
    "DwiFile",
    "EddyRecord",
    "Effect",
    "Encoding",
    "FieldMap",
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
    "draw_effects",
    "estimate_drift",
    "estimate_noise",
    "find_spoilt",
    "find_spoilt_before_fit",
    "list_spoilt",
    "mean_of_labels",
    "open_dwi",
    "parse_patch",
    "preprocess",
    "protocol_files",
    "pulse_pair",
    "read_acquisition",
    "read_sigma",
    "tissue_mask",
    "twice_refocused",
    "undistort",
    "unring",
]
