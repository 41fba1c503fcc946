"""Quaternions against rotations that are known, and slerp against the angles between."""

import numpy as np
import pytest

from vit_perception.streams.rotation import (
    roll_pitch_yaw,
    rotation_6d,
    rotation_matrix,
    rotation_vector,
    slerp,
)

HALF = np.sqrt(0.5)
IDENTITY = np.array([0.0, 0, 0, 1])


def about(axis: list[float], degrees: float) -> np.ndarray:
    axis = np.array(axis, float) / np.linalg.norm(axis)
    half = np.radians(degrees) / 2
    return np.r_[np.sin(half) * axis, np.cos(half)]


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations. From both sine and cosine: acos alone is blind to small
    angles.
    """
    near, far = sorted((np.linalg.norm(a - b), np.linalg.norm(a + b)))
    return np.degrees(4 * np.arctan2(near, far))


def random_quaternions(count: int, seed: int = 0) -> np.ndarray:
    quaternions = np.random.default_rng(seed).normal(size=(count, 4))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "quaternion, matrix",
    [
        ([0, 0, 0, 1], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ([HALF, 0, 0, HALF], [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),  # 90 degrees about x: y goes to z
        ([0, HALF, 0, HALF], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),  # about y: z goes to x
        ([0, 0, HALF, HALF], [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),  # about z: x goes to y
        ([1, 0, 0, 0], [[1, 0, 0], [0, -1, 0], [0, 0, -1]]),
        (
            [0.5, 0.5, 0.5, 0.5],
            [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        ),  # 120 degrees about (1, 1, 1): x to y to z
    ],
)
def test_matrices_worked_out_by_hand(quaternion, matrix):
    np.testing.assert_allclose(rotation_matrix(np.array(quaternion, float)), matrix, atol=1e-15)


def test_every_matrix_is_a_rotation_and_blind_to_the_sign():
    for quaternion in random_quaternions(100):
        matrix = rotation_matrix(quaternion)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
        assert np.linalg.det(matrix) == pytest.approx(1)
        np.testing.assert_array_equal(matrix, rotation_matrix(-quaternion))


def test_6d_is_two_columns_one_after_the_other():
    # 90 degrees about z: the columns of the matrix are (0, 1, 0), (-1, 0, 0), (0, 0, 1).
    np.testing.assert_allclose(
        rotation_6d(np.array([0, 0, HALF, HALF])), [0, 1, 0, -1, 0, 0], atol=1e-15
    )


@pytest.mark.parametrize("degrees", [1e-7, 1e-4, 0.01, 1, 90, 179, 180])
def test_slerp_turns_at_constant_speed(degrees):
    end = about([1, 2, 3], degrees)
    for fraction in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        np.testing.assert_allclose(
            slerp(IDENTITY, end, fraction), about([1, 2, 3], fraction * degrees), atol=1e-12
        )


def test_slerp_takes_the_shorter_way_round():
    """-q is the same rotation as q; blending towards it without a flip turns the long way."""
    end = about([0, 0, 1], 40)
    np.testing.assert_allclose(slerp(IDENTITY, -end, 0.5), about([0, 0, 1], 20), atol=1e-12)
    np.testing.assert_allclose(
        slerp(IDENTITY, about([0, 0, 1], 300), 0.5), -about([0, 0, 1], 330), atol=1e-12
    )


def test_slerp_of_any_pair_is_unit_and_halves_the_angle():
    quaternions = random_quaternions(200, seed=1)
    for start, end in zip(quaternions[:100], quaternions[100:]):
        middle = slerp(start, end, 0.5)
        assert np.linalg.norm(middle) == pytest.approx(1, abs=1e-14)
        assert angle_between(start, middle) == pytest.approx(
            angle_between(start, end) / 2, abs=1e-9
        )
        assert angle_between(slerp(end, start, 0.7), slerp(start, end, 0.3)) < 1e-6


@pytest.mark.parametrize("scale", [0.0, 1e-16, 1e-12, 1e-9, 1e-7])
def test_slerp_of_nearly_equal_rotations_stays_finite(scale):
    end = IDENTITY + scale * np.array([1.0, -1, 1, 0])
    end /= np.linalg.norm(end)
    for sign in (1, -1):
        middle = slerp(IDENTITY, sign * end, 0.5)
        np.testing.assert_allclose(middle, IDENTITY + (end - IDENTITY) / 2, atol=1e-14)


def turned(roll_pitch_yaw_rad: np.ndarray) -> np.ndarray:
    """The matrix of turns about the fixed axes x, then y, then z."""
    axes = np.eye(3)
    matrix = np.eye(3)
    for axis, angle in zip(axes, roll_pitch_yaw_rad):
        matrix = rotation_matrix(about(axis, np.degrees(angle))) @ matrix
    return matrix


def test_roll_pitch_yaw_are_turns_about_fixed_axes():
    for axis in np.eye(3):
        found = roll_pitch_yaw(about(list(axis), np.degrees(0.4)))
        np.testing.assert_allclose(found, 0.4 * axis, atol=1e-12)
    for quaternion in random_quaternions(200):
        found = roll_pitch_yaw(quaternion)
        assert abs(found[1]) <= np.pi / 2 and (np.abs(found) <= np.pi).all()
        np.testing.assert_allclose(turned(found), rotation_matrix(quaternion), atol=1e-12)


@pytest.mark.parametrize("pitch_deg", [90, -90])
@pytest.mark.parametrize("roll_deg", [-120, 0, 30])
def test_at_a_quarter_turn_of_pitch_yaw_is_zero_and_the_rotation_is_kept(pitch_deg, roll_deg):
    wanted = turned(np.radians([roll_deg, pitch_deg, 50]))
    about_y = about([0, 1, 0], pitch_deg)
    for quaternion in (about_y, -about_y):
        found = roll_pitch_yaw(quaternion)
        np.testing.assert_allclose(turned(found), rotation_matrix(quaternion), atol=1e-6)
    given = quaternion_of(wanted)
    found = roll_pitch_yaw(given)
    assert found[2] == 0
    np.testing.assert_allclose(turned(found), wanted, atol=1e-6)


def quaternion_of(matrix: np.ndarray) -> np.ndarray:
    """The eigenvector of the turn: the axis; the angle by sine and cosine."""
    values, vectors = np.linalg.eig(matrix)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    angle = np.arctan2(skew @ axis / 2, (np.trace(matrix) - 1) / 2)
    return np.r_[np.sin(angle / 2) * axis, np.cos(angle / 2)]


@pytest.mark.parametrize("degrees", [0, 1e-9, 1e-3, 40, 179.999, 180])
@pytest.mark.parametrize("axis", [[1, 0, 0], [1, -2, 0.5]])
def test_a_rotation_vector_is_the_axis_times_the_angle_whatever_the_sign(degrees, axis):
    wanted = np.radians(degrees) * np.array(axis) / np.linalg.norm(axis)
    quaternion = about(axis, degrees)
    np.testing.assert_allclose(rotation_vector(quaternion), wanted, rtol=1e-9, atol=1e-15)
    if degrees < 180:  # there both directions of the axis are the same rotation
        np.testing.assert_allclose(rotation_vector(-quaternion), wanted, rtol=1e-9, atol=1e-15)
