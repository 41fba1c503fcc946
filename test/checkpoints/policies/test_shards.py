"""A policy in several shards: those without any part of its encoder are not fetched or needed."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from test.checkpoints.policies.policy_folders import write_openvla, write_pi0, write_smolvla
from test.waiting import PROGRAM_S
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.left_out import shards_left_out
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.reference import encoder_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENCODER, REST = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
# How a policy is written, and what the names of its language model hold.
POLICIES = {
    "pi0": (write_pi0, ".language_model."),
    "smolvla": (write_smolvla, ".text_model."),
    "openvla": (write_openvla, "language_model."),
}


def sharded(folder: Path) -> Path:
    """Write the policy's one file as two: language model, and all the rest."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    part = POLICIES[folder.name][1]
    weight_map = {name: REST if part in name else ENCODER for name in tensors}
    assert set(weight_map.values()) == {ENCODER, REST}
    for shard in (ENCODER, REST):
        save_file({n: t for n, t in tensors.items() if weight_map[n] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.fixture(params=POLICIES)
def policy(request, tmp_path) -> Path:
    return sharded(POLICIES[request.param][0](tmp_path / request.param))


def test_the_encoder_is_the_same_without_the_language_model(policy):
    whole = load_checkpoint(str(policy))
    (policy / REST).unlink()
    alone = load_checkpoint(str(policy))
    assert encoder_digest(alone) == encoder_digest(whole)
    assert alone.card.weights_sha256 == whole.card.weights_sha256


def test_a_missing_shard_of_the_encoder_is_refused(policy):
    (policy / ENCODER).unlink()
    with pytest.raises(CheckpointError, match=f"no file {ENCODER}, .*accepted: all shards"):
        load_checkpoint(str(policy))


def test_an_adapter_in_a_shard_that_is_not_there_is_refused(policy):
    index = policy / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    name = next(name for name, shard in weight_map.items() if shard == REST)
    index.write_text(json.dumps({"weight_map": {**weight_map, f"{name}.lora_A.weight": REST}}))
    (policy / REST).unlink()
    with pytest.raises(CheckpointError, match="LoRA adapter"):
        load_checkpoint(str(policy))


@pytest.mark.parametrize("fields", [None, {}, {"type": "act"}, {"model_type": "vit"}])
def test_of_other_checkpoints_every_shard_is_needed(fields):
    shard_of = {"vision_tower.weight": ENCODER, "model.language_model.weight": REST}
    assert not shards_left_out(fields, shard_of)
    assert shards_left_out({"type": "pi0"}, shard_of) == {REST}


def test_without_any_encoder_nothing_is_left_out():
    assert not shards_left_out({"type": "pi0"}, {"model.language_model.weight": REST})


class Hub(BaseHTTPRequestHandler):
    """What the hub's client asks for, of one repository in ``folder``."""

    def __init__(self, *request, folder: Path, sent: set[str]):
        self._folder, self._sent = folder, sent
        super().__init__(*request)

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        if self.path.startswith("/api/models/me/policy"):
            files = sorted(self._folder.iterdir())
            tree = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                for path in files
            ]
            names = [{"rfilename": path.name} for path in files]
            model = {"id": "me/policy", "sha": COMMIT, "siblings": names}
            body = json.dumps(tree if "/tree/" in self.path else model).encode()
            self._send(body, {"Content-Type": "application/json"})
        else:
            self._sent.add(self.path.rsplit("/", 1)[1])
            self._answer()

    def _answer(self):
        path = self._folder / self.path.rsplit("/", 1)[1]
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self._send(body, {"ETag": f'"{sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _send(self, body: bytes, headers: dict[str, str]):
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(policy) -> Iterator[tuple[str, set[str]]]:
    """Serve ``policy`` as hf://me/policy; the address, and the names of what was sent."""
    sent: set[str] = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder=policy, sent=sent))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hub_sends_only_what_the_encoder_needs(policy, hub, tmp_path):
    """In a process of its own: the hub's client reads its address when it is imported."""
    address, sent = hub
    script = (
        "from vit_perception.checkpoints.sources import load_checkpoint\n"
        "from vit_perception.engines.reference import encoder_digest\n"
        "print(encoder_digest(load_checkpoint('hf://me/policy')))\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "HF_ENDPOINT": address,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "0",
    }
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == encoder_digest(load_checkpoint(str(policy)))
    assert sent == {path.name for path in policy.iterdir()} - {REST}
