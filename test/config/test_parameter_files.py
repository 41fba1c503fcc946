"""Parameter files are read as rclpy reads them: the same files through both."""

import importlib.metadata
import math
import os

import pytest

from vit_perception.config.parameter_files import ParameterFile, expanded_topic
from vit_perception.files.errors import InvalidValue

P = "ros__parameters"
VALUES = [
    "1",
    "0x10",
    "010",
    "08",
    "0o17",
    "1_000",
    "1:30",
    "1e3",
    "1e-3",
    "1.5e3",
    ".5",
    "5.",
    "1e400",
    "1e-400",
    "1e-310",
    "0e5",
    "nan",
    "inf",
    "-infinity",
    ".inf",
    "-.inf",
    "+.NaN",
    ".nan",
    "99999999999999999999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "+5",
    "-0",
    "0x1p3",
    "0x.8",
    "yes",
    "Y",
    "n",
    "OFF",
    "True",
    "tRUE",
    "null",
    "~",
    "2020-01-01",
    "'5'",
    '"5"',
    "'yes'",
    "''",
    "['']",
    "[a,'5']",
    "[1,2]",
    "[.5,1e3]",
    "[yes,no]",
    "[]",
    "!!str|5",
    "!!str|yes",
    "!!int|'5'",
    "!!float|5",
    "!foo|5",
    "&x|5",
    "a#b",
    "http://a:1/x",
    "-a",
    '"\\0"',
    '"a\\tb"',
    "0x",
    "1e",
    "0x1p999",
    "0x1p-1080",
    "1e308",
]
FILES = {
    "later section": f"/vit_encoder: {{{P}: {{a: 1, b: 1}}}}\n/**: {{{P}: {{a: 2}}}}",
    "later name": f"/**: {{{P}: {{a: 2}}}}\nvit_encoder: {{{P}: {{a: 1}}}}",
    "first place counts": f"vit_encoder: {{{P}: {{a: 1}}}}\n/**: {{{P}: {{a: 2}}}}\nvit_encoder: "
    f"{{{P}: {{a: 3}}}}",
    "slash": f"/vit_encoder: {{{P}: {{a: 1}}}}\nvit_encoder: {{{P}: {{a: 2}}}}",
    "others": f"camera: {{{P}: {{fps: 30}}}}\n/ns/vit_encoder: {{{P}: {{a: 3}}}}\nvit_encoder: "
    f"{{{P}: {{a: 1}}}}",
    "nested": f"ns: {{vit_encoder: {{{P}: {{a: 1}}}}, x: {{{P}: {{a: 2}}}}, in: {{vit_encoder: "
    f"{{{P}: {{b: 1}}}}}}}}",
    "nested slash": f"/ns: {{vit_encoder: {{{P}: {{a: 1}}}}}}\nns/: {{in: {{vit_encoder: {{{P}: "
    f"{{b: 1}}}}}}}}",
    "below all": f"/**: {{{P}: {{a: 1}}, vit_encoder: {{{P}: {{a: 2}}}}, other: {{{P}: {{a: "
    f"3}}}}}}",
    "wildcards": "".join(
        f"{name}: {{{P}: {{v{k}: 1}}}}\n"
        for k, name in enumerate(
            (
                "/*",
                "/ns/*",
                "/*/*",
                "/**/*",
                "/ns/**",
                "/ns/**/vit_encoder",
                "/*/vit_encoder",
                "/**/in/vit_encoder",
                "'**'",
                "'*'",
                "/**/vit_encoder/**",
                "/**/**/**",
            )
        )
    ),
    "groups": f"/**:\n  {P}: {{a: {{b: {{c: 1, d: [x]}}, e: 3}}, f.g: 4, f: {{g: 5, h: 6}}, a.e: "
    f"4}}",
    "documents": f"---\n/**: {{{P}: {{a: 1}}}}\n---\n/**: {{{P}: {{b: 1}}}}\n",
    "twice": f"/**: {{{P}: {{a: 1, b: x, c: [1], d: two, e: []}}, {P}: {{a: 2, b: 1.5, c: [x], d: "
    f"[x], e: [1]}}}}",
    "emptied": f"/**: {{{P}: {{a: [x]}}}}\n/vit_encoder: {{{P}: {{a: []}}}}",
    "block texts": f"/**:\n  {P}:\n    a: |\n      two\n    b: >-\n      5\n    c: |-\n      yes\n",
    "merge key": f"/**:\n  {P}:\n    <<: {{a: 1}}\n    'b': 2\n    5: 3\n",
    "qos": f"/**: {{{P}: {{qos_overrides./a.publisher.depth: 1, qos_overrides: {{/b: {{publisher: "
    f"{{depth: 5}}}}}}}}}}",
    "values": f"/**:\n  {P}:\n"
    + "".join(f"    v{k}: {v.replace('|', ' ')}\n" for k, v in enumerate(VALUES)),
}
# rcl before Kilted refuses these: it takes what follows the first ros__parameters for a part of it.
REFUSED_BEFORE_KILTED = ("below all", "twice")
NO_FILES = [
    "- a\n",
    "hello\n",
    "[]",
    "",
    "# nothing\n",
    "{}",
    "5",
    "a: {b: {}}",
    f"{P}: {{a: 1}}",
    "camera_names: [a]",
    f"/**: {{{P}: 5}}",
    f"/**: {{{P}:\n}}",
    f"/**: {{{P}: [a]}}",
    "/**: 5",
    "/**:",
    f"/**: {{x: 1, {P}: {{a: 1}}}}",
    f"/**: {{{P}: {{a: 1}}, x: 1}}",
    f"/**: {{{P}: {{a: }}}}",
    f"/**: {{{P}: {{a: {{}}}}}}",
    f"/**: {{{P}: {{a: [1, x]}}}}",
    f"/**: {{{P}: {{a: [yes, 1]}}}}",
    f"/**: {{{P}: {{a: [[1], [2]]}}}}",
    f"/**: {{{P}: {{'': 1}}}}",
    f"/**: {{{P}: {{? [a] : 1}}}}",
    f"/**: {{{P}: {{a: &x 1, b: *x}}}}",
    f"my node: {{{P}: {{a: 1}}}}",
    f"1a: {{{P}: {{a: 1}}}}",
    f"/ns/: {{{P}: {{a: 1}}}}",
    f"/a*/b: {{{P}: {{a: 1}}}}",
    f"/a: {{/b: {{c: {{{P}: {{a: 1}}}}}}}}",
    "a: [",
    "\x00",
    f"/**: {{{P}: {{a: 1}}",
    f"*: {{{P}: {{a: 1}}}}",
]


