"""Tokens that are stored in few bytes: LeRobot's loader gets float32, without scale or basis."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from test.datasets.embed_runs import settings_of
from test.datasets.lerobot.writer.recordings import (
    ARM,
    CAMERA,
    bag,  # noqa: F401
    pipeline,  # noqa: F401
    write_set,
)
from vit_perception.config.settings import OutputSettings
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import save_basis
from vit_perception.wire.basis import Basis


def tokens_of(pipeline, bag, root):
    write_set(pipeline, [bag], root, actions=("/goal:goal",), tokens=True)
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    return np.array(table["observation.tokens"].to_pylist(), np.float32)


@pytest.fixture(scope="module")
def plain(pipeline, bag, tmp_path_factory):
    return tokens_of(pipeline, bag, tmp_path_factory.mktemp("plain") / "set")


@pytest.mark.parametrize("form", ["int8", "basis"])
def test_tokens_of_few_bytes_are_restored(form, plain, pipeline, bag, tiny_checkpoint, tmp_path):
    output = OutputSettings(dtype="int8")
    if form == "basis":
        # Every direction that there is: nothing is lost but by the eight bits.
        basis = Basis(
            np.zeros(pipeline.width, np.float32),
            np.eye(pipeline.width, dtype=np.float32),
            pipeline.encoder_sha256,
        )
        save_basis(tmp_path / "basis.safetensors", basis, "tiny")
        output = OutputSettings(basis=str(tmp_path / "basis.safetensors"))
    settings = replace(settings_of(tiny_checkpoint, (CAMERA,), (ARM,)), output=output)
    made = Pipeline.open(settings)
    stored = tokens_of(made, bag, tmp_path / "set")
    made.close()
    assert stored.shape == plain.shape and not np.array_equal(stored, plain)
    most = np.abs(plain).max(axis=-1, keepdims=True)
    assert np.all(np.abs(stored - plain) <= most / 127)
