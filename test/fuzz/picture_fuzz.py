"""Wrong pictures through the gate and every decoder behind it, in child processes that may die.

``python -m test.fuzz.picture_fuzz --seconds 3600`` runs for an hour; the short form is a test. A
finding is a child that ended by a signal, ran out of memory or time, printed something, or let
another exception than BadInput out.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from test.conftest import ROOT

ADDRESS_SPACE_BYTES, SECONDS_OF_CPU = 4 << 30, 120
# for pictures of a few thousand pixels, also on a machine that is busy: ten times what was ever
# seen
LONGEST_S = 1.0


def decode_all(data: bytes) -> str:
    """What comes of one file: the reason of a BadInput, or ``decoded``."""
    from vit_perception.image import compressed
    from vit_perception.image.picture_files import bmp_or_webp_pixels
    from vit_perception.wire.records import BadInput

    try:
        if bmp_or_webp_pixels(data) is not None:
            return "decoded"
        picture = compressed.checked_picture(data, "fuzz")
    except BadInput as error:
        return f"gate: {error.reason}"
    outcomes = []
    for decode in (compressed._opencv, compressed.decoded_pixels):
        for grey in (False, True):
            try:
                with quiet(decode is compressed._opencv and picture.kind == "jpeg"):
                    pixels = decode(picture, grey)
                assert (
                    pixels.dtype == "uint8"
                    and pixels.shape == (picture.height, picture.width, 3)[: 3 - grey]
                )
                outcomes.append("decoded")
            except BadInput as error:
                outcomes.append(f"decoder: {error.reason}")
    return outcomes[2]


class quiet:
    """Standard error away where ``wanted``: libjpeg's warnings in OpenCV, which is the fallback."""

    def __init__(self, wanted: bool):
        self._wanted = wanted

    def __enter__(self):
        if self._wanted:
            self._kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)

    def __exit__(self, *unused):
        if self._wanted:
            os.dup2(self._kept, 2)
            os.close(self._kept)


def child(seed: int, count: int, last_input: Path) -> None:
    """``count`` files from ``seed`` on; the one in work lies in ``last_input``. Prints what came of
    them as JSON.
    """
    from test.fuzz.picture_mutations import KINDS

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_OF_CPU, SECONDS_OF_CPU))
    rng, seen = random.Random(seed), Counter()
    made = {kind: (make(), mutate) for kind, (make, mutate) in KINDS.items()}
    kinds = ["png"] * 4 + ["jpeg"] * 5 + ["bmp", "webp"]
    with open(last_input, "r+b", buffering=0) as last:
        for _ in range(count):
            kind = rng.choice(kinds)
            of_kind, mutate = made[kind]
            data = mutate(rng, rng.choice(of_kind))
            last.seek(0)
            last.write(len(data).to_bytes(8, "big") + data)
            began = time.thread_time()
            seen[f"{kind} {decode_all(data)}"] += 1
            if time.thread_time() - began > LONGEST_S:
                raise TimeoutError(f"{time.thread_time() - began:.1f} s for one picture")
    print(json.dumps(seen))


def run_children(seed: int, count: int, seconds: float, found: Path) -> tuple[Counter, list[str]]:
    """Children of ``count`` files each until ``seconds`` are over, at least one: what came of the
    files, the findings.

    The file at which a child ended is put into the folder ``found``.
    """
    seen, findings, until = Counter(), [], time.monotonic() + seconds
    with tempfile.NamedTemporaryFile() as last:
        while True:
            command = [sys.executable, "-m", "test.fuzz.picture_fuzz", "--child", last.name]
            done = subprocess.run(
                [*command, "--seed", str(seed), "--count", str(count)],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            if done.returncode == 0 and not done.stderr:
                seen.update(json.loads(done.stdout))
            else:
                content = Path(last.name).read_bytes()
                found.mkdir(parents=True, exist_ok=True)
                file = found / f"seed_{seed}"
                file.write_bytes(content[8 : 8 + int.from_bytes(content[:8], "big")])
                findings.append(f"{file}: exit status {done.returncode}: {done.stderr[-600:]}")
                print(findings[-1], flush=True)
            seed += 1
            if time.monotonic() > until:
                return seen, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5000, help="files a child")
    parser.add_argument("--found", type=Path, default=Path("picture_findings"))
    parser.add_argument("--child", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.seed, args.count, args.child)
        return 0
    seen, findings = run_children(args.seed, args.count, args.seconds, args.found)
    print(f"{sum(seen.values())} pictures, {len(findings)} findings")
    for outcome, count in sorted(seen.items()):
        print(f"  {outcome}: {count}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
