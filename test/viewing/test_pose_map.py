"""Places on the map of poses, by hand."""

import numpy as np
import pytest

from vit_perception.viewing.pose_map import ARMS, LATER, ArmPath, HandPose, PoseMap

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
QUARTER_TURN = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])


def path(*positions):
    return ArmPath(np.arange(len(positions), dtype=float), np.array(positions, float))


def test_x_is_to_the_right_and_y_is_up():
    area = PoseMap({"arm": path((0, 0, 0), (0.4, 0.2, 1))}, 200)
    # 30 px for the scale, 17 px for the position; 153 px are left, of which the path has 80 %.
    assert area.centre_px == (100, 106.5) and area.px_per_m == pytest.approx(153 * 0.8 / 0.4)
    assert area.place_px((0.2, 0.1)) == pytest.approx((100, 106.5))
    left, right = (area.place_px((x, 0.1))[0] for x in (0.0, 0.4))
    assert left == pytest.approx(100 - 61.2) and right == pytest.approx(100 + 61.2)
    assert area.place_px((0.2, 0.2, 5.0))[1] == pytest.approx(106.5 - 30.6)


def test_the_path_meets_neither_the_scale_nor_the_positions():
    for lines, paths in ((1, ["a"]), (2, ["a", "b"]), (2, ["a", "b", "c"])):
        area = PoseMap({name: path((0, 0, 0), (1, 2, 0)) for name in paths}, 200)
        assert area.place_px((1, 2))[1] > 30 and area.place_px((0, 0))[1] < 200 - lines * 17


@pytest.mark.parametrize(
    "extent_m, scale_m", [(0.4, 0.2), (0.8, 0.5), (3.0, 2.0), (0.001, 0.01), (40.0, 20.0)]
)
def test_the_scale_is_a_round_number_and_fits(extent_m, scale_m):
    area = PoseMap({"arm": path((0, 0, 0), (extent_m, 0, 0))}, 200)
    assert area.scale_m() == pytest.approx(scale_m)
    assert area.scale_m() * area.px_per_m <= 100


def test_the_positions_are_written_in_metres():
    hand = HandPose(np.array([0.1234, -0.5, 1.0]), UPRIGHT)
    assert PoseMap({"arm": path((0, 0, 0))}, 200).texts({"arm": hand}) == [
        "x 0.12  y -0.50  z 1.00 m"
    ]
    two = PoseMap({"left": path((0, 0, 0)), "right": path((1, 0, 0))}, 200)
    assert two.texts({"left": hand, "right": hand})[1] == "right x 0.12  y -0.50  z 1.00 m"


def test_the_path_so_far_is_coloured_and_the_rest_is_grey():
    area = PoseMap({"arm": path((0, 0, 0), (1, 0, 0), (1, 1, 0))}, 200)
    picture = np.asarray(area.draw(1.0, {}))

    def colours_at(position):
        x, y = (round(value) for value in area.place_px(position))
        return {
            tuple(map(int, pixel)) for pixel in picture[y - 1 : y + 2, x - 1 : x + 2].reshape(9, 3)
        }

    so_far, rest = colours_at((0.5, 0.0)), colours_at((1.0, 0.5))
    assert ARMS[0] in so_far and LATER not in so_far
    assert LATER in rest and ARMS[0] not in rest


def test_the_bar_is_the_hands_y_axis():
    area = PoseMap({"arm": path((-1, -1, 0), (1, 1, 0))}, 200)

    def ink(rotation):
        shown = np.asarray(area.draw(0.0, {"arm": HandPose(np.zeros(3), rotation)}))
        dark = np.argwhere(np.all(shown == (25, 25, 30), axis=-1))
        dark = dark[dark[:, 0] > 50]  # not the scale at the top
        return np.ptp(dark, axis=0)  # height, width

    tall, wide = ink(UPRIGHT)
    assert tall > 1.8 * wide
    tall, wide = ink(QUARTER_TURN)
    assert wide > 1.8 * tall


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e300])
def test_positions_that_are_no_places_break_nothing(odd):
    paths = {"arm": path((0, 0, 0), (odd, 0, 0), (0.1, odd, 0)), "idle": path()}
    paths["idle"] = ArmPath(np.zeros(0), np.zeros((0, 3)))
    area = PoseMap(paths, 100)
    hands = {"arm": HandPose(np.array([odd, 0, 0]), UPRIGHT), "new": HandPose(np.zeros(3), UPRIGHT)}
    assert area.draw(2.0, hands).size == (100, 100)
    assert all(np.isfinite(area.place_px((odd, odd))))
