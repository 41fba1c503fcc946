"""SmolVLA and π0 as lerobot 0.4.4 makes them, with random weights, beside transformers 5.

What stands in for the transformers that lerobot 0.4.4 asks for is all here. It changes nothing
between the two runs of a policy that are compared.
"""

import copy
import sys
import tempfile
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import randomise

torchvision_ops.declare()

CAMERAS = ("top", "wrist", "side")
STATE_COUNT = 7
# The sizes of SmolVLM2-500M, of whose 32 blocks of language SmolVLA uses 16.
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 16,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "head_dim": 64,
    "vocab_size": 49280,
    "pad_token_id": 2,
}
# π0 whole would take 10 GB: 27 blocks of vision, 18 of language and of actions, 257152 words.
PI0_VISION_BLOCKS, PI0_BLOCKS, PI0_WORDS = 4, 2, 1000


def import_lerobot() -> None:
    """Let ``lerobot.policies`` be imported without its ``__init__``, which imports every policy:
    one of them does not load beside transformers 5.

    Raises ImportError if lerobot is missing.
    """
    found = find_spec("lerobot")
    if found is None or not found.submodule_search_locations:
        raise ImportError("lerobot is missing; accepted: the packages of requirements/parity.txt")
    package = types.ModuleType("lerobot.policies")
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "policies")]
    sys.modules.setdefault("lerobot.policies", package)


def smolvla() -> Any:
    """A SmolVLA in its real shapes."""
    from lerobot.policies.smolvla import smolvlm_with_expert
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
    from transformers import SmolVLMConfig

    config = SmolVLMConfig(
        vision_config={**VISION, "model_type": "smolvlm_vision"},
        text_config={**TEXT, "model_type": "llama"},
        scale_factor=4,
        pad_token_id=TEXT["pad_token_id"],
    )
    # Two numbers of the tokenizer are all that is used of it; special tokens are off.
    tokenizer = types.SimpleNamespace(fake_image_token_id=0, global_image_token_id=1)
    processor = types.SimpleNamespace(tokenizer=tokenizer)
    smolvlm_with_expert.AutoProcessor = types.SimpleNamespace(
        from_pretrained=lambda name: processor
    )
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        policy = SmolVLAPolicy(
            SmolVLAConfig(
                vlm_model_name=folder,
                load_vlm_weights=False,
                resize_imgs_with_padding=(VISION["image_size"],) * 2,
                empty_cameras=1,
                device="cpu",
                **_features(),
            )
        )
    return randomise(policy)


def pi0() -> Any:
    """A π0 in its real widths, with fewer blocks and words."""
    _pi0_on_transformers_5()
    from lerobot.policies.pi0.configuration_pi0 import PI0Config
    from lerobot.policies.pi0.modeling_pi0 import PI0Policy

    policy = PI0Policy(PI0Config(device="cpu", dtype="float32", **_features()))
    embedding = policy.model.paligemma_with_expert.paligemma.model.language_model.embed_tokens
    embedding.embed_scale.fill_(1.0)  # here the policy multiplies by it
    return randomise(policy)


def _pi0_on_transformers_5() -> None:
    """Let π0 of lerobot 0.4.4 run beside transformers 5, which it was not written for, and cut it.

    It asks for a fork of transformers 4. Here are what the fork has and transformers 5 has not: a
    function that says so, two names of parts, image features as a tensor, and a cache that a step
    of denoising does not add to.
    """
    import transformers.models.siglip as siglip
    from lerobot.policies.pi0 import modeling_pi0

    siglip.check = types.SimpleNamespace(
        check_whether_transformers_replace_is_installed_correctly=lambda: True
    )
    whole = modeling_pi0.PaliGemmaForConditionalGeneration
    expert = modeling_pi0.GemmaForCausalLM
    whole.language_model = property(lambda self: self.model.language_model)
    whole.vision_tower = property(lambda self: self.model.vision_tower)

    def cut_whole(config: Any) -> Any:
        config.text_config.vocab_size = PI0_WORDS
        config.text_config.num_hidden_layers = PI0_BLOCKS
        config.vision_config.num_hidden_layers = PI0_VISION_BLOCKS
        return whole(config)

    def cut_expert(config: Any) -> Any:
        config.vocab_size = PI0_WORDS
        config.num_hidden_layers = PI0_BLOCKS
        return expert(config)

    modeling_pi0.PaliGemmaForConditionalGeneration = cut_whole
    modeling_pi0.GemmaForCausalLM = cut_expert
    modeling_pi0.PaliGemmaWithExpertModel.embed_image = lambda self, image: (
        self.paligemma.model.get_image_features(image).pooler_output
    )
    denoise_step = modeling_pi0.PI0Pytorch.denoise_step

    def with_a_copy(self: Any, *, past_key_values: Any, **given: Any) -> torch.Tensor:
        return denoise_step(self, past_key_values=copy.deepcopy(past_key_values), **given)

    modeling_pi0.PI0Pytorch.denoise_step = with_a_copy


def _features() -> dict[str, Any]:
    from lerobot.configs.types import FeatureType, PolicyFeature

    images = {
        f"observation.images.{camera}": PolicyFeature(FeatureType.VISUAL, (3, 512, 512))
        for camera in CAMERAS
    }
    state = PolicyFeature(FeatureType.STATE, (STATE_COUNT,))
    return {
        "input_features": {**images, "observation.state": state},
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (STATE_COUNT,))},
    }
