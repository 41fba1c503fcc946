"""Settings of the node and the tools: frozen dataclasses that check themselves when they are made.

Paths may begin with ``~`` or ``~user``. Relative paths count from the folder in which the process
was started.

Every error names the parameter as the user wrote it, its value, and what is accepted. Properties of
a checkpoint (mean, std, input size, interpolation, licence) are in its model card; parameters say
only what a checkpoint leaves out, and never something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vit_perception.config.cameras.transports import TRANSPORTS
from vit_perception.config.checks import BadSetting, check_name
from vit_perception.config.column_settings import column_settings
from vit_perception.config.engine_settings import (
    DenseSettings,
    EngineSettings,
    ModelSettings,
    ZeroShotSettings,
)
from vit_perception.config.history_settings import HistorySettings
from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.config.named_groups import registered_groups
from vit_perception.config.parameter import ONCE, TOKENS, Section, param, require
from vit_perception.config.source_settings import (
    POSE_SOURCES,
    STATE_FIELDS,
    CameraSettings,
    PolicySettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.wire.tensors import ENCODINGS

__all__ = [
    "FUSIONS",
    "POSE_POLICIES",
    "POSE_SOURCES",
    "STATE_FIELDS",
    "SYNC_POLICIES",
    "TOKENIZERS",
    "TRANSPORTS",
    "BadSetting",
    "CameraSettings",
    "DenseSettings",
    "EncoderSettings",
    "EngineSettings",
    "FusionSettings",
    "HistorySettings",
    "LogSettings",
    "ModelSettings",
    "MonitorSettings",
    "OutputSettings",
    "PolicySettings",
    "PoseSettings",
    "StateSettings",
    "SyncSettings",
    "ZeroShotSettings",
    "check_name",
    "group_arguments",
]

POSE_POLICIES = ("mask", "require")
SYNC_POLICIES = ("wait", "mask")
FUSIONS = ("concat", "cross_attention")
TOKENIZERS = ("fourier", "linear", "mlp")

# The name of the source that makes the policy's state token.
POLICY = "policy"

LOWEST_RATE_HZ = 0.01  # one frame in 100 s; the waiting time of a smaller rate overflows a timer


@dataclass(frozen=True)
class FusionSettings(Section):
    """How pose and state tokens are made, and how all tokens become one embedding."""

    kind: str = param(
        "concat",
        "How ~/embedding is made. cross_attention needs fusion.weights.",
        name="fusion.kind",
        choices=FUSIONS,
        fixed=TOKENS,
    )
    weights: str = param(
        "",
        "safetensors file of the cross_attention fusion.",
        name="fusion.weights",
        fixed=TOKENS,
        is_path=True,
    )
    tokenizer: str = param(
        "fourier",
        "How a pose becomes a token. fourier needs no weights.",
        name="poses.tokenizer",
        choices=TOKENIZERS,
        fixed=TOKENS,
    )
    tokenizer_weights: str = param(
        "",
        "safetensors file of the linear or mlp tokenizer of poses.",
        name="poses.tokenizer_weights",
        fixed=TOKENS,
        is_path=True,
    )
    state_tokenizer: str = param(
        "fourier",
        "How a joint state becomes a token. fourier needs no weights.",
        name="states.tokenizer",
        choices=TOKENIZERS,
        fixed=TOKENS,
    )

    def __post_init__(self) -> None:
        self.check_parameters()
        if self.kind == "cross_attention":
            require(
                "fusion.weights",
                self.weights,
                "a safetensors file: untrained cross_attention gives noise, so it is refused",
            )
        if self.tokenizer != "fourier":
            require(
                "poses.tokenizer_weights",
                self.tokenizer_weights,
                f"a safetensors file: an untrained {self.tokenizer} gives noise, so it is refused",
            )


@dataclass(frozen=True)
class SyncSettings(Section):
    """How images of several cameras are grouped into one frame."""

    PREFIX: ClassVar[str] = "sync."

    slop_s: float = param(
        0.02,
        "Maximum difference of stamps within one group of images, in s.",
        unit="s",
        bounds=(0.0, 1.0),
    )
    policy: str = param(
        "wait", "What a silent camera does: wait for it, or mask it.", choices=SYNC_POLICIES
    )
    silent_after_s: float = param(
        0.5,
        "A camera that sends nothing for this time is silent, in s.",
        unit="s",
        bounds=(0.01, 60.0),
    )

    def __post_init__(self) -> None:
        self.check_parameters()


@dataclass(frozen=True)
class OutputSettings(Section):
    """What is sent, in which form, and at which rate."""

    dtype: str = param(
        "float32",
        "dtype of the tensors on the wire. int8 has one scale a token; embedding and policy_state "
        "stay float32.",
        name="output_dtype",
        choices=tuple(ENCODINGS),
    )
    basis: str = param(
        "",
        "File of `vit-perception basis`: patch tokens are sent as coefficients in eight bits, all "
        "others in float32 (docs/thin_link.md).",
        name="tokens.basis",
        fixed=TOKENS,
        is_path=True,
    )
    top_k: int = param(5, "Maximum number of classes in a classification.", bounds=(1, 1000))
    max_rate_hz: float = param(
        0.0,
        f"Maximum rate of the encoder in Hz, from {LOWEST_RATE_HZ:g}. 0 is no limit.",
        unit="Hz",
        bounds=(0.0, 1000.0),
        exact_bounds=False,
    )
    min_score: float = param(
        0.0, "Classes with a lower score are left out of a classification.", bounds=(0.0, 1.0)
    )
    views: bool = param(
        True, "Make feature_view and attention_view for those who subscribe to them."
    )

    def __post_init__(self) -> None:
        self.check_parameters()
        if self.basis and self.dtype != "float32":
            raise BadSetting("output_dtype", self.dtype, "float32 with tokens.basis")
        if self.max_rate_hz != 0.0 and not LOWEST_RATE_HZ <= self.max_rate_hz <= 1000.0:
            raise BadSetting(
                "max_rate_hz", self.max_rate_hz, f"0 for no bound, or {LOWEST_RATE_HZ:g} to 1000 Hz"
            )


@dataclass(frozen=True)
class LogSettings(Section):
    """What the node says while all is well."""

    # Time between two lines, in s; 0 is never.
    status_s: float = param(
        60.0,
        "Time between two lines in the log about rate, age, drops and held poses, in s. The first "
        "frame has a line too. 0 is off.",
        name="log_status_s",
        unit="s",
        bounds=(0.0, 86400.0),
    )

    def __post_init__(self) -> None:
        self.check_parameters()


@dataclass(frozen=True)
class EncoderSettings(Section):
    """Everything that the pipeline and the node are configured with."""

    # In the order of the engine's batch.
    cameras: tuple[CameraSettings, ...]
    poses: tuple[PoseSettings, ...] = ()
    pose_policy: str = param(
        "mask",
        "What a missing pose does to the frame: mask the token, or require the pose (drop).",
        name="poses.policy",
        choices=POSE_POLICIES,
    )
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    fusion: FusionSettings = field(default_factory=FusionSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    log: LogSettings = field(default_factory=LogSettings)
    states: tuple[StateSettings, ...] = ()
    state_policy: str = param(
        "mask",
        "What a missing joint state does to the frame: mask the token, or require it (drop).",
        name="states.policy",
        choices=POSE_POLICIES,
    )
    zero_shot: ZeroShotSettings = field(default_factory=ZeroShotSettings)
    dense: DenseSettings = field(default_factory=DenseSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    columns: tuple[str, ...] = param(
        (),
        "Numbers of other topics that recordings are embedded with, each NAME=TOPIC[:FIELD]"
        "[@hold or @linear[:SECONDS]] (docs/bags.md). The node itself does not read them.",
        fixed=ONCE,
    )
    # The settings of further named groups, by the group's prefix.
    extra: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require("camera_names", list(self.cameras), "at least one camera's name")
        self.check_parameters()
        # All sources share the names of the topics below the node.
        names: list[str] = []
        for group in registered_groups():
            names += [source.name for source in self.group(group.prefix)]
            if repeated := sorted({n for n in names if names.count(n) > 1}):
                raise BadSetting(
                    group.names_parameter,
                    repeated,
                    "names that differ from each other, cameras, arms and states together",
                )
            if self.policy.state and POLICY in names:
                raise BadSetting(
                    group.names_parameter,
                    [POLICY],
                    f"another name than {POLICY}, which is that of the token of policy.state",
                )
        column_settings(self.columns, names)
        if self.engine.file and self.model.more_checkpoints:
            raise BadSetting(
                "engine.file",
                self.engine.file,
                "'' with model.more_checkpoints: each encoder has an engine of its own, and a file "
                "holds one. Build each on the robot, or copy the engine cache",
            )
        if self.fusion.state_tokenizer != "fourier":
            for state in self.states:
                require(
                    f"{state.prefix}tokenizer_weights",
                    state.tokenizer_weights,
                    "a safetensors file: an untrained "
                    f"{self.fusion.state_tokenizer} gives noise, so it is refused",
                )

    def group(self, prefix: str) -> tuple[Any, ...]:
        """Return the settings of the named group ``prefix``, in order; () if there are none."""
        own = {"cameras": self.cameras, "poses": self.poses, "states": self.states}
        return own[prefix] if prefix in own else tuple(self.extra.get(prefix, ()))


def group_arguments(groups: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return ``groups``, settings by the group's prefix, as arguments of EncoderSettings."""
    own = {"cameras", "poses", "states"}
    return {
        **{prefix: sources for prefix, sources in groups.items() if prefix in own},
        "extra": {
            prefix: sources for prefix, sources in groups.items() if sources and prefix not in own
        },
    }