def by_rclpy(path, node):
    """The values that a node of rclpy has from the file."""
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
    from rclpy.context import Context
    from rclpy.node import Node

    namespace, _, name = node.rpartition("/")
    context = Context()
    rclpy.init(args=["--ros-args", "--params-file", str(path)], context=context)
    try:
        made = Node(
            name,
            namespace=namespace,
            context=context,
            start_parameter_services=False,
            enable_rosout=False,
        )
        try:
            return {key: parameter.value for key, parameter in made._parameter_overrides.items()}
        finally:
            made.destroy_node()
    finally:
        context.try_shutdown()


def before_kilted():
    """Whether rclpy is that of an earlier release; Kilted's is 9."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    return int(importlib.metadata.version("rclpy").split(".")[0]) < 9


def typed(values):
    """So that 1, 1.0 and True differ, and NaN is itself."""
    return {
        name: (type(value), "nan" if isinstance(value, float) and math.isnan(value) else value)
        for name, value in values.items()
    }


@pytest.fixture
def file(tmp_path):
    def written(content):
        (tmp_path / "given.yaml").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        return tmp_path / "given.yaml"

    return written


@pytest.mark.parametrize("case", FILES)
def test_every_node_gets_what_rclpy_gives_it(file, case):
    path = file(FILES[case])
    if case in REFUSED_BEFORE_KILTED and before_kilted():
        with pytest.raises(RuntimeError, match="Couldn't parse params file"):
            by_rclpy(path, "/vit_encoder")
        return
    for node in ("/vit_encoder", "/ns/vit_encoder", "/ns/in/vit_encoder", "/camera"):
        assert typed(ParameterFile(path).values_for(node)) == typed(by_rclpy(path, node)), node


@pytest.mark.parametrize("text", NO_FILES)
def test_what_is_none_is_one_line_naming_the_file(file, text):
    with pytest.raises(InvalidValue, match="given.yaml.*; accepted: ") as caught:
        ParameterFile(file(text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_files_that_would_fill_memory_or_wait_are_one_line(file, tmp_path):
    laughs = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + k)}: &{chr(98 + k)} [*{chr(97 + k)}, *{chr(97 + k)}]\n" for k in range(24)
    )
    long = "n" * 900
    os.mkfifo(tmp_path / "fifo")
    for path, said in (
        (file(laughs), "unfolds to more"),
        (tmp_path / "fifo", "fifo"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(InvalidValue, match=said):
            ParameterFile(path)
    for text, said in (
        (b"\xff\xfe\0\x80", "no UTF-8"),
        (b"a" * (5 << 20), "longer than"),
        (f"/**: {{{P}: {{{long}: {{{long}: 1}}}}}}", "a name of more than 1000"),
        (f"{long}: {{{long}: {{{P}: {{a: 1}}}}}}", "no name of a node"),
        (f"/**: {{{P}: {{a: {'[' * 60}", "levels"),
    ):
        with pytest.raises(InvalidValue, match=f"given.yaml.*{said}") as caught:
            ParameterFile(file(text))
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (f"/**: {{{P}: {{camera_names: [a]}}}}", "/vit_encoder"),
        (
            f"/**: {{{P}: {{use_sim_time: false}}}}\nvit_encoder: {{{P}: {{camera_names: [a]}}}}",
            "/vit_encoder",
        ),
        (
            f"camera: {{{P}: {{fps: 30}}}}\nvit_encoder: {{{P}: {{camera_names: [a]}}}}",
            "/vit_encoder",
        ),
        (f"robot1: {{vit_encoder: {{{P}: {{camera_names: [a]}}}}}}", "/robot1/vit_encoder"),
        (f"front: {{{P}: {{camera_names: [a]}}}}\ncamera: {{{P}: {{fps: 30}}}}", "/front"),
        (
            f"/a/vit_encoder: {{{P}: {{top_k: 1}}}}\n/vit_encoder: {{{P}: {{top_k: 2}}}}",
            "/vit_encoder",
        ),
        (
            f"/**/vit_encoder: {{{P}: {{camera_names: [a]}}}}\ncamera: {{{P}: {{fps: 30}}}}",
            "/vit_encoder",
        ),
    ],
)
def test_the_node_that_a_file_is_for(file, text, node):
    assert ParameterFile(file(text)).node() == node


def test_of_two_encoders_neither_is_guessed(file):
    text = "".join(
        f"{name}: {{vit_encoder: {{{P}: {{camera_names: [a]}}}}}}\n" for name in ("left", "right")
    )
    with pytest.raises(
        InvalidValue, match="of /left/vit_encoder, /right/vit_encoder; accepted: one of them"
    ) as caught:
        ParameterFile(file(text)).node()
    assert caught.value.argument == "node"


@pytest.mark.parametrize("topic", ["image", "/image", "~/image", "a/b", "{node}/x", "{ns}/x", "~"])
@pytest.mark.parametrize("node", ["/vit_encoder", "/robot/arm/vit_encoder"])
def test_topics_are_expanded_as_by_rcl(topic, node):
    rclpy = pytest.importorskip("rclpy.expand_topic_name", reason="rclpy is not installed")

    namespace, _, name = node.rpartition("/")
    assert expanded_topic(topic, node) == rclpy.expand_topic_name(topic, name, namespace or "/")
