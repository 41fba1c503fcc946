"""Models of transformers that cannot run here: why, and what to take instead."""

# model_type of config.json -> why not, and what is accepted in its place.
REFUSED = {
    "vit_hybrid": "its patches are features of a ResNet, not pixels; accepted: a vit checkpoint, "
    "e.g. "
    "google/vit-base-patch16-384",
    "siglip2": "a NaFlex model takes each picture at an aspect ratio and a number of patches of "
    "its own, and an "
    "engine's input has one size; accepted: SigLIP 2 of one size (model_type siglip), e.g. "
    "google/siglip2-base-patch16-256",
    "siglip2_vision_model": "the image tower of a NaFlex model takes each picture at a number of "
    "patches of its own, "
    "and an engine's input has one size; accepted: SigLIP 2 of one size (model_type siglip or "
    "siglip_vision_model), e.g. google/siglip2-base-patch16-256",
    "dinov3_convnext": "it is a convolutional network; accepted: a dinov3_vit checkpoint, e.g. "
    "facebook/dinov3-vits16-pretrain-lvd1689m",
}
