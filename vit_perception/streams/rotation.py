"""Rotations as unit quaternions (x, y, z, w) and as columns of the rotation matrix."""

import math

import numpy as np

# Above this cosine sin(angle) loses digits, and the chord equals the arc in float64.
_PARALLEL_COSINE = 1.0 - 1e-9
# Below this cosine of the pitch only roll and yaw together are known.
_GIMBAL_LOCK = 1e-6
# Below this sine of half the angle, twice the sine is the angle in float64.
_SMALL_SINE = 1e-9
ROLL_PITCH_YAW = ("roll", "pitch", "yaw")


def slerp(start_xyzw: np.ndarray, end_xyzw: np.ndarray, fraction: float) -> np.ndarray:
    """Return the rotation at ``fraction`` (0 to 1) of the shortest arc from start to end.

    All are unit quaternions (4,) float64. q and -q are the same rotation: ``end`` is negated if
    that is the shorter way (Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985).
    """
    cosine = float(start_xyzw @ end_xyzw)
    sign = -1.0 if cosine < 0.0 else 1.0
    cosine = abs(cosine)
    if cosine > _PARALLEL_COSINE:
        blended = (1.0 - fraction) * start_xyzw + (sign * fraction) * end_xyzw
    else:
        angle = math.acos(cosine)
        blended = (
            math.sin((1.0 - fraction) * angle) * start_xyzw
            + (sign * math.sin(fraction * angle)) * end_xyzw
        ) / math.sin(angle)
    return blended / np.linalg.norm(blended)


def rotation_matrix(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Return the matrix (3, 3) float64 of a unit quaternion: ``v_parent = matrix @ v_child``."""
    x, y, z, w = (float(component) for component in quaternion_xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_6d(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Return the first two columns of the rotation matrix, one after the other, (6,) float64.

    This is continuous over all rotations, unlike quaternions and Euler angles, so networks learn
    better from it (Zhou et al., "On the Continuity of Rotation Representations in Neural Networks",
    CVPR 2019).
    """
    return rotation_matrix(quaternion_xyzw)[:, :2].T.reshape(6)


def roll_pitch_yaw(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Return the turns about the parent's x, then y, then z axis, in rad, (3,) float64 (REP 103).

    Roll and yaw are in [-pi, pi], pitch in [-pi/2, pi/2]. At a pitch of a quarter turn only roll
    and yaw together are known: yaw is 0 there.
    """
    matrix = rotation_matrix(quaternion_xyzw)
    cosine = math.hypot(matrix[0, 0], matrix[1, 0])
    pitch = math.atan2(-matrix[2, 0], cosine)
    if cosine < _GIMBAL_LOCK:
        sign = math.copysign(1.0, pitch)
        return np.array([math.atan2(sign * matrix[0, 1], matrix[1, 1]), pitch, 0.0])
    roll = math.atan2(matrix[2, 1], matrix[2, 2])
    return np.array([roll, pitch, math.atan2(matrix[1, 0], matrix[0, 0])])


def rotation_vector(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Return the axis times the angle, in rad, (3,) float64. The angle is at most pi: q and -q are
    the same rotation.
    """
    sine = float(np.linalg.norm(quaternion_xyzw[:3]))
    cosine = float(quaternion_xyzw[3])
    sign = -1.0 if cosine < 0.0 else 1.0
    scale = 2.0 if sine < _SMALL_SINE else 2.0 * math.atan2(sine, abs(cosine)) / sine
    return sign * scale * quaternion_xyzw[:3]
