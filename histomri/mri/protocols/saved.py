"""What `Acquisition.save` wrote."""

from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import Format, register

register(
    Format(
        name="saved",
        form="what Acquisition.save wrote",
        recognises=lambda source: "delta_ms" in source.json and "waveforms" not in source.json,
        read=lambda source: Acquisition.from_json(source.json, source.path),
    )
)
