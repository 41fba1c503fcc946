"""YAML of strangers: read as it is meant, refused in one line where it would fill the memory or
never end.
"""

import os

import pytest
import yaml

from vit_perception.files.errors import InvalidValue
from vit_perception.files.yaml_files import MOST_DEPTH, load_yaml, parse_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12)
)
MERGES = "m0: &m0 {a: 1, b: 2}\n" + "".join(
    f"m{k}: &m{k}\n  <<: [{', '.join([f'*m{k - 1}'] * 9)}]\n  k{k}: 1\n" for k in range(1, 12)
)


def written(folder, text):
    (folder / "given.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / "given.yaml"


def test_a_file_is_read_as_it_is_meant(tmp_path):
    text = (
        "\ufeffa: {b: 1e-3, c: [true, 'yes', 0x10, 1:30]}\nd: &d {e: x}\nf: *d\ng:\n  <<: *d\n  h: "
        "null\n"
    )
    assert load_yaml(written(tmp_path, text)) == {
        "a": {"b": 0.001, "c": [True, "yes", 16, 90]},
        "d": {"e": "x"},
        "f": {"e": "x"},
        "g": {"e": "x", "h": None},
    }
    assert load_yaml(written(tmp_path, "")) is None


def test_aliases_that_a_library_writes_are_read():
    shared = [{"depth": 10}]
    assert parse_yaml(yaml.safe_dump({"a": shared, "b": shared}), "here") == {
        "a": shared,
        "b": shared,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "unfolds to more than"),
        (MERGES, "unfolds to more than"),
        ("- x\n" * 400_000, "unfolds to more than"),
        ("a: &a [*a]", "line 1: an alias stands inside"),
        (
            "[" * 100_000,
            f"more than {MOST_DEPTH} levels|maximum nesting depth",
        ),  # our bound, or a newer libyaml's
        ("- " * 100_000, f"more than {MOST_DEPTH} levels"),
        ("{a: " * 60, f"more than {MOST_DEPTH} levels"),
        ("a: *b", "undefined alias"),
        ("a: [", "is no YAML"),
        ("a: 2020-99-99", "is no YAML"),
        ("a: !!python/object/apply:os.system [ls]", "is no YAML"),
        ("[a]: {[b]: c}", "is no YAML"),
        (b"a: \xff", "is no UTF-8"),
        (b"a: \0", "is no YAML"),
        ("a: !!int '" + "1:" * 500_000 + "1'", "another type than text"),
        ("a: " + "9" * 5_000_000, "longer than 4194304 bytes"),
        ("&a x: &a [&b *a]", "is no YAML"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_would_fill_the_memory_is_one_line(tmp_path, text, said):
    with pytest.raises(InvalidValue, match=said) as caught:
        load_yaml(written(tmp_path, text))
    assert (
        "given.yaml" in str(caught.value)
        and len(str(caught.value)) < 500
        and "\n" not in str(caught.value)
    )


def test_a_long_number_is_text():
    long = "1:" * 500_000 + "1"
    assert parse_yaml(f"a: {long}", "here") == {"a": long}
    assert parse_yaml("a: " + "9" * 5000, "here") == {"a": "9" * 5000}


def test_neither_a_fifo_nor_a_device_nor_a_folder_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", tmp_path):
        with pytest.raises(
            InvalidValue, match="is a (FIFO|device|folder); accepted: a regular file"
        ):
            load_yaml(path)
    for path in (tmp_path / "none.yaml", tmp_path / "a\0b"):
        with pytest.raises(InvalidValue, match="cannot be read"):
            load_yaml(path)
