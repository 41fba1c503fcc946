"""The usual sizes, by name: letter / patch size in pixels. A test pins each one's parameter count.

Ti, S: DeiT (arXiv:2012.12877, table 1); B, L, H: Dosovitskiy et al. 2021 (arXiv:2010.11929, table
1), all learned at 224 px; S/14, L/14 and g/14: DINOv2 (arXiv:2304.07193, table 17), with LayerScale
and learned at 518 px.
"""

from vit_perception.model.vision_transformer import ViTConfig

_DINOV2 = {"image_size_px": (518, 518), "layer_scale": True}

VARIANTS: dict[str, ViTConfig] = {
    # Small enough that a test runs it in a millisecond, and with every part that the large ones
    # have.
    "test": ViTConfig(
        width=32,
        depth=3,
        heads=4,
        mlp_width=64,
        patch_size_px=8,
        image_size_px=(64, 64),
        layer_scale=True,
        register_tokens=2,
    ),
    "Ti/16": ViTConfig(width=192, depth=12, heads=3, mlp_width=768, patch_size_px=16),
    "S/16": ViTConfig(width=384, depth=12, heads=6, mlp_width=1536, patch_size_px=16),
    "S/14": ViTConfig(width=384, depth=12, heads=6, mlp_width=1536, patch_size_px=14, **_DINOV2),
    "B/32": ViTConfig(width=768, depth=12, heads=12, mlp_width=3072, patch_size_px=32),
    "B/16": ViTConfig(width=768, depth=12, heads=12, mlp_width=3072, patch_size_px=16),
    "L/16": ViTConfig(width=1024, depth=24, heads=16, mlp_width=4096, patch_size_px=16),
    "L/14": ViTConfig(width=1024, depth=24, heads=16, mlp_width=4096, patch_size_px=14, **_DINOV2),
    "H/14": ViTConfig(width=1280, depth=32, heads=16, mlp_width=5120, patch_size_px=14),
    "g/14": ViTConfig(
        width=1536,
        depth=40,
        heads=24,
        mlp_width=4096,
        patch_size_px=14,
        activation="swiglu",
        **_DINOV2,
    ),
}
