"""Settings of the node and the tools, as frozen dataclasses that check themselves on construction.

Paths may begin with ``~`` or ``~user``; relative ones count from the folder that the process was
started in.

Every error names the parameter as the user wrote it, its value, and what would be accepted. What
belongs to a checkpoint (mean, std, input size, interpolation, licence) is not here: it travels in
its model card.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from vit_perception.config.body_settings import (  # noqa: F401 - part of the settings
    POSE_SOURCES,
    STATE_FIELDS,
    PoseSettings,
    StateSettings,
)
from vit_perception.config.checks import (
    BadSetting,
    check_labels,
    check_name,
    expand_paths,
    one_of,
    within,
)

BACKENDS = ("auto", "tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
PROVIDERS = ("cpu", "cuda", "tensorrt")
ENGINE_FILE_BACKENDS = ("tensorrt", "tensorrt_rtx")
TRANSPORTS = ("raw", "compressed")
POSE_POLICIES = ("mask", "require")
SYNC_POLICIES = ("wait", "mask")
FUSIONS = ("concat", "cross_attention")
TOKENIZERS = ("fourier", "linear", "mlp")
OUTPUT_DTYPES = ("float32", "float16")

MOST_DEVICE = 63  # the highest index of a GPU that a machine is thought to have
LOWEST_RATE_HZ = 0.01  # a frame in 100 s; the waiting time of a smaller rate overflows a timer

_SIZE = re.compile(r"^([1-9][0-9]{0,4})x([1-9][0-9]{0,4})$")


@dataclass(frozen=True)
class CameraSettings:
    """One camera: its topic, ``transport`` raw (Image) or compressed (CompressedImage), and its own
    head.

    ``zero_shot_labels`` stand in place of ``ZeroShotSettings.labels`` for this camera. ``labels``:
    names for the classes, instead of those that came with the head or the checkpoint.
    """

    name: str
    topic: str
    transport: str = "raw"
    head: str = ""
    zero_shot_labels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        check_name("camera_names", self.name)
        if not self.topic:
            raise BadSetting(f"cameras.{self.name}.topic", self.topic, "the name of an image topic")
        one_of(f"cameras.{self.name}.transport", self.transport, TRANSPORTS)
        check_labels(f"cameras.{self.name}.zero_shot_labels", self.zero_shot_labels)
        expand_paths(self, head=f"cameras.{self.name}.head")
        if self.head and self.zero_shot_labels:
            raise BadSetting(
                f"cameras.{self.name}.zero_shot_labels",
                list(self.zero_shot_labels),
                f"none for a camera with a head ({self.head})",
            )


@dataclass(frozen=True)
class ModelSettings:
    """``checkpoint``: a folder or file, ``hf://owner/name``, or ``demo``; ``block``: -1 is the last
    one.

    ``family`` is ``auto``, or the name of a family of checkpoints that the file is read as.
    ``network_size`` is the size that images are brought to, height and width in px (``518x686``);
    ``""`` is the checkpoint's own.
    """

    checkpoint: str = "demo"
    block: int = -1
    family: str = "auto"
    network_size: str = ""

    def __post_init__(self):
        within("model.block", self.block, -100, 100)
        if not self.checkpoint:
            raise BadSetting(
                "model.checkpoint", self.checkpoint, "a folder, a file, hf://owner/name, or demo"
            )
        expand_paths(self, checkpoint="model.checkpoint")
        if not self.family:
            raise BadSetting(
                "model.family", self.family, "auto, or the name of a family of checkpoints"
            )
        if self.network_size and not _SIZE.match(self.network_size):
            raise BadSetting(
                "model.network_size",
                self.network_size,
                "height and width in px, such as 518x686, or ''",
            )

    @property
    def network_size_px(self) -> tuple[int, int] | None:
        """``network_size`` as (height, width), None for the checkpoint's own."""
        match = _SIZE.match(self.network_size)
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class ZeroShotSettings:
    """Classes by their names, for CLIP and SigLIP: each label in each template is a prompt; empty
    labels: none.
    """

    labels: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("a photo of a {}.",)

    def __post_init__(self):
        check_labels("zero_shot.labels", self.labels)
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise BadSetting(
                "zero_shot.templates",
                list(self.templates),
                "at least one text with {} once, where the label goes",
            )


