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
from safetensors.torch import save_file
from torch import nn

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.language_models import INTERNVL_1B, run_internvl_whole
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
from vit_perception.checkpoints.defaults import IMAGENET_MEAN, IMAGENET_STD
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.reference import graph_of, reference_outputs
from vit_perception.image.preprocess import Preprocessor

torchvision_ops.declare()
import transformers

from test.checkpoints.policies import policy_folders, test_evo1, test_multi_task_dit
from test.checkpoints.policies.policy_images import (
    prepared_by_evo1,
    prepared_by_lerobot,
    prepared_by_multi_task_dit,
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
    # Of R, G, B, for pixels from 0 to 1.
    mean: tuple[float, ...] = (0.5,) * 3
    std: tuple[float, ...] = (0.5,) * 3
    # Whether the tokens that are compared begin with the CLS token.
    takes_cls: bool = False
    # In place of those of the state, which ``policy_folders.write`` writes.
    statistics: dict[str, torch.Tensor] | None = None


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
    found += [evo1_row(), multi_task_dit_row()]
    return [*found, _openvla()] if find_spec("timm") else found


def evo1_row() -> Row:
    """evo1: InternVL3 1B inside the policy's file."""
    model = randomise(transformers.InternVLModel(INTERNVL_1B))
    tensors = {f"{test_evo1.PREFIX}{n}": tensor for n, tensor in model.state_dict().items()}
    policy = _Policy(
        family="evo1",
        what="InternViT 300M at 448 px, 6 of its 24 blocks",
        config=policy_folders.lerobot_config("evo1", image_resolution=[448, 448]),
        tensors=tensors,
        prepare=prepared_by_evo1,
        side_px=448,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    return _row(policy, lambda x: run_internvl_whole(model, x)["patch_tokens"])


def multi_task_dit_row() -> Row:
    """multi_task_dit: OpenAI's CLIP B/16, whose tokens are those before its final norm."""
    vision = transformers.CLIPVisionConfig(patch_size=16)
    model = randomise(transformers.CLIPVisionModel(vision))
    numbers = {"mean": torch.tensor(IMAGENET_MEAN), "std": torch.tensor(IMAGENET_STD)}
    resize = {"image_resize_shape": [256, 256], "image_crop_shape": [224, 224]}
    policy = _Policy(
        family="multi_task_dit",
        what="CLIP B/16 at 224 px",
        config=policy_folders.lerobot_config("multi_task_dit", **resize)
        | {"normalization_mapping": {"VISUAL": "MEAN_STD"}},
        tensors={
            f"{test_multi_task_dit.TOWER}{n}": tensor for n, tensor in model.state_dict().items()
        },
        prepare=lambda pixels, side: prepared_by_multi_task_dit(pixels, [256, 256], [side, side]),
        side_px=224,
        note="tokens before the final norm; pixels against the policy's rule written out, with a "
        "resize to 256 px",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        takes_cls=True,
        statistics={f"observation.images.top.{n}": tensor for n, tensor in numbers.items()},
    )
    return _row(policy, lambda x: model(x).last_hidden_state)


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
            tokens = run(torch.from_numpy(images)).numpy()
        if not policy.takes_cls:
            return {"patch_tokens": tokens}
        return {"cls_token": tokens[:, 0], "patch_tokens": tokens[:, 1:]}

    def prepare(picture: Image.Image) -> np.ndarray:
        pixels = policy.prepare(np.asarray(picture), policy.side_px).numpy() / 255
        mean, std = (np.array(v)[:, None, None] for v in (policy.mean, policy.std))
        return (pixels - mean) / std

    name = f"transformers {transformers.__version__}"
    with tempfile.TemporaryDirectory() as folder:
        policy_folders.write(Path(folder), policy.config, policy.tensors)
        if policy.statistics is not None:
            save_file(policy.statistics, Path(folder) / policy_folders.NORMALIZER)
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
