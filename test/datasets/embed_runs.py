"""Runs of `embed` on the demo bag: what they are made of, and real processes that are killed."""

import subprocess
import sys
import textwrap

import pytest

from test.conftest import DEMO_BAG, ROOT
from test.waiting import PROGRAM_S
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
)
from vit_perception.pipeline.pipeline import Pipeline

CAMERAS = tuple(
    CameraSettings(n, f"/{n}/image/compressed", "compressed") for n in ("agentview", "wrist")
)
FORMATS = ("parquet", "safetensors", "mcap")


def settings_of(checkpoint, cameras=CAMERAS, arms=(PoseSettings("arm", "/ee_pose", "world"),)):
    # One thread: on a loaded machine two that wait for each other are many times slower.
    return EncoderSettings(
        cameras,
        arms,
        model=ModelSettings(str(checkpoint)),
        engine=EngineSettings("torch", "float32", threads=1),
    )


@pytest.fixture(scope="module")
def pipeline(tiny_classifier):
    made = Pipeline.open(settings_of(tiny_classifier))
    yield made
    made.close()


KILLED = textwrap.dedent("""
    import fcntl, os, random, resource, signal, sys
    from pathlib import Path
    from test.datasets.embed_runs import CAMERAS, settings_of
    from vit_perception.datasets.embed import EmbedOptions, embed
    from vit_perception.datasets.embed_sources import BagSource
    from vit_perception.pipeline.pipeline import Pipeline

    checkpoint, out, kind, limit = sys.argv[1:5]
    random.seed(int(sys.argv[5]))
    bag = Path(sys.argv[6])
    FRAME = 4096  # bytes a frame: the pipe holds no more, so that the parent is never far behind
    def child(told):
        pipeline = Pipeline.open(settings_of(checkpoint))
        if int(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        try:
            embed(pipeline, [BagSource(bag, CAMERAS[0].topic)], Path(out), EmbedOptions(kind, shard_frames=16),
                  lambda frames: os.write(told, bytes(FRAME)))
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    kills = 0
    while True:
        reading, told = os.pipe()
        fcntl.fcntl(told, fcntl.F_SETPIPE_SZ, FRAME)
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            child(told)
        os.close(told)
        if not int(limit) and kills < 4:
            # In the middle of whatever it does with one of the next frames.
            for _ in range(random.randint(0, 35) * FRAME // 512):
                os.read(reading, 512)
            os.kill(pid, signal.SIGKILL)
        while os.read(reading, FRAME):
            pass
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
    print(kills, os.WEXITSTATUS(status))
""")  # noqa: E501


def run_killed(checkpoint, out, kind, limit=0, seed=0, bag=DEMO_BAG):
    """(kills, exit status of the last run) of real processes that embed ``bag`` to ``out``."""
    given = [str(given) for given in (checkpoint, out, kind, limit, seed, bag)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *given],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}
