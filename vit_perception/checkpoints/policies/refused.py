"""Policies whose vision is no Vision Transformer, or not read here: why, and what to do instead."""

from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles, is_there
from vit_perception.checkpoints.policies.policy_files import (
    ADAPTER_FILES,
    config_path,
    policy_type,
)

_TRAIN = (
    "accepted: another encoder here, e.g. model.checkpoint: demo, and the policy trained on its "
    "tokens (docs/policies.md)"
)
_RESNET = f"its image encoder is a ResNet, whose features are no tokens of patches; {_TRAIN}"
_DAVIT = f"its tower is Florence-2's DaViT, of convolutions and windows; {_TRAIN}"
_GROOT = (
    "its images are resized twice around a cut, which is not made here; accepted: its Qwen3-VL "
    "tower with the merger alone (the backbone's visual.save_pretrained(folder)), with the "
    "preprocessor_config.json of its backbone, as a qwen3_vl checkpoint"
)
_GROOT_EAGLE = (
    "its Eagle tower, of GR00T before N1.7, is not read here; accepted: GR00T N1.7's tower, as a "
    "qwen3_vl checkpoint"
)
# NVIDIA's ``model_type``.
_OF_NVIDIA = {"Gr00tN1d7": _GROOT, "gr00t_n1_5": _GROOT_EAGLE}
# RDT's config.json has no ``type``.
_RDT = ("img_token_dim", "img_cond_len", "state_token_dim")
_FEATURES = (
    "accepted: the policies of docs/policies.md, or the tower alone in a family of "
    "docs/checkpoints.md"
)
# LeRobot's ``type`` of config.json -> why not, and what is accepted in its place.
REFUSED = {
    "act": _RESNET,
    "diffusion": _RESNET,
    "vqbet": _RESNET,
    "tdmpc": f"its image encoder is a small convolutional network; {_TRAIN}",
    "sac": f"its image encoder is a convolutional network; {_TRAIN}",
    "xvla": _DAVIT,
}


def refusal(files: CheckpointFiles) -> str:
    """Say why a policy's files cannot be read; empty if they are no policy's."""
    adapter = [name for name in ADAPTER_FILES if is_there(files.folder / name)]
    if adapter and files.path.name in ADAPTER_FILES:
        return (
            f"{files.path} is a LoRA adapter without the policy that it belongs to; accepted: the "
            "policy with the adapter merged into it (peft: "
            "model.merge_and_unload().save_pretrained(folder))"
        )
    kind = policy_type(files)
    if files.config is not None and all(name in files.config for name in _RDT):
        return (
            f"{config_path(files)} is of RDT, whose file holds no image encoder: it takes the last "
            "block's tokens of a stock SigLIP, of pictures padded to a square; accepted: that "
            "tower, model.checkpoint: hf://google/siglip-so400m-patch14-384"
        )
    if not kind:
        named = (files.config or {}).get("model_type")
        why = _OF_NVIDIA.get(named, "") if isinstance(named, str) else ""
        return f"model_type in {config_path(files)} is {named!r}: {why}" if why else ""
    if kind == "groot":
        is_eagle = any(".eagle_model." in name for name in files.tensors)
        return f"{config_path(files)} is of a groot policy: {_GROOT_EAGLE if is_eagle else _GROOT}"
    why = REFUSED.get(kind, f"its vision tower is not read here; {_FEATURES}")
    return f"{config_path(files)} is of a {kind} policy: {why}"
