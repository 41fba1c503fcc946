"""DINOv2 with registers of transformers: registers without positions, its own interpolation, its
classifier.
"""

import pytest
import torch
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
)

from test.checkpoints.huggingface.models import (
    LABELS,
    LIMIT,
    SIZES,
    SPELLINGS,
    largest_difference,
    randomised,
    saved,
)
from vit_perception.checkpoints.sources import load_checkpoint

REGISTERS = 3
CASES = {
    "model": (Dinov2WithRegistersModel, {"mlp_ratio": 2}),
    "swiglu": (Dinov2WithRegistersModel, {"mlp_ratio": 4, "use_swiglu_ffn": True}),
    "classifier": (Dinov2WithRegistersForImageClassification, {"mlp_ratio": 2, "id2label": LABELS}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", CASES)
def test_parity(case, spelling, tmp_path):
    kind, fields = CASES[case]
    theirs = randomised(
        kind, Dinov2WithRegistersConfig(**SIZES, **fields, num_register_tokens=REGISTERS)
    )
    loaded = load_checkpoint(saved(theirs, tmp_path, spelling))
    assert loaded.card.family == "dinov2_with_registers"
    assert [name.split("embeddings.")[-1] for name in loaded.unused] == ["mask_token"]
    for size in ((32, 32), (48, 24), (40, 64)):
        images = torch.randn(2, 3, *size)
        out = theirs(images, output_hidden_states=True, output_attentions=True)
        tokens = getattr(theirs, "dinov2_with_registers", theirs).layernorm(out.hidden_states[-1])
        assert tokens[:, 1 + REGISTERS :].std(dim=1).mean() > 0.3
        ours = loaded.model(images)
        assert largest_difference(ours.cls_token, tokens[:, 0]) <= LIMIT
        assert largest_difference(ours.patch_tokens, tokens[:, 1 + REGISTERS :]) <= LIMIT
        assert (
            largest_difference(ours.cls_attention, out.attentions[-1][:, :, 0, 1 + REGISTERS :])
            <= LIMIT
        )
        if case == "classifier":
            assert largest_difference(ours.logits, out.logits) <= LIMIT
            assert loaded.card.labels == tuple(LABELS.values())
