"""The monitor of a pipeline, made of the reference that the settings name and that fits them."""

from collections.abc import Iterable, Sequence

from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import EncoderSettings
from vit_perception.image.patch_geometry import plan_resize
from vit_perception.pipeline.encoders import EncoderParts
from vit_perception.pipeline.monitor.monitor import Monitor
from vit_perception.pipeline.monitor.reference import Reference, View
from vit_perception.pipeline.monitor.reference_file import load_reference
from vit_perception.wire.records import BadInput

PARAMETER = "monitor.reference"


def monitor_of(settings: EncoderSettings, encoders: Sequence[EncoderParts]) -> Monitor | None:
    """Return the monitor; None without ``monitor.reference``.

    Raises:
        BadSetting: ``monitor.reference``: as :func:`check_fits` says.
        InvalidValue: The reference cannot be read.
    """
    path = settings.monitor.reference
    if not path:
        return None
    reference = load_reference(path)
    check_fits(reference, settings, encoders, path)
    return Monitor(reference, settings.monitor)


def check_fits(
    reference: Reference, settings: EncoderSettings, encoders: Sequence[EncoderParts], name: str
) -> None:
    """Check that ``reference``, called ``name``, is one of this encoder and these cameras.

    Raises:
        BadSetting: ``monitor.reference``: it was learnt from another encoder, other cameras, or
            other patches. The message names both.
    """
    if len(encoders) > 1:
        raise BadSetting(PARAMETER, name, "'' with model.more_checkpoints")
    encoder = encoders[0]
    if reference.encoder_sha256 != encoder.encoder_sha256:
        raise BadSetting(
            PARAMETER,
            name,
            f"a reference of {encoder.card.name}, block {encoder.block} (encoder "
            f"{encoder.encoder_sha256[:12]}); this one was learnt from {reference.model} (encoder "
            f"{reference.encoder_sha256[:12]})",
        )
    _check_names(name, settings, reference)
    for camera in settings.cameras:
        learnt = reference.cameras[camera.name]
        try:
            plan = plan_resize(encoder.card.rule, learnt.view.source_size_px, camera.region)
        except BadInput as error:
            raise BadSetting(
                PARAMETER, name, f"a reference that fits camera {camera.name}: {error}"
            ) from error
        seen = View(
            grid=encoder.grid,
            patch_size_px=encoder.patch_size_px,
            source_size_px=learnt.view.source_size_px,
            scale=plan.scale,
            offset_px=plan.offset_px,
            rectified=camera.rectify,
        )
        if not seen.fits(learnt.view):
            raise BadSetting(
                PARAMETER,
                name,
                f"a reference with camera {camera.name} as it is here, {seen}; this one was learnt "
                f"from {learnt.view}",
            )
        if learnt.channels != encoder.width:
            raise BadSetting(
                PARAMETER,
                name,
                f"a reference of {encoder.width} channels; this one has {learnt.channels}",
            )


def _check_names(name: str, settings: EncoderSettings, reference: Reference) -> None:
    here = {camera.name for camera in settings.cameras}
    if here != set(reference.cameras):
        raise BadSetting(
            PARAMETER,
            name,
            f"a reference of the cameras {_listed(here)}; this one has "
            f"{_listed(reference.cameras)}",
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