@dataclass(frozen=True)
class EngineSettings:
    """Which runtime and precision; ``min_cosine`` 0 takes the precision's default; ``threads`` 0 is
    all.

    ``provider`` is where onnxruntime runs. ``calibration``, which precision ``int8`` needs, is a
    rosbag2 folder or a folder of pictures of what the robot sees. ``device`` is the index of the
    GPU, as CUDA counts those that the process may see. a folder of pictures of what the robot sees.
    ``file`` is an engine that was built elsewhere, for TensorRT alone. ``check_memory``: a build
    that would run out of memory is refused before it starts.
    """

    backend: str = "auto"
    precision: str = "auto"
    min_cosine: float = 0.0
    threads: int = 0
    provider: str = "cpu"
    calibration: str = ""
    device: int = 0
    file: str = ""
    check_memory: bool = True

    def __post_init__(self):
        expand_paths(self, calibration="engine.calibration", file="engine.file")
        one_of("engine.backend", self.backend, BACKENDS)
        one_of("engine.precision", self.precision, PRECISIONS)
        within("engine.min_cosine", self.min_cosine, 0.0, 1.0)
        within("engine.threads", self.threads, 0, 256)
        one_of("engine.provider", self.provider, PROVIDERS)
        if self.provider != "cpu" and self.backend != "onnxruntime":
            raise BadSetting(
                "engine.provider",
                self.provider,
                f"cpu with engine.backend {self.backend}: the others belong to onnxruntime",
            )
        within("engine.device", self.device, 0, MOST_DEVICE)
        on_cpu = self.backend == "openvino" or (
            self.backend == "onnxruntime" and self.provider == "cpu"
        )
        if self.device and on_cpu:
            provider = (
                f" and engine.provider {self.provider}" if self.backend == "onnxruntime" else ""
            )
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
class DenseSettings:
    """Whether the checkpoint's dense head (depth, segmentation) is used; it runs only while someone
    subscribes.
    """

    enabled: bool = False


@dataclass(frozen=True)
class FusionSettings:
    """How pose and state tokens are made and joined with the image tokens; weights are safetensors
    files.
    """

    kind: str = "concat"
    weights: str = ""
    tokenizer: str = "fourier"
    tokenizer_weights: str = ""
    state_tokenizer: str = "fourier"

    def __post_init__(self):
        expand_paths(self, weights="fusion.weights", tokenizer_weights="poses.tokenizer_weights")
        one_of("fusion.kind", self.kind, FUSIONS)
        one_of("poses.tokenizer", self.tokenizer, TOKENIZERS)
        one_of("states.tokenizer", self.state_tokenizer, TOKENIZERS)
        if self.kind == "cross_attention" and not self.weights:
            raise BadSetting(
                "fusion.weights",
                self.weights,
                "a safetensors file: untrained cross_attention gives noise, so it is refused",
            )
        if self.tokenizer != "fourier" and not self.tokenizer_weights:
            raise BadSetting(
                "poses.tokenizer_weights",
                self.tokenizer_weights,
                f"a safetensors file: an untrained {self.tokenizer} gives noise, so it is refused",
            )


@dataclass(frozen=True)
class SyncSettings:
    """Several cameras are one group when their stamps lie within ``slop_s`` of each other."""

    slop_s: float = 0.02
    policy: str = "wait"
    silent_after_s: float = 0.5

    def __post_init__(self):
        within("sync.slop_s", self.slop_s, 0.0, 1.0, "s")
        one_of("sync.policy", self.policy, SYNC_POLICIES)
        within("sync.silent_after_s", self.silent_after_s, 0.01, 60.0, "s")


@dataclass(frozen=True)
class OutputSettings:
    """``dtype`` of the tensors on the wire; at most ``top_k`` classes, of ``min_score`` and more;

    ``max_rate_hz`` 0 is no bound; ``views`` False leaves the pictures for people out, whoever
    subscribes.
    """

    dtype: str = "float32"
    top_k: int = 5
    max_rate_hz: float = 0.0
    min_score: float = 0.0
    views: bool = True

    def __post_init__(self):
        one_of("output_dtype", self.dtype, OUTPUT_DTYPES)
        within("top_k", self.top_k, 1, 1000)
        if self.max_rate_hz != 0.0 and not LOWEST_RATE_HZ <= self.max_rate_hz <= 1000.0:
            raise BadSetting(
                "max_rate_hz", self.max_rate_hz, f"0 for no bound, or {LOWEST_RATE_HZ:g} to 1000 Hz"
            )
        within("min_score", self.min_score, 0.0, 1.0)


@dataclass(frozen=True)
class EncoderSettings:
    """Everything the pipeline and the node are configured with."""

    cameras: tuple[CameraSettings, ...]
    poses: tuple[PoseSettings, ...] = ()
    pose_policy: str = "mask"
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    fusion: FusionSettings = field(default_factory=FusionSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    states: tuple[StateSettings, ...] = ()
    state_policy: str = "mask"
    zero_shot: ZeroShotSettings = field(default_factory=ZeroShotSettings)
    dense: DenseSettings = field(default_factory=DenseSettings)
    extra: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self):
        if not self.cameras:
            raise BadSetting("camera_names", [], "at least one camera's name")
        one_of("poses.policy", self.pose_policy, POSE_POLICIES)
        one_of("states.policy", self.state_policy, POSE_POLICIES)
        # Cameras, arms and states share the name space of the topics below the node.
        names: list[str] = []
        for parameter, sources in (
            ("camera_names", self.cameras),
            ("pose_names", self.poses),
            ("state_names", self.states),
        ):
            names += [source.name for source in sources]
            if repeated := sorted({n for n in names if names.count(n) > 1}):
                raise BadSetting(
                    parameter,
                    repeated,
                    "names that differ from each other, cameras, arms and states together",
                )
        for state in self.states:
            if self.fusion.state_tokenizer != "fourier" and not state.tokenizer_weights:
                raise BadSetting(
                    f"states.{state.name}.tokenizer_weights",
                    "",
                    "a safetensors file: an untrained "
                    f"{self.fusion.state_tokenizer} gives noise, so it is refused",
                )
