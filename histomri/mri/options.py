"""The options of `histomri preprocess`, and what every command on diffusion images is given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from histomri import mri
from histomri.core.options import Choices, Flag, Options, Positive, Text, Whole, argument, check, given, option
from histomri.core.presets import PRESET_NAMES


def _refuse_empty(value: object) -> object:
    if not str(value).strip():
        raise ValueError("no protocol is named")
    return value


Protocol = Annotated[Annotated[str, Choices(PRESET_NAMES)] | Path, BeforeValidator(_refuse_empty)]
PROTOCOL = "Table of b (s/mm²), δ, Δ[, TE] (ms); .bval; JSON; files of Camino, MRtrix, Bruker, qMRLab; or a preset."


class ProtocolOptions(Options):
    """What a command with a protocol is given, which depends on b alone."""

    protocol_format: Text | None = given(
        None, "Format of the protocol file, if it fits two; a wrong name lists all.", flag="--format"
    )
    b0_below: Positive | None = given(None, "Smaller b count as b = 0; default: 10, or as Bruker says.", unit="s/mm²")

    @property
    def reading(self) -> dict[str, Any]:
        """How `read_acquisition` reads the protocol."""
        return {"format": self.protocol_format, "b0_below_smm2": self.b0_below, "timing": False}

    def reads(self) -> Iterator[Path]:
        """Yield every file: also those that a protocol, or an image in two files, consists of."""
        protocol, dwi = getattr(self, "protocol"), getattr(self, "dwi", None)  # noqa: B009 - fields of the subclasses
        for path in super().reads():
            if path != protocol:
                yield path
            yield from (pair for end in _PAIRS.get(path.suffix, ()) if (pair := path.with_suffix(end)).exists())
        yield from mri.protocol_files(protocol, dwi)


class TimedOptions(ProtocolOptions):
    """What a command with a protocol is given, which depends on the times of its gradients too."""

    delta_ms: Positive | None = given(None, "δ of all volumes, if the file lacks it.", flag="--delta", unit="ms")
    Delta_ms: Positive | None = given(None, "Δ of all volumes, if the file lacks it.", flag="--Delta", unit="ms")
    te_ms: Positive | None = given(None, "TE of all volumes, if the file lacks it.", flag="--te", unit="ms")
    needs_timing: ClassVar[bool] = True

    @property
    def reading(self) -> dict[str, Any]:
        """How `read_acquisition` reads the protocol."""
        times = {"delta_ms": self.delta_ms, "Delta_ms": self.Delta_ms, "te_ms": self.te_ms}
        return super().reading | times | {"timing": self.needs_timing}


_PAIRS = {".img": (".hdr",), ".hdr": (".img", ".img.gz")}


class ImagesOptions(ProtocolOptions):
    """What a command on diffusion images is given, which depends on b alone."""

    dwi: Path = argument("4D NIfTI of diffusion images.")
    protocol: Protocol = given(..., PROTOCOL)
    sub: Text | None = given(None, "Label of the sample, for the names of the files.")
    exclude_volumes: tuple[Annotated[Whole, Field(ge=0)], ...] = given(
        (), "Volumes to leave out, counted from 0.", metavar="12,15", commas=True
    )


def _patch(text: str) -> str:
    mri.parse_patch(text)
    return text


class PreprocessOptions(ImagesOptions, TimedOptions):
    """Prepare raw diffusion images for fitting: denoise, unring, align, undistort, correct drift, mask, in this order.

    Example: histomri preprocess raw.nii.gz --protocol invivo-3t -o mri --no-unring
    Example: histomri preprocess raw.nii.gz --protocol FILE -o mri --patch 7x7x3 --field-map field.nii.gz
    """

    dwi: Path = argument("4D NIfTI of raw magnitude images, in the order of acquisition.")
    denoise: Flag = option(True, "Denoise by MP-PCA, which also gives the noise map.")
    unring: Flag = option(True, "Remove Gibbs ringing within slices.")
    motion: Flag = option(True, "Align the volumes rigidly (slice by slice in thin stacks).")
    needs_timing: ClassVar[bool] = False
    drift_reference: Path | None = given(
        None, "NIfTI mask of saline, a phantom or muscle: the drift of its signal is divided out."
    )
    drift_order: Annotated[Whole, Field(ge=1, le=2)] = option(1, "1: linear drift; 2: with a square.")
    spoilt: Flag = option(True, "Look for volumes that are spoilt in a slice, and report them.")
    mask: Flag = option(True, "Make a tissue mask from the volumes at b = 0.")
    patch: Annotated[Text, check(_patch)] | None = option(
        None, "Patch of MP-PCA in voxels, or 5x5: slice by slice; default: 5x5x5, wider if volumes are many.",
        metavar="7x7x3",
    )  # fmt: skip
    motion_kind: Literal["rigid", "affine"] = option(
        "rigid", "Motion: rigid, or affine: stretches and shears too, as eddy currents make them."
    )
    field_map: Path | None = given(None, "Map of the field in Hz (topup --fout), by which distortion is undone.")
    readout_ms: Positive | None = option(
        None, "Total readout time, for --field-map; default: TotalReadoutTime of the sidecar.", unit="ms"
    )
    phase_encoding: Literal["i", "i-", "j", "j-", "k", "k-"] | None = option(
        None, "Axis of phase encoding, for --field-map; default: PhaseEncodingDirection of the sidecar."
    )
    eddy: Path | None = given(None, "BASENAME.eddy_parameters of the eddy run that made the images, to report it.")

    def reads(self) -> Iterator[Path]:
        """Yield every file, also the outlier map beside the parameters of eddy."""
        yield from super().reads()
        if self.eddy is not None:
            beside = self.eddy.with_name(f"{self.eddy.name.removesuffix('.eddy_parameters')}.eddy_outlier_map")
            yield from (each for each in (beside,) if each.exists())

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that are switched on."""
        wanted = {
            "denoise": self.denoise,
            "unring": self.unring,
            "motion": self.motion,
            "mask": self.mask,
            "spoilt": self.spoilt,
        }
        wanted |= {"undistort": self.field_map is not None, "drift": self.drift_reference is not None}
        return tuple(name for name, on in wanted.items() if on)

    @model_validator(mode="after")
    def _do_something(self) -> "PreprocessOptions":
        if not self.steps:
            raise ValueError("every step is switched off; leave one of them on")
        if self.field_map is None and (self.readout_ms is not None or self.phase_encoding is not None):
            raise ValueError("{readout_ms} and {phase_encoding} belong to {field_map}; give it, or leave them out")
        return self
