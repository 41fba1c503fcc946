"""Google's ViT: a model of Flax's own layers by the names of the published files, its parameters
saved as .npz.

vit_jax is on no package index, so the model is put together here as the papers have it
(arXiv:2010.11929, section 3.1; the names are those of the published files), of flax.linen's
attention, norms, convolution and dense layers.
"""

import tempfile
from pathlib import Path

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image
from scipy.ndimage import zoom

from tools.checkpoint_parity.rows import Origin, Row, compare, timed

# (name, width, depth, heads, MLP width, patch in px, side in px, classes, width of pre_logits or
# None, another side)
MODELS = (
    ("Ti/16, 21k", 192, 12, 3, 768, 16, 224, 21843, None, 384),
    ("S/32, 1k", 384, 12, 6, 1536, 32, 384, 1000, None, 224),
    ("B/16, 21k, pre_logits", 768, 12, 12, 3072, 16, 224, 21843, 768, None),
    ("L/16, cifar10", 1024, 24, 16, 4096, 16, 224, 10, None, None),
    ("H/14, 1k, 4 of its 32 blocks", 1280, 4, 16, 5120, 14, 224, 1000, None, None),
)
NOTE = "Flax's layers put together after the paper; vit_jax itself: see below the table"
_POSITIONS = ("Transformer", "posembed_input", "pos_embedding")


class _Mlp(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1], name="Dense_1")(
            nn.gelu(nn.Dense(self.hidden, name="Dense_0")(x))
        )


class _Block(nn.Module):
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        normed = nn.LayerNorm(name="LayerNorm_0")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="MultiHeadDotProductAttention_1")(
            normed, normed
        )
        return x + _Mlp(self.hidden, name="MlpBlock_3")(nn.LayerNorm(name="LayerNorm_2")(x))


class _Positions(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + self.param("pos_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]))


class _Encoder(nn.Module):
    depth: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        x = _Positions(name="posembed_input")(x)
        for index in range(self.depth):
            x = _Block(self.heads, self.hidden, name=f"encoderblock_{index}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class _ViT(nn.Module):
    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    classes: int
    pre_logits: int | None

    @nn.compact
    def __call__(self, images):
        side = (self.patch, self.patch)
        x = nn.Conv(self.width, side, strides=side, padding="VALID", name="embedding")(images)
        x = x.reshape(len(x), -1, self.width)
        cls = self.param("cls", nn.initializers.normal(0.02), (1, 1, self.width))
        tokens = _Encoder(self.depth, self.heads, self.hidden, name="Transformer")(
            jnp.concatenate([jnp.tile(cls, [len(x), 1, 1]), x], axis=1)
        )
        seen = tokens[:, 0]
        if self.pre_logits:
            seen = jnp.tanh(nn.Dense(self.pre_logits, name="pre_logits")(seen))
        return tokens, nn.Dense(self.classes, name="head")(seen)


def rows() -> list[Row]:
    """One row a size."""
    return [_row(*model) for model in MODELS]


def _row(name, width, depth, heads, hidden, patch, side, classes, pre_logits, other_side) -> Row:
    model = _ViT(width, depth, heads, hidden, patch, classes, pre_logits)
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, side, side, 3)))[
        "params"
    ]
    generator = np.random.default_rng(0)
    flat = {
        path: (
            generator.standard_normal(leaf.shape, np.float32) * 0.02 + (path[-1] == "scale")
        ).astype(np.float32)
        for path, leaf in flatten_dict(shapes).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.npz"
        np.savez(path, **{"/".join(parts): value for parts, value in flat.items()})
        params, load_s = timed(lambda: _load(path), warm=False)
        origin = Origin(
            f"flax {flax.__version__}, jax {jax.__version__}",
            lambda images: _run(model, params, images, patch),
            lambda picture: _prepared(picture, side),
            load_s,
        )
        return compare(
            "google_npz",
            name,
            path,
            origin,
            NOTE,
            sizes_px=((other_side,) * 2,) if other_side else (),
        )


def _load(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as archive:
        return unflatten_dict(
            {tuple(name.split("/")): jnp.asarray(archive[name]) for name in archive.files}
        )


def _run(model: _ViT, params: dict, images: np.ndarray, patch: int) -> dict[str, np.ndarray]:
    """The positions go through scipy's zoom of order 1 where the grid is another one, as Google's
    loader does it.
    """
    flat, grid = flatten_dict(params), images.shape[2] // patch
    positions = np.asarray(flat[_POSITIONS])
    learned = round((positions.shape[1] - 1) ** 0.5)
    if learned != grid:
        patches = zoom(
            positions[0, 1:].reshape(learned, learned, -1),
            (grid / learned, grid / learned, 1),
            order=1,
        )
        positions = np.concatenate([positions[:, :1], patches.reshape(1, grid * grid, -1)], axis=1)
    params = unflatten_dict(flat | {_POSITIONS: jnp.asarray(positions)})
    tokens, logits = model.apply({"params": params}, jnp.asarray(images.transpose(0, 2, 3, 1)))
    return {"cls_token": tokens[:, 0], "patch_tokens": tokens[:, 1:], "logits": logits}


def _prepared(picture: Image.Image, side: int) -> np.ndarray:
    resized = tf.image.resize(np.asarray(picture), (side, side)).numpy()
    return ((resized - 127.5) / 127.5).transpose(2, 0, 1)
