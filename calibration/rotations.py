"""Rotations as pure numpy functions: vectors (axis times angle, rad) and matrices, in stacks."""

from __future__ import annotations

import numpy as np

from calibration.errors import CalibrationError


def skew(vectors: np.ndarray) -> np.ndarray:
    """(..., 3) -> (..., 3, 3) with skew(v) x = v cross x."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_from_vector(vectors: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors -> (..., 3, 3) by Rodrigues' formula, exact near zero too."""
    vectors = np.asarray(vectors, float)
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    cross = skew(vectors)
    # sinc keeps both factors finite at zero; numpy's is sin(pi x) / (pi x).
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + first * cross + second * cross @ cross


def vector_from_matrix(R: np.ndarray) -> np.ndarray:
    """(3, 3) rotation -> (3,) vector with an angle of at most pi, by way of the quaternion."""
    w, x, y, z = quaternion_from_matrix(R)
    sine = float(np.linalg.norm([x, y, z]))
    if sine < 1e-12:
        return 2 * np.array([x, y, z])
    angle = 2 * np.arctan2(sine, w)
    return np.array([x, y, z]) * (angle / sine)


def quaternion_from_matrix(R: np.ndarray) -> np.ndarray:
    """(3, 3) rotation -> (4,) unit quaternion w, x, y, z with w >= 0.

    The eigenvector of Bar-Itzhack's symmetric matrix (J. Guidance 2000): no branches, and the
    nearest rotation where R is rounded.
    """
    R = np.asarray(R, float)
    m = np.empty((4, 4))
    m[:3, :3] = R + R.T - np.trace(R) * np.eye(3)
    m[:3, 3] = m[3, :3] = [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]
    m[3, 3] = np.trace(R)
    x, y, z, w = np.linalg.eigh(m)[1][:, -1]
    return np.array([w, x, y, z]) * (1.0 if w >= 0 else -1.0)


def matrix_from_quaternion(q: np.ndarray) -> np.ndarray:
    """(4,) quaternion w, x, y, z of any length but zero -> (3, 3). CalibrationError otherwise."""
    length = np.linalg.norm(q)
    if not 0 < length < np.inf:
        raise CalibrationError(f"a quaternion of length {length:g} is no rotation; export it again")
    w, x, y, z = np.asarray(q, float) / length
    cross = skew(np.array([x, y, z]))
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def angle_between(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations -> (...) radians of A B^T; exact for small angles too."""
    chord = np.linalg.norm(np.asarray(A) - np.asarray(B), axis=(-2, -1)) / np.sqrt(8.0)
    return 2 * np.arcsin(np.clip(chord, 0, 1))


def invert(T: np.ndarray) -> np.ndarray:
    """(..., 4, 4) rigid transform -> its inverse."""
    T = np.asarray(T, float)
    inverse = np.zeros_like(T)
    Rt = np.swapaxes(T[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = Rt
    inverse[..., :3, 3] = -(Rt @ T[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def transform(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(3, 3), (3,) -> (4, 4)."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T
