"""Small CLIP, SigLIP and TIPS models of transformers with random weights, and a tokenizer of
letters, saved as folders.
"""

import json
from pathlib import Path

from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    Tipsv2Config,
    Tipsv2Model,
)

from test.checkpoints.huggingface.models import randomised

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz.,-"
CLIP_PREPROCESSOR = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SIGLIP_PREPROCESSOR = {
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


def tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding over letters, without a single merge: a token is a letter."""
    pieces = [
        "<|startoftext|>",
        "<|endoftext|>",
        *LETTERS,
        *(f"{letter}</w>" for letter in LETTERS),
    ]
    return CLIPTokenizer(
        {piece: index for index, piece in enumerate(pieces)}, [], model_max_length=64
    )


def text_sizes(made: CLIPTokenizer) -> dict:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "vocab_size": len(made),
        "max_position_embeddings": 40,
        "eos_token_id": made.eos_token_id,
        "bos_token_id": made.bos_token_id,
        "pad_token_id": made.pad_token_id,
    }


def write(model, made: CLIPTokenizer, folder: Path, preprocessor: dict) -> None:
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def clip_folder(folder: Path) -> CLIPModel:
    """A whole CLIP with an embedding narrower than its towers; returns it."""
    made = tokenizer()
    model = randomised(
        CLIPModel, CLIPConfig(vision_config=VISION, text_config=text_sizes(made), projection_dim=20)
    )
    write(model, made, folder, CLIP_PREPROCESSOR)
    return model


def siglip_folder(folder: Path) -> SiglipModel:
    """A whole SigLIP; returns it."""
    made = tokenizer()
    text = SiglipTextConfig(**text_sizes(made), projection_size=32)
    model = randomised(SiglipModel, SiglipConfig(vision_config=VISION, text_config=text.to_dict()))
    write(model, made, folder, SIGLIP_PREPROCESSOR)
    return model


def tips_folder(folder: Path) -> Tipsv2Model:
    """A whole TIPS v2; returns it."""
    made = tokenizer()
    vision = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    config = Tipsv2Config(vision_config=vision, text_config=text_sizes(made))
    model = randomised(Tipsv2Model, config)
    write(model, made, folder, SIGLIP_PREPROCESSOR)
    return model
