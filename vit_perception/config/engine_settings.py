"""Settings of the checkpoint and of the engine that runs it."""

import re
from dataclasses import dataclass
from typing import ClassVar

from vit_perception.config.backends import (
    BACKEND_NAMES,
    ENGINE_FILE_BACKENDS,
    PRECISIONS,
    PROVIDERS,
    runs_on_cpu_only,
)
from vit_perception.config.by_hand import ByHand
from vit_perception.config.checks import BadSetting, check_labels
from vit_perception.config.parameter import ENCODED, ENGINE, Section, param, require

CONNECTORS = ("auto", "none")
MOST_DEVICE = 63  # the highest accepted index of a GPU
MOST_ENCODERS = 8  # in one node
MOST_SIDE_PX = 99_999  # of an image, as it reaches the network

_SIZE = re.compile(r"^([1-9][0-9]{0,4})x([1-9][0-9]{0,4})$")


@dataclass(frozen=True)
class ModelSettings(Section):
    """Which checkpoint is loaded, and which part of it is used."""

    PREFIX: ClassVar[str] = "model."

    checkpoint: str = param(
        "demo",
        "Checkpoint: a folder, a file, hf://owner/name, or demo (DINOv2 ViT-S/14). "
        "docs/checkpoints.md lists the families.",
        fixed=ENGINE,
        is_path=True,
    )
    block: int = param(
        -1,
        "Transformer block whose tokens are output, from 0. -1 is the last block.",
        bounds=(-100, 100),
        fixed=ENGINE,
    )
    family: str = param(
        "auto",
        "Family of model.checkpoint. auto detects it; set the name if detection fails.",
        fixed=ENGINE,
    )
    network_size: str = param(
        "",
        "Height and width in px to which images are resized, for example 518x686, in multiples of "
        "the patch size. '' is the checkpoint's own.",
        fixed=ENGINE,
    )
    connector: str = param(
        "auto",
        "What a policy puts behind its encoder. auto runs it, so that tokens have the policy's "
        "width; none gives the encoder's own tokens (docs/policies.md).",
        choices=CONNECTORS,
        fixed=ENGINE,
    )
    more_checkpoints: tuple[str, ...] = param(
        (),
        "Further checkpoints, whose encoders see the same images, each with its own "
        "preprocessing. All need tokens of one width (docs/encoders.md). [] or no key is none.",
        fixed=ENGINE,
        is_path=True,
    )

    mean: tuple[float, ...] = param(
        (),
        "Mean of R, G, B for pixels from 0 to 1, for a model.checkpoint that does not say how "
        "images are prepared (docs/checkpoints.md). What it says itself is never replaced.",
        bounds=(0.0, 1.0),
        count=3,
        fixed=ENGINE,
    )
    std: tuple[float, ...] = param(
        (),
        "Standard deviation of R, G, B, given together with model.mean; each above 0.",
        bounds=(0.0, 1.0),
        count=3,
        fixed=ENGINE,
    )
    size: tuple[int, ...] = param(
        (),
        "Height and width in px of the model's images in training, given together with model.mean. "
        "model.network_size may still name another size.",
        bounds=(1, MOST_SIDE_PX),
        count=2,
        fixed=ENGINE,
    )

    def __post_init__(self) -> None:
        require("model.checkpoint", self.checkpoint, "a folder, a file, hf://owner/name, or demo")
        require("model.family", self.family, "auto, or the name of a family of checkpoints")
        self.check_parameters()
        self._check_more()
        if self.std and not all(self.std):
            raise BadSetting(
                "model.std", list(self.std), "list of 3 floats above 0, up to 1, or []"
            )
        if self.network_size and not _SIZE.match(self.network_size):
            raise BadSetting(
                "model.network_size",
                self.network_size,
                "height and width in px, such as 518x686, or ''",
            )

    def _check_more(self) -> None:
        """Check the list of further checkpoints, with paths that are expanded."""
        more = self.more_checkpoints
        checkpoints = (self.checkpoint, *more)
        if len(checkpoints) > MOST_ENCODERS or not all(more):
            raise BadSetting(
                "model.more_checkpoints",
                list(more),
                f"up to {MOST_ENCODERS - 1} values as of model.checkpoint, none of them empty",
            )
        if len(set(checkpoints)) < len(checkpoints):
            raise BadSetting(
                "model.more_checkpoints",
                list(more),
                f"checkpoints that differ from each other and from model.checkpoint, which is "
                f"{self.checkpoint}",
            )

    @property
    def by_hand(self) -> ByHand:
        """What is given of the preprocessing of ``checkpoint``."""
        return ByHand(self.mean, self.std, self.size)

    @property
    def network_size_px(self) -> tuple[int, int] | None:
        """``network_size`` as (height, width), or None for the checkpoint's own."""
        match = _SIZE.match(self.network_size)
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class ZeroShotSettings(Section):
    """Classes by their names, for CLIP, SigLIP, TIPS. Each label in each template is one prompt."""

    PREFIX: ClassVar[str] = "zero_shot."

    labels: tuple[str, ...] = param(
        (),
        "Names of classes, for CLIP, SigLIP and TIPS checkpoints (docs/zero_shot.md). [] or no key "
        "is none.",
        fixed=ENCODED,
    )
    templates: tuple[str, ...] = param(
        ("a photo of a {}.",),
        "Texts with {} where the label goes. The prompts of a label are averaged.",
        fixed=ENCODED,
    )

    def __post_init__(self) -> None:
        check_labels("zero_shot.labels", self.labels)
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise BadSetting(
                "zero_shot.templates",
                list(self.templates),
                "at least one text with {} once, where the label goes",
            )


