"""What an engine is opened from: the reference outputs are computed once, and end with it; exports
in a process apart.
"""

import copy
import gc
import weakref

import numpy as np
import onnx
import pytest
import torch

from vit_perception.engines.source import ONNX_NAME, EngineSource
from vit_perception.files.errors import InvalidValue


def test_the_reference_is_computed_once_for_the_same_images(source):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    own = EngineSource(source.graph, 2)
    first = own.reference(images)
    assert own.reference(images.copy()) is first
    assert own.reference(images[:2]).cls_token.shape == (2, 32)
    assert own.reference(images[::-1].copy()) is not first


def test_reference_outputs_end_with_their_source(source, pictures):
    """Regression: they were kept for the life of the process, 150 MB each for a dense ViT-L."""
    own = EngineSource(source.graph, 2)
    outputs = weakref.ref(own.reference(pictures).patch_tokens)
    assert outputs() is not None
    del own
    gc.collect()
    assert outputs() is None


def test_an_export_in_a_process_apart_is_the_one_that_is_made_here(source, tmp_path):
    def exported(apart):
        path = (
            EngineSource(source.graph, 2, folder=tmp_path / str(apart))
            .onnx_file("float16", apart=apart)
            .path
        )
        assert {file.name for file in path.parent.iterdir()} == {
            ONNX_NAME,
            f"{ONNX_NAME}.data",
            "key.json",
            "sha256.json",
        }
        return onnx.load(path, load_external_data=False).graph, path.with_name(
            f"{ONNX_NAME}.data"
        ).read_bytes()

    (here, weights_here), (there, weights_there) = exported(False), exported(True)
    assert [node.op_type for node in here.node] == [node.op_type for node in there.node]
    assert weights_here == weights_there


def test_what_an_export_apart_refuses_is_refused_here_and_leaves_nothing(source, tmp_path):
    graph = copy.deepcopy(source.graph)
    with torch.no_grad():
        graph.model.blocks[1].norm_attention.weight[3] = 1e6
    with pytest.raises(
        InvalidValue, match="holds 1e.06, which float16 cannot .its largest is 65504"
    ):
        EngineSource(graph, 2, folder=tmp_path).onnx_file("float16", apart=True)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
