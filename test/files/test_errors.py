"""What is said of strangers' values is short, and does nothing to a terminal."""

import pytest

from vit_perception.files.errors import (
    MOST_SAID,
    InvalidValue,
    OperationFailed,
    UserError,
    nearest,
    printable,
    shown,
    told,
    traced,
)

ESCAPES = "\x1b[2J\x1b]0;owned\x07a\x00b\ud800c\u202ed\x9b31m"


@pytest.mark.parametrize(
    "value",
    [
        "x" * 30_000_000,
        b"x" * 30_000_000,
        ["y" * 1_000_000] * 100,
        [0] * 1_000_000,
        {"k" * 100_000: ["z" * 100_000]},
        ESCAPES * 10_000,
        10**5000,
        (1.5,) * 100_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_short(value):
    assert len(shown(value)) < 1600


def test_what_is_short_is_shown_as_it_is():
    assert [shown(v) for v in ("wrist", 0.5, None, ["a", "b"], {"a": 1}, b"a", float("nan"))] == [
        "'wrist'",
        "0.5",
        "None",
        "['a', 'b']",
        "{'a': 1}",
        "b'a'",
        "nan",
    ]


def test_of_a_long_value_its_length_is_said():
    assert shown("x" * 300).endswith("... (300 characters)") and shown([1] * 30).endswith(
        "(30 entries)"
    )


@pytest.mark.parametrize(
    "say",
    [
        printable,
        shown,
        lambda text: shown([text]),
        lambda text: str(UserError(text)),
        lambda text: f"{InvalidValue(text)}",
        lambda text: str(OperationFailed(text)),
    ],
)
def test_terminal_escapes_nul_and_surrogates_are_made_visible(say):
    said = say(ESCAPES)
    assert (
        said.isprintable()
        and "\\x1b[2J" in said
        and "\\x00" in said
        and "\\ud800" in said
        and "\\u202e" in said
    )
    said.encode()


def test_lines_stay_lines_in_a_message_and_not_in_a_value():
    assert printable("one\n\ttwo") == "one\n\ttwo" and "\n" not in shown(["one\ntwo"])
    assert printable("één Überholspur, 日本語") == "één Überholspur, 日本語"


def test_an_error_of_megabytes_is_cut():
    assert len(str(InvalidValue("x" * 30_000_000))) < MOST_SAID + 100


def deep(levels, message):
    if levels:
        return deep(levels - 1, message) if levels % 2 else (lambda: deep(levels - 1, message))()
    raise ZeroDivisionError(message)


@pytest.mark.parametrize(
    "message",
    ["division by zero", "x" * 1_000_000, ESCAPES * 1000],
    ids=["short", "long", "escapes"],
)
def test_of_a_long_traceback_the_end_is_kept(message):
    """Regression: it was cut from behind, so that neither the line nor the error could be read."""
    with pytest.raises(ZeroDivisionError) as caught:
        deep(200, message)
    text = traced(caught.value)
    assert "raise ZeroDivisionError(message)" in text and "\nZeroDivisionError: " in text
    assert len(text) < MOST_SAID and printable(text) == text and "characters before" in text


def test_an_error_for_the_user_is_told_in_a_line_and_a_defect_with_its_lines():
    try:
        raise OperationFailed("no device")
    except OperationFailed as error:
        assert told(error) == "no device"
    with pytest.raises(KeyError) as caught:
        {}["absent"]
    assert told(caught.value).startswith("Traceback") and told(caught.value).endswith(
        "KeyError: 'absent'"
    )


def test_arguments_become_options_on_the_command_line_alone():
    error = UserError(
        ": /x is taken; accepted: a new folder",
        argument="out_folder",
        hint=" replaces it",
        hint_argument="force",
    )
    assert str(error) == "out_folder: /x is taken; accepted: a new folder\nhint: force replaces it"
    assert error.for_command_line() == (
        "--out-folder: /x is taken; accepted: a new folder\nhint: --force replaces it"
    )


def test_the_hint_stays_when_the_message_is_cut_and_is_made_printable():
    text = str(UserError("m" * 1_000_000, hint="\x1b[2J" + "h" * 1_000_000))
    assert len(text) < 8000 and "\nhint: \\x1b[2Jhhh" in text


@pytest.mark.parametrize(
    "name, known, hint",
    [
        ("tokns", ["cls", "tokens"], "did you mean 'tokens'?"),
        ("/wrist/imag", ["/agentview/image", "/wrist/image"], "did you mean '/wrist/image'?"),
        ("nothing like it", ["cls", "tokens"], ""),
        ("x" * 1_000_000, ["x" * 200], "did you mean"),
        ("a\x1b[2Jb", ["a\x1b[2Jbc"], "did you mean 'a\\x1b[2Jbc'?"),
        ("tokens", [], ""),
    ],
    ids=range(6),
)
def test_the_nearest_known_name_is_offered(name, known, hint):
    found = nearest(name, known)
    assert found.startswith(hint) and bool(found) is bool(hint) and found.isprintable()
