"""keras-vit and vit-keras, their models saved by Keras as .h5.

keras-vit was written for Keras 2.9: it runs here on the package tf-keras, which is Keras 2, with
the two names (tf, np) that its ``backend`` module no longer shows. vit-keras runs on Keras 3 as it
is.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf
from PIL import Image

from tools.checkpoint_parity.rows import Origin, Row, compare, timed

os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tf_keras

SIZES = {"B": (768, 3072, 12), "L": (1024, 4096, 16)}


def rows() -> list[Row]:
    """keras-vit in its two sizes, with and without pre_logits; vit-keras."""
    return [
        _keras_vit("ViT-B16, 21k", "B", 12, 224, 16, 21843, True),
        _keras_vit("ViT-L32, 4 of its 24 blocks", "L", 4, 384, 32, 1000, False),
        _vit_keras("vit-keras B16, 4 of its 12 blocks", "B", 4, 224, 16, 1000),
    ]


def _keras_vit(
    name: str, size: str, depth: int, side: int, patch: int, classes: int, pre_logits: bool
) -> Row:
    _as_keras_2()
    from keras_vit.vit import ViT  # its import is of the Keras set up above

    width, hidden, heads = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.h5"

        def build():
            return ViT(
                image_size=side,
                patch_size=patch,
                num_classes=classes,
                hidden_dim=width,
                mlp_dim=hidden,
                atten_heads=heads,
                encoder_depth=depth,
                pre_logits=pre_logits,
            )

        _randomise(made := build())
        made.save_weights(str(path))

        def load():
            model = build()
            model.load_weights(str(path))
            return model

        model, load_s = timed(load, warm=False)
        origin = Origin(
            f"keras-vit 1.0.1 on tf-keras {tf_keras.__version__}",
            _run(lambda x: _outputs(model, x)),
            _prepare(side),
            load_s,
        )
        return compare("keras_vit", name, path, origin)


def _outputs(model, images):
    """Tokens behind the norm, and logits: the model's own layers, called as its ``call`` does."""
    x = model.position_embedding(model.add_cls_token(model.patch_embedding(images)))
    for block in model.encoder_blocks:
        x = block(x)
    return model.layer_norm(x), model(images)


def _vit_keras(name: str, size: str, depth: int, side: int, patch: int, classes: int) -> Row:
    for module in [name for name in sys.modules if name == "keras" or name.startswith("keras.")]:
        del sys.modules[module]
    import keras

    sys.modules.setdefault(
        "validators", ModuleType("validators")
    )  # for URLs of pictures, which are not read here
    from vit_keras import vit

    width, hidden, heads = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        made = vit.build_model(side, patch, depth, width, heads, "vit", hidden, classes)
        _randomise(made)
        made.save(str(path))
        tokens = keras.Model(made.inputs, made.get_layer("Transformer_encoder_norm").output)
        origin = Origin(
            f"vit-keras 0.2.0 on keras {keras.__version__}",
            _run(lambda x: (tokens(x), made(x))),
            _prepare(side),
        )
        return compare("keras_vit", name, path, origin)


def _as_keras_2() -> None:
    tf_keras.backend.tf, tf_keras.backend.np = tf, np
    sys.modules["keras"] = tf_keras
    for part in ("layers", "models", "utils", "backend", "activations"):
        sys.modules[f"keras.{part}"] = getattr(tf_keras, part)


def _randomise(model) -> None:
    generator = np.random.default_rng(0)
    model.set_weights(
        [
            value + generator.standard_normal(value.shape).astype(np.float32) * 0.02
            for value in model.get_weights()
        ]
    )


def _run(outputs: Callable) -> Callable:
    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        tokens, logits = outputs(tf.constant(images.transpose(0, 2, 3, 1)))
        return {
            "cls_token": tokens[:, 0].numpy(),
            "patch_tokens": tokens[:, 1:].numpy(),
            "logits": logits.numpy(),
        }

    return run


def _prepare(side: int) -> Callable[[Image.Image], np.ndarray]:
    """keras_vit.utils.read_img, which wants a file: through one."""
    from keras_vit.utils import read_img

    def prepare(picture: Image.Image) -> np.ndarray:
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            picture.save(file.name)
            return read_img(file.name, (side, side)).transpose(2, 0, 1)

    return prepare
