"""An engine that was opened and has passed the parity gate."""

from typing import TYPE_CHECKING, NamedTuple

from vit_perception.config.settings import BadSetting
from vit_perception.engines.cuda.fault import GpuLost
from vit_perception.engines.engine import Engine, EngineError, EngineSpec, ParityError
from vit_perception.engines.source import EngineSource

if TYPE_CHECKING:
    import numpy as np

    from vit_perception.engines.parity_gate import ParityReport


class Verified(NamedTuple):
    """What :func:`open_verified` opened."""

    engine: Engine
    report: "ParityReport"
    was_cached: bool | None  # as Engine.open returns it


def open_verified(
    engine: Engine,
    source: EngineSource,
    spec: EngineSpec,
    images: "np.ndarray",
    min_cosine: float = 0.0,
) -> Verified:
    """Open ``engine`` and run the parity gate on ``images``.

    ``images`` is (n, 3, H, W) uint8, and n a multiple of the batch. ``min_cosine`` 0 is the default
    of the precision. The engine is closed when this raises.

    Raises:
        ParityError: The engine runs but does not pass. The message has the figures and the limits.
        EngineError: It does not open, or fails to run.
        BadSetting: The calibration images cannot be read.
        GpuLost: This process can no longer use the GPU, and has to end.
    """
    from vit_perception.engines.parity_gate import ParityLimits, measure, run_batches

    was_cached = engine.open(source, spec)
    compared = f"{engine.name} {spec} with the float32 model on {len(images)} pictures"
    source.log.info(f"comparing {compared}")
    try:
        outputs = run_batches(engine.infer, images, spec.batch)
        report = measure(outputs, source.reference(images))
        failures = report.failures(ParityLimits.for_precision(engine.precision, min_cosine))
        if failures:
            raise ParityError(
                f"{engine.runtime} {spec} does not agree with the float32 model: "
                f"{'; '.join(failures)} ({report})"
            )
    except (EngineError, BadSetting, GpuLost):
        engine.close()
        raise
    except Exception as error:  # each runtime raises types of its own
        engine.close()
        raise EngineError(
            f"{engine.runtime} {engine.precision} fails to run: {type(error).__name__}: {error}"
        ) from error
    return Verified(engine, report, was_cached)
