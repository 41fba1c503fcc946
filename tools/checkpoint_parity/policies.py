"""Whole policies with random weights: towers and connectors by transformers and timm.

``tokens`` are those behind the connector, as ``embed_image`` gives them: where the policy scales
them (SmolVLA), divided by the factor. The language model is tiny; tower and connector have their
real shapes. Images are prepared by the policies' rules written out with torch and Pillow.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import (
    Origin,
    Row,
    compare,
    pictures,
    preprocessing_difference,
    randomise,
    rgb_image,
    timed,
)
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.reference import graph_of, reference_outputs
from vit_perception.image.preprocess import Preprocessor

torchvision_ops.declare()
import transformers

from test.checkpoints.policies import policy_folders
from test.checkpoints.policies.policy_images import (
    prepared_by_lerobot,
    prepared_by_openpi,
    prepared_by_smolvla,
)

_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
_BASE_512 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
_NOTE = "tokens behind the connector; pixels against the policy's rule written out"
# (H, W, 3) uint8 and the side in px -> (3, side, side) from 0 to 255.
_Prepare = Callable[[np.ndarray, int], torch.Tensor]


@dataclass(frozen=True)
class _Policy:
    """One row."""

    family: str
    what: str
    config: dict
    tensors: dict[str, torch.Tensor]
    prepare: _Prepare
    side_px: int
    note: str = _NOTE


def rows() -> list[Row]:
    """π0 as LeRobot and as openpi write it, SmolVLA, and OpenVLA where timm is installed."""
    transformers.logging.set_verbosity_error()
    found = []
    pi0 = randomise(policy_folders.paligemma(width=2048, **_SO400M))
    image_resolution = [224, 224]
    for what, config, prefix, prepare in (
        (
            "LeRobot's π0, so400m/14 at 224 px, 4 of 27 blocks",
            policy_folders.lerobot_config("pi0", image_resolution=image_resolution),
            "model.",
            prepared_by_lerobot,
        ),
        (
            "openpi's π0, so400m/14 at 224 px, 4 of 27 blocks",
            policy_folders.OPENPI,
            "",
            prepared_by_openpi,
        ),
    ):
        tensors = policy_folders.pi0_tensors(pi0, prefix)
        found.append(
            _row(_Policy("pi0", what, config, tensors, prepare, 224), lambda x: _pi0(pi0, x))
        )
    smolvla = randomise(policy_folders.smolvlm(width=960, **_BASE_512))
    policy = _Policy(
        family="smolvla",
        what="SmolVLM2's B/16 at 512 px",
        config=policy_folders.lerobot_config("smolvla", resize_imgs_with_padding=[512, 512]),
        tensors=policy_folders.smolvla_tensors(smolvla),
        prepare=prepared_by_smolvla,
        side_px=512,
    )
    found.append(_row(policy, lambda x: _smolvla(smolvla, x)))
    return [*found, _openvla()] if find_spec("timm") else found


def _openvla() -> Row:
    """Both towers by timm, with the sizes and switches of the version that OpenVLA pins."""
    import timm

    names = ("vit_large_patch14_reg4_dinov2", "vit_so400m_patch14_siglip_224")
    towers = [
        randomise(
            timm.create_model(
                name, pretrained=False, num_classes=0, img_size=224, depth=6, act_layer=act
            ),
            seed,
        )
        for seed, (name, act) in enumerate(zip(names, (None, "gelu")))
    ]
    projector = randomise(policy_folders.projector(2176, 4096))
    tensors = policy_folders.projector_tensors(projector)
    for below, tower in zip(("featurizer", "fused_featurizer"), towers):
        for name, tensor in tower.state_dict().items():
            renamed = name.replace(".gamma", ".scale_factor")
            tensors[f"vision_backbone.{below}.{renamed}"] = tensor.contiguous()
    config = {**policy_folders.OPENVLA, "image_sizes": [224, 224]}
    images = {**policy_folders.OPENVLA_IMAGES, "input_sizes": [[3, 224, 224]] * 2}

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> np.ndarray:
        patches = []
        for tower, mean, std in zip(towers, images["means"], images["stds"]):
            normalised = torch.from_numpy(pixels).float() / 255 - torch.tensor(mean)[:, None, None]
            normalised /= torch.tensor(std)[:, None, None]
            patches.append(tower.get_intermediate_layers(normalised, n={4})[0])
        return projector(torch.cat(patches, dim=2)).numpy()

    with tempfile.TemporaryDirectory() as folder:
        policy_folders.write(Path(folder), config, tensors)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(images))
        loaded, load_s = timed(lambda: load_checkpoint(folder))
        preprocess = Preprocessor(loaded.card.rule)
        pixels = np.stack([preprocess(rgb_image(p)).numpy() for p in pictures()[:2]])
        ours = reference_outputs(graph_of(loaded), pixels).patch_tokens
        resized = preprocessing_difference(loaded, _stretched)
    return Row(
        family="openvla",
        what="DINOv2 L/14 reg4 and SigLIP so400m/14, 6 of 24 and of 27 blocks",
        origin=f"timm {timm.__version__}",
        tokens=float(np.abs(ours - run(pixels)).max()),
        preprocessing=resized,
        load_s=load_s,
        note="tokens behind the projector, of the fifth block; pixels against Pillow's bicubic",
    )


def _stretched(picture: Image.Image) -> np.ndarray:
    """A picture as OpenVLA's first tower takes it."""
    resized = picture.resize((224, 224), Image.Resampling.BICUBIC)
    mean, std = (
        np.array(policy_folders.OPENVLA_IMAGES[n][0])[:, None, None] for n in ("means", "stds")
    )
    return (np.asarray(resized).transpose(2, 0, 1) / 255 - mean) / std


def _row(policy: _Policy, run: Callable[[torch.Tensor], torch.Tensor]) -> Row:
    def run_numpy(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {"patch_tokens": run(torch.from_numpy(images)).numpy()}

    def prepare(picture: Image.Image) -> np.ndarray:
        return policy.prepare(np.asarray(picture), policy.side_px).numpy() / 127.5 - 1

    name = f"transformers {transformers.__version__}"
    with tempfile.TemporaryDirectory() as folder:
        policy_folders.write(Path(folder), policy.config, policy.tensors)
        return compare(
            family=policy.family,
            what=policy.what,
            checkpoint=Path(folder),
            origin=Origin(name, run_numpy, prepare),
            note=policy.note,
        )


def _pi0(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = model.model.get_image_features(images).pooler_output
    return features


def _smolvla(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    tower = model.model.vision_model(pixel_values=images, patch_attention_mask=None)
    tokens: torch.Tensor = model.model.connector(tower.last_hidden_state)
    return tokens
