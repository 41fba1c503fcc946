"""A node pointed at a policy's folder: the tokens on DDS are what the policy's own code computes.

The pictures are prepared by the policies' rules, written out with torch and Pillow, rounded to
bytes as the encoder takes them. SmolVLA's tower and connector are transformers' modules. OpenVLA's
towers are timm's where timm is installed, else our own, which ``make parity`` holds against timm's.
"""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from test.checkpoints.policies.policy_folders import (
    DINO,
    OPENVLA_IMAGES,
    SIGLIP,
    SMOLVLA,
    TOKEN_WIDTH,
    openvla_tokens,
    projector,
    random_tower,
    smolvla_tensors,
    smolvlm,
    timm_tensors,
    write,
    write_openvla,
)
from test.checkpoints.policies.policy_images import prepared_by_smolvla
from test.ros.conftest import image_message

STAMP_NS = 7_000_000_000
# Of tokens whose standard deviation is above 0.05: float32 on both sides.
LIMIT = 1e-4
# Pillow's bicubic and ours differ by one level of 255 on some pixels.
LIMIT_PILLOW = 2e-3


def published(rig, folder, size_px) -> tuple[np.ndarray, np.ndarray, object]:
    """The (H, W, 3) RGB picture that went in, the tokens of its camera, and the layout."""
    each = rig(model__checkpoint=str(folder))
    each.activate()
    message = image_message(STAMP_NS, seed=3, size_px=size_px, encoding="rgb8")
    each.publish("/wrist/image", message)
    tokens = each.frame(STAMP_NS).tokens
    layout = each.tester.layout
    picture = np.frombuffer(message.data, np.uint8).reshape(*size_px, 3)
    return picture, layout.split(tokens)["wrist/patch"], layout


@pytest.mark.parametrize("size_px", [(48, 80), (64, 64)], ids=["padded", "as it is"])
def test_smolvlas_tokens_are_those_of_its_own_code(size_px, rig, tmp_path):
    policy = smolvlm()
    folder = write(tmp_path, SMOLVLA, smolvla_tensors(policy))
    picture, tokens, layout = published(rig, folder, size_px)
    pixels = prepared_by_smolvla(picture, 64).round() / 127.5 - 1
    with torch.inference_mode():
        tower = policy.model.vision_model(pixel_values=pixels[None], patch_attention_mask=None)
        embedded = policy.model.connector(tower.last_hidden_state)[0].numpy()
    assert embedded.shape == (4, TOKEN_WIDTH) and embedded.std() > 0.05
    assert layout.width == TOKEN_WIDTH
    np.testing.assert_allclose(tokens / layout.connector.scale, embedded, rtol=0, atol=LIMIT)


@pytest.mark.parametrize(
    "size_px, limit",
    [((48, 80), LIMIT_PILLOW), ((32, 32), LIMIT)],
    ids=["stretched", "as it is"],
)
def test_openvlas_tokens_are_those_of_its_own_code(size_px, limit, rig, tmp_path):
    picture, tokens, layout = published(rig, write_openvla(tmp_path), size_px)
    resized = Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC)
    images = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]
    own = tokens_by_timm if find_spec("timm") else openvla_tokens
    with torch.inference_mode():
        wanted = own(images)[0].numpy()
    assert wanted.shape == (16, TOKEN_WIDTH) and wanted.std() > 0.05
    assert (layout.width, layout.connector.joined) == (TOKEN_WIDTH, (64, 128))
    np.testing.assert_allclose(tokens, wanted, rtol=0, atol=limit)


def tokens_by_timm(images: torch.Tensor) -> torch.Tensor:
    """Those of (B, 3, 32, 32) uint8: timm's two towers with the weights of the folder."""
    from timm.models.vision_transformer import VisionTransformer

    patches = []
    for index, config in enumerate((DINO, SIGLIP)):
        mean, std = (
            torch.tensor(OPENVLA_IMAGES[name][index])[:, None, None] for name in ("means", "stds")
        )
        tower = VisionTransformer(
            img_size=32,
            patch_size=config.patch_size_px,
            num_classes=0,
            global_pool="",
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            mlp_ratio=config.mlp_width / config.width,
            init_values=1.0 if config.layer_scale else None,
            class_token=config.cls_token,
            no_embed_class=True,
            reg_tokens=config.register_tokens,
        ).eval()
        weights = timm_tensors(random_tower(config))
        named = {n.replace(".scale_factor", ".gamma"): t for n, t in weights.items()}
        tower.load_state_dict(named)
        normalised = (images / 255 - mean) / std
        patches.append(tower.get_intermediate_layers(normalised, n={config.depth - 2})[0])
    return projector(192, TOKEN_WIDTH)(torch.cat(patches, dim=2))
