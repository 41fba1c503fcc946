import numpy as np

from vit_perception.pipeline.feature_views import PcaView, attention_view


def test_pca_gives_like_tokens_like_colours_and_keeps_them():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(4, 32)) * 5  # four kinds span three directions: what PCA shows
    index = np.repeat([0, 1, 2, 3], 4)
    tokens = kinds[index] + rng.normal(0, 0.1, (16, 32))
    view = PcaView(frames=2)
    first = view(tokens, (4, 4), (4, 4)).reshape(16, 3).astype(int)
    for kind in range(4):
        assert np.abs(first[index == kind] - first[index == kind][0]).max() < 30
    assert np.abs(first[index == 0].mean(0) - first[index == 2].mean(0)).max() > 60
    view(tokens, (4, 4), (4, 4))
    learned = view(tokens, (4, 4), (4, 4))
    view(
        rng.normal(size=(16, 32)), (4, 4), (4, 4)
    )  # learning is over: another picture changes nothing
    np.testing.assert_array_equal(view(tokens, (4, 4), (4, 4)), learned)


def test_attention_is_bright_where_it_is():
    attention = np.full((2, 16), 0.01)
    attention[:, 5] = 0.5  # row 1, column 1 of 4
    rgb = np.full((64, 64, 3), 100, np.uint8)
    picture = attention_view(attention, (4, 4), rgb).astype(int)
    assert picture.shape == (64, 64, 3)
    assert picture[16:32, 16:32].mean() > picture[:, 40:].mean() + 50
