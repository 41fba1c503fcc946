"""A film shows what its pictures show."""

import pytest
from PIL import Image

from tools.closed_loop.film import CAPTION_PX, HELD_FRAMES, episodes_of, main


def pictures(folder, seed: int, colours) -> None:
    folder.mkdir(exist_ok=True)
    for step, colour in enumerate(colours):
        Image.new("RGB", (40, 20), colour).save(folder / f"{seed}_{step:03d}.png")


def test_films_run_side_by_side_and_the_shorter_one_is_held(tmp_path, capsys):
    pictures(tmp_path / "a", 100_000, ["red", "lime", "blue"])
    pictures(tmp_path / "b", 100_000, ["white"])
    out = tmp_path / "film.gif"
    assert main([f"one={tmp_path / 'a'}", f"two={tmp_path / 'b'}", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as film:
        assert film.size == (80, 20 + CAPTION_PX)
        seen = []
        duration_ms = 0
        for number in range(film.n_frames):
            film.seek(number)
            duration_ms += film.info["duration"]
            frame = film.convert("RGB")
            seen.append(frame.getpixel((20, CAPTION_PX + 10)))
            assert frame.getpixel((60, CAPTION_PX + 10)) == (255, 255, 255)
    # Equal frames may be one longer frame.
    assert list(dict.fromkeys(seen)) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert duration_ms == 50 * (3 + HELD_FRAMES)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pictures of episodes"):
        episodes_of(tmp_path)
