"""Whatever lies under a file's name is read whole, or refused by what it is, at once."""

import os
import socket

import pytest

from vit_perception.files.regular_files import (
    IrregularFile,
    check_itself,
    check_regular,
    open_regular,
    read_bounded,
    read_text_bounded,
)

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a1' * 32}\nsize 88229444\n"
READERS = [check_regular, check_itself, open_regular, read_bounded, read_text_bounded]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "kind", ["a FIFO", "a folder", "a socket", "a device", "a device behind a link"]
)
def test_what_is_no_file(tmp_path, monkeypatch, read, kind):
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    if kind == "a FIFO":
        os.mkfifo("odd")
    elif kind == "a folder":
        os.mkdir("odd")
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd")
    else:
        os.symlink("/dev/zero", "odd")
    name = "/dev/zero" if kind == "a device" else "odd"
    with pytest.raises(
        IrregularFile,
        match=f"^{name} is {kind.removesuffix(' behind a link')}; accepted: a regular",
    ):
        read(name)


@pytest.mark.parametrize("read", READERS)
def test_nothing_there(tmp_path, read):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_content_and_size_through_a_link(tmp_path):
    (tmp_path / "text").write_text("größe")
    (tmp_path / "link").symlink_to("text")
    assert check_regular(tmp_path / "link") == check_itself(tmp_path / "link") == 7
    assert read_bounded(tmp_path / "link", 7) == "größe".encode()
    assert read_text_bounded(tmp_path / "link") == "größe"
    with open_regular(tmp_path / "link") as file:
        assert file.read(2) == b"gr"


def test_longer_than_allowed(tmp_path):
    (tmp_path / "text").write_bytes(b"12345678")
    with pytest.raises(IrregularFile, match="text is longer than 7 bytes; accepted: up to 7"):
        read_bounded(tmp_path / "text", 7)


def test_a_file_that_says_it_is_empty_and_is_not():
    assert os.stat("/proc/self/maps").st_size == 0
    with pytest.raises(IrregularFile, match="longer than 100 bytes"):
        read_bounded("/proc/self/maps", 100)


@pytest.mark.parametrize(
    "content, kind",
    [
        (POINTER, "a Git LFS pointer"),
        (f"\ufeff{POINTER}", "a Git LFS pointer"),
        (
            "/annex/objects/MD5E-s31390--f50d7ac4c6b9031379986bc362fcefb2.pt\n",
            "a git-annex pointer",
        ),
        ("\n <!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        ("<HTML><body>", "an HTML page"),
        ('<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "an XML page"),
    ],
)
@pytest.mark.parametrize("read", [check_itself, read_text_bounded])
def test_stand_ins_are_named(tmp_path, content, kind, read):
    (tmp_path / "model").write_text(content, encoding="utf-8")
    with pytest.raises(
        IrregularFile, match=f"model is {kind}, not the file itself; accepted: the file itself"
    ):
        read(tmp_path / "model")


def test_other_than_utf_8(tmp_path):
    (tmp_path / "text").write_bytes(b"ab\xff")
    with pytest.raises(IrregularFile, match=r"no UTF-8 text \(invalid start byte at byte 2\)"):
        read_text_bounded(tmp_path / "text")
