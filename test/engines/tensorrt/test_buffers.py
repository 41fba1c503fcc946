"""The layout of an engine's buffers, and the refusal of engines that are not the encoder
graph's.
"""

from dataclasses import replace

import pytest

from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.tensorrt.buffers import ALIGNMENT_BYTES, TensorFacts, buffer_table

SPEC = EngineSpec(batch=2, network_size_px=(64, 48), precision="float16")
TENSORS = (
    TensorFacts("images", True, "UINT8", (2, 3, 64, 48)),
    TensorFacts("cls_token", False, "FLOAT", (2, 33)),
    TensorFacts("patch_tokens", False, "FLOAT", (2, 48, 33)),
    TensorFacts("cls_attention", False, "FLOAT", (2, 4, 48)),
    TensorFacts("logits", False, "FLOAT", (2, 7)),
)


def test_outputs_lie_aligned_in_the_engines_order_and_do_not_overlap():
    table = buffer_table(TENSORS, SPEC)
    assert table.input_shape == (2, 3, 64, 48)
    assert [(slot.name, slot.shape) for slot in table.outputs] == [
        (t.name, t.shape) for t in TENSORS[1:]
    ]
    end = 0
    for slot in table.outputs:
        assert slot.offset % ALIGNMENT_BYTES == 0 and slot.offset >= end
        end = slot.offset + slot.size_bytes
    assert [slot.size_bytes for slot in table.outputs] == [264, 12672, 1536, 56]
    assert table.size_bytes == 512 + 12800 + 1536 + 256


def test_a_model_without_a_head_has_no_logits():
    assert len(buffer_table(TENSORS[:-1], SPEC).outputs) == 3


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            replace(TENSORS[0], shape=(3, 3, 64, 48)),
            r"\(3, 3, 64, 48\).*accepted: 'images', uint8, \(2, 3, 64, 48\)",
        ),
        (replace(TENSORS[0], shape=(-1, 3, 64, 48)), r"\(-1, 3, 64, 48\).*accepted"),
        (replace(TENSORS[0], type="HALF"), "HALF.*accepted: 'images', uint8"),
        (replace(TENSORS[0], name="pixels"), "pixels.*accepted: 'images'"),
        (
            replace(TENSORS[1], type="HALF"),
            r"output cls_token is HALF.*accepted: FLOAT \(2, \.\.\.\)",
        ),
        (replace(TENSORS[1], shape=(3, 33)), r"output cls_token is FLOAT \(3, 33\)"),
        (replace(TENSORS[1], shape=(2, -1)), r"output cls_token is FLOAT \(2, -1\)"),
        (replace(TENSORS[1], name="pooled"), "outputs are .*pooled.*accepted.*cls_token"),
    ],
)
def test_an_engine_of_something_else_is_refused(changed, message):
    tensors = [
        changed if t.is_input == changed.is_input and (t.is_input or t is TENSORS[1]) else t
        for t in TENSORS
    ]
    with pytest.raises(EngineError, match=message):
        buffer_table(tensors, SPEC)


def test_a_missing_output_is_refused():
    with pytest.raises(
        EngineError, match=r"outputs are \['cls_token'\]; accepted: .*cls_attention"
    ):
        buffer_table(TENSORS[:2], SPEC)
