"""Which files of a folder are its user's own."""

import os

from vit_perception.datasets.embed_sources import PicturesSource
from vit_perception.image.folder_files import files_below, hidden_below


def test_hidden_files_and_those_of_programs_are_left_out_and_links_are_not_walked(tmp_path):
    names = [
        "b.jpg",
        "a/c.jpg",
        ".hidden.jpg",
        "._b.jpg",
        ".ipynb_checkpoints/b-checkpoint.jpg",
        "a/@eaDir/c.jpg",
        "__MACOSX/b.jpg",
        "~$b.jpg",
        "Thumbs.db",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a/again").symlink_to(tmp_path)
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert [str(p.relative_to(tmp_path)) for p in files_below(tmp_path)] == ["a/c.jpg", "b.jpg"]
    assert hidden_below(tmp_path) == 7
    assert PicturesSource(tmp_path, "camera").identity()["names"] == ["a/c.jpg", "b.jpg"]


def test_a_folder_that_is_hidden_itself_is_read_where_it_is_asked_for(tmp_path):
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data/a.jpg").write_bytes(b"x")
    assert files_below(tmp_path / ".data") == [tmp_path / ".data/a.jpg"]
