"""The embedding of CLS and pose tokens side by side."""

import numpy as np
import pytest

from vit_perception.config.settings import FusionSettings
from vit_perception.tokens.fuse import make_fusion
from vit_perception.tokens.fuse_concat import Concat
from vit_perception.wire.records import TokenGroup, TokenSequence


def group(kind: str, source: str, rows: list[list[float]], valid: bool = True) -> TokenGroup:
    tokens = np.array(rows, np.float32)
    return TokenGroup(kind, source, tokens, valid, embedded=kind != "patch")


def sequence(wrist: bool = True, left: bool = True) -> TokenSequence:
    return TokenSequence.of(
        [
            group("cls", "wrist", [[1, 2]], wrist),
            group("patch", "wrist", [[90, 91], [92, 93]], wrist),
            group("cls", "scene", [[3, 4]]),
            group("patch", "scene", [[94, 95], [96, 97]]),
            group("pose", "left", [[5, 6]], left),
            group("pose", "right", [[7, 8]]),
        ]
    )


@pytest.mark.parametrize(
    "wrist, left, expected",
    [
        (True, True, [1, 2, 3, 4, 5, 6, 7, 8]),
        (False, True, [0, 0, 3, 4, 5, 6, 7, 8]),
        (True, False, [1, 2, 3, 4, 0, 0, 7, 8]),
    ],
)
def test_cls_tokens_then_pose_tokens_with_zeros_for_what_is_missing(wrist, left, expected):
    tokens = sequence(wrist, left)
    embedding = Concat().embedding(tokens)
    assert embedding.tolist() == expected and embedding.dtype == np.float32


def test_all_cls_tokens_come_before_all_pose_tokens():
    tokens = TokenSequence.of([group("pose", "left", [[5, 6]]), group("cls", "wrist", [[1, 2]])])
    assert Concat().embedding(tokens).tolist() == [1, 2, 5, 6]


def test_without_cls_and_pose_tokens_the_embedding_is_empty():
    tokens = TokenSequence.of([group("patch", "wrist", [[1, 2]])])
    assert Concat().embedding(tokens).shape == (0,)


def test_the_embedding_does_not_alias_the_tokens():
    tokens = TokenSequence.of([group("cls", "wrist", [[1, 2]])])
    Concat().embedding(tokens)[:] = 9
    assert tokens.groups[0].tokens.tolist() == [[1, 2]]


def test_concat_is_what_the_settings_make_by_default():
    fusion = make_fusion(FusionSettings(), 2)
    assert (type(fusion), fusion.kind, fusion.weights_sha256) == (Concat, "concat", "")
