"""A parameter file of the node, as text with comments: where each value comes from."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vit_perception.config.offline_settings import read_parameters
from vit_perception.config.parameter_files import plain_value
from vit_perception.files.atomic import whole_file
from vit_perception.files.errors import printable
from vit_perception.ros.suggest.choice import Chosen, Suggestion
from vit_perception.ros.suggest.seen import GraphSeen, TopicSeen
from vit_perception.ros.suggest.timing import Setting

DEFAULT_CHECKPOINT = "demo"
_WIDTH = 120  # of a line of a comment
_COLUMN = 54  # where comments begin
_MOST_COMMENT = 400  # characters; topics and frames are anybody's
_MOST_LEFT_OUT = 40
_INDENT = "    "
_TITLES = {
    "cameras": ("camera_names", "their order is the order of the token groups"),
    "poses": ("pose_names", ""),
    "states": ("state_names", ""),
    "wrenches": ("wrench_names", ""),
}
# Texts without quotes that mean themselves; everything else is quoted.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/.")


def parameter_text(suggestion: Suggestion, graph: GraphSeen, checkpoint: str, when: str) -> str:
    """Return the file's text. ``checkpoint`` "" leaves the model to the user; ``when`` is the time
    of writing, for people.
    """
    lines = [
        *_comment(
            f"Parameters for the topics that `vit-perception doctor` found on ROS domain "
            f"{graph.domain}, {when}, in {graph.listened_s:.0f} s. Rates are by the stamps."
        ),
        *_comment(
            "Topic names are relative, so that a namespace moves the whole node, inputs too; a "
            "name that begins with / stays. Without a namespace they are the topics that were "
            "found. Every parameter that is not here has a default (README.md). The node "
            "subscribes best effort and volatile, which every publisher matches."
        ),
    ]
    if graph.has_clock:
        lines += _comment("/clock is published: -p use_sim_time:=true takes the time from it.")
    for text in suggestion.wrong:
        lines += _comment(f"WARNING: {text}")
    lines += ["/**:", "  ros__parameters:"]
    for prefix, chosen in suggestion.groups.items():
        if chosen:
            lines += [*_group(prefix, chosen), ""]
    if not suggestion.groups.get("poses"):
        lines += [*_no_arm(graph), ""]
    if suggestion.sync:
        lines += [*(_line(setting) for setting in suggestion.sync), ""]
    lines += [_line(setting) for setting in _model(checkpoint)]
    lines += _left_out(suggestion.left_out, graph)
    return "\n".join(lines) + "\n"


def write_parameters(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, complete or not at all, and replace what is there.

    The node's own reader reads it first.

    Raises:
        BadSetting: the node would refuse the parameters. The file is not written.
        OSError: the file cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
        read_parameters(partial)


def _group(prefix: str, chosen: Sequence[Chosen]) -> Iterator[str]:
    names, order = _TITLES[prefix]
    yield _line(Setting(names, tuple(each.name for each in chosen), order if chosen[1:] else ""))
    for each in chosen:
        published = f"published by {'; '.join(each.topic.publishers)}"
        yield _line(Setting(f"{prefix}.{each.name}.topic", _relative(each.topic.name), published))
        yield from map(_line, each.settings)
        for note in each.notes:
            yield from _comment(note, _INDENT)


def _no_arm(graph: GraphSeen) -> Iterator[str]:
    yield from _comment("No arm: no PoseStamped with measurements came.", _INDENT)
    if graph.has_tf:
        yield from _comment("TF is published; a pose can come from it:", _INDENT)
        yield f"{_INDENT}# pose_names: [arm]"
        yield f"{_INDENT}# poses.arm.source: tf"
        yield f"{_INDENT}# poses.arm.base_frame: base_link"
        yield f"{_INDENT}# poses.arm.ee_frame: tool0"


def _model(checkpoint: str) -> Iterator[Setting]:
    what = "a folder, a file, hf://owner/name, or demo (DINOv2 ViT-S/14)"
    if checkpoint:
        yield Setting("model.checkpoint", checkpoint, "as it was given")
    else:
        yield Setting("model.checkpoint", DEFAULT_CHECKPOINT, f"FILL IN your model: {what}")


def _left_out(left_out: Sequence[tuple[TopicSeen, str]], graph: GraphSeen) -> Iterator[str]:
    if not left_out and not graph.unheard:
        return
    yield ""
    yield from _comment("Not used:", _INDENT)
    for topic, why in left_out[:_MOST_LEFT_OUT]:
        yield from _comment(f"{topic.name} ({topic.type}): {why}", _INDENT)
    more = len(left_out) - _MOST_LEFT_OUT
    if more > 0:
        yield from _comment(f"{more} more topics", _INDENT)
    if graph.unheard:
        yield from _comment(
            f"{len(graph.unheard)} more topics were not listened to: "
            f"{', '.join(graph.unheard[:5])}",
            _INDENT,
        )


def _line(setting: Setting) -> str:
    line = f"{_INDENT}{setting.name}: {yaml_value(setting.value)}"
    if not setting.why:
        return line
    return f"{line:<{_COLUMN}}  # {_one_line(setting.why)}"


def yaml_value(value: bool | float | str | tuple[str, ...]) -> str:
    """Return ``value`` as ROS and YAML read it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = f"{value:g}"
        return text if "." in text or "e" in text else f"{text}.0"
    if isinstance(value, tuple):
        return f"[{', '.join(map(yaml_value, value))}]"
    is_plain = value and set(value) <= _PLAIN and value[0] not in "." and value[-1] != "."
    # What would be a number or a truth value to ROS is quoted. JSON's texts are YAML's, too.
    if is_plain and plain_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _relative(topic: str) -> str:
    return topic.removeprefix("/")


def _comment(text: str, indent: str = "") -> Iterable[str]:
    """Lines of a comment. Characters that could end the line are escaped."""
    words = _one_line(text).split(" ")
    line = f"{indent}#"
    for word in words:
        if len(line) + 1 + len(word) > _WIDTH and line.strip() != "#":
            yield line
            line = f"{indent}#  "
        line += f" {word}"
    yield line


def _one_line(text: str) -> str:
    return printable(text, _MOST_COMMENT, keep="")