@dataclass(frozen=True)
class EngineSettings(Section):
    """Which runtime runs the encoder, in which precision, and where."""

    PREFIX: ClassVar[str] = "engine."

    backend: str = param(
        "auto",
        "Runtime. A runtime that is named and cannot open is an error.",
        choices=("auto", *BACKEND_NAMES),
        fixed=ENGINE,
    )
    precision: str = param(
        "auto",
        "Precision. auto takes the fastest that the device has.",
        choices=("auto", *PRECISIONS),
        fixed=ENGINE,
    )
    min_cosine: float = param(
        0.0,
        "Minimum similarity to the float32 model. 0 is 0.999, and 0.99 for int8.",
        bounds=(0.0, 1.0),
        fixed=ENGINE,
    )
    threads: int = param(0, "CPU threads; 0 uses all cores.", bounds=(0, 256), fixed=ENGINE)
    provider: str = param(
        "cpu",
        "Where onnxruntime runs, if its build can. Other runtimes have no such choice.",
        choices=PROVIDERS,
        fixed=ENGINE,
    )
    calibration: str = param(
        "",
        "For int8 (OpenVINO): a rosbag2 folder or a folder of pictures of what the robot sees.",
        fixed=ENGINE,
        is_path=True,
    )
    device: int = param(
        0,
        "Index of the GPU, as CUDA counts them. `vit-perception doctor` lists them.",
        bounds=(0, MOST_DEVICE),
        fixed=ENGINE,
    )
    file: str = param(
        "",
        "TensorRT engine that `vit-perception build --out` made on another machine. '' builds one "
        "or takes it from the cache.",
        fixed=ENGINE,
        is_path=True,
    )
    check_memory: bool = param(
        True,
        "Refuse to build a TensorRT engine if less memory is free than the build takes.",
        fixed=ENGINE,
    )

    def __post_init__(self) -> None:
        self.check_parameters()
        if self.provider != "cpu" and self.backend != "onnxruntime":
            raise BadSetting(
                "engine.provider",
                self.provider,
                f"cpu with engine.backend {self.backend}: the others belong to onnxruntime",
            )
        if self.device and runs_on_cpu_only(self.backend, self.provider):
            with_providers = self.backend == "onnxruntime"
            provider = f" and engine.provider {self.provider}" if with_providers else ""
            raise BadSetting(
                "engine.device",
                self.device,
                f"0 with engine.backend {self.backend}{provider}, which runs on the CPU",
            )
        if self.file and self.backend not in ("auto", *ENGINE_FILE_BACKENDS):
            raise BadSetting(
                "engine.file",
                self.file,
                f"'' with engine.backend {self.backend}: such a file belongs to "
                f"{' or '.join(ENGINE_FILE_BACKENDS)}",
            )


@dataclass(frozen=True)
class DenseSettings(Section):
    """Whether the dense head of the checkpoint (depth, segmentation) is used."""

    PREFIX: ClassVar[str] = "dense."

    enabled: bool = param(
        False,
        "Publish the depth or segmentation of a checkpoint with such a head.",
        fixed=ENGINE,
    )
