"""Unit quaternions (x, y, z, w), the rotations of glTF and USD."""

from __future__ import annotations

import numpy as np


def quaternion_from_axis_angle(axis_angle: np.ndarray) -> np.ndarray:
    """(..., 3) rad -> (..., 4) x, y, z, w.

    Along a sequence (N, 3) the sign follows the previous element, so that players interpolate the
    short way.
    """
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    # sin(angle / 2) / angle, finite at zero: numpy's sinc is sin(pi x) / (pi x).
    vector = axis_angle * (0.5 * np.sinc(angle / (2 * np.pi)))
    quaternion = np.concatenate([vector, np.cos(angle / 2)], axis=-1)
    if quaternion.ndim != 2:
        return quaternion
    flips = np.sign(np.sum(quaternion[1:] * quaternion[:-1], axis=1))
    flips[flips == 0] = 1
    return quaternion * np.concatenate([[1.0], np.cumprod(flips)])[:, None]


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) -> (4,) x, y, z, w with w >= 0.

    The eigenvector of the largest eigenvalue (Bar-Itzhack 2000).
    """
    m = matrix
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    quaternion = np.linalg.eigh(k / 3.0)[1][:, -1]
    return quaternion if quaternion[3] >= 0 else -quaternion
