"""Make a GIF of filmed episodes, side by side.

    make closed-loop LOOP_ARGS="--film --seeds 2 --out film.json ..."
    python -m tools.closed_loop.film "as demonstrated=EPISODES" "table blue=EPISODES" --out loop.gif

EPISODES is a folder of pictures in closed_loop_output/episodes, whose name ends in _film.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image, ImageDraw

# Twice as fast as the robot: a step is 0.1 s.
FRAME_MS = 50
# The last picture of an episode stays.
HELD_FRAMES = 10
CAPTION_PX = 16
COLUMNS = 2


def episodes_of(folder: Path) -> list[list[Path]]:
    """Return the pictures of each episode, in the order of time.

    Raises:
        FileNotFoundError: the folder has none.
    """
    seeds: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*_???.png")):
        seeds.setdefault(path.name.split("_")[0], []).append(path)
    if not seeds:
        raise FileNotFoundError(f"{folder} has no pictures of episodes; accepted: one of --film")
    return list(seeds.values())


def tile(path: Path, caption: str) -> Image.Image:
    """Return a picture below its caption."""
    picture = Image.open(path).convert("RGB")
    image = Image.new("RGB", (picture.width, picture.height + CAPTION_PX), "white")
    ImageDraw.Draw(image).text((4, 2), caption, fill="black")
    image.paste(picture, (0, CAPTION_PX))
    return image


def frames_of(films: dict[str, list[Path]]) -> list[Image.Image]:
    """Return the frames: one film for each caption, each held at its end until all are over."""
    longest = max(map(len, films.values())) + HELD_FRAMES
    frames = []
    for step in range(longest):
        tiles = [
            tile(paths[min(step, len(paths) - 1)], caption) for caption, paths in films.items()
        ]
        width, height = tiles[0].size
        rows = -(-len(tiles) // COLUMNS)
        frame = Image.new("RGB", (width * min(COLUMNS, len(tiles)), height * rows), "white")
        for k, each in enumerate(tiles):
            frame.paste(each, (width * (k % COLUMNS), height * (k // COLUMNS)))
        frames.append(frame)
    return frames


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.closed_loop.film")
    parser.add_argument("films", nargs="+", metavar="CAPTION=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--colours", type=int, default=64, help="(default: %(default)s)")
    args = parser.parse_args(arguments)
    named = {caption: Path(folder) for caption, _, folder in (f.partition("=") for f in args.films)}
    episodes = {caption: episodes_of(folder) for caption, folder in named.items()}
    frames: list[Image.Image] = []
    for k in range(min(map(len, episodes.values()))):
        frames += frames_of({caption: films[k] for caption, films in episodes.items()})
    flat = [frame.quantize(args.colours, dither=Image.Dither.NONE) for frame in frames]
    flat[0].save(
        args.out, save_all=True, append_images=flat[1:], duration=FRAME_MS, loop=0, optimize=True
    )
    print(f"{args.out}: {len(flat)} frames, {args.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
