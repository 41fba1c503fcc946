"""Models of transformers that cannot run here: why, and what to take instead."""

# model_type of config.json -> why not, and what is accepted in its place.
REFUSED = {
    "vit_hybrid": "its patches are features of a ResNet, not pixels; accepted: a vit checkpoint, "
    "e.g. "
    "google/vit-base-patch16-384",
    "dinov3_convnext": "it is a convolutional network; accepted: a dinov3_vit checkpoint, e.g. "
    "facebook/dinov3-vits16-pretrain-lvd1689m",
}
