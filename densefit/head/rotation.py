"""Axis-angle vectors and rotation matrices, in numpy and in torch with one definition each.

Rodrigues' formula: R = I + sin(a)/a [r]x + (1 - cos a)/a^2 [r]x^2 with a = |r|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]


def rotation_matrix(axis_angle: Array) -> Array:
    """Axis-angle (..., 3) in radians to rotation matrices (..., 3, 3)."""
    r = np.asarray(axis_angle)
    angle_sq = np.sum(r * r, axis=-1)[..., None, None]
    small = angle_sq < 1e-8
    safe = np.where(small, 1.0, angle_sq)
    angle = np.sqrt(safe)
    a = np.where(small, 1 - angle_sq / 6, np.sin(angle) / angle)
    b = np.where(small, 0.5 - angle_sq / 24, (1 - np.cos(angle)) / safe)
    x, y, z = r[..., 0], r[..., 1], r[..., 2]
    o = np.zeros_like(x)
    k = np.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1).reshape(*r.shape[:-1], 3, 3)
    return np.eye(3, dtype=r.dtype) + a * k + b * (k @ k)


def axis_angle(rotation: Array) -> Array:
    """Rotation matrices (..., 3, 3) to axis-angle (..., 3) with angles in [0, pi]."""
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(rotation, dtype=np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(*matrix.shape[:-2], 3)


def continuous_axis_angle(rotation: Array) -> Array:
    """Rotation matrices (T, 3, 3) to vectors (T, 3) that never jump: angles may pass pi."""
    vectors = axis_angle(rotation)
    for t in range(1, len(vectors)):
        angle = np.linalg.norm(vectors[t])
        if angle < 1e-9:
            # A full turn about the last axis is the same rotation, and nearer when the last was
            # one.
            last = np.linalg.norm(vectors[t - 1])
            if last > np.pi:
                vectors[t] = vectors[t - 1] / last * 2 * np.pi * np.round(last / (2 * np.pi))
            continue
        axis = vectors[t] / angle
        along = float(axis @ vectors[t - 1])
        vectors[t] = axis * (angle + 2 * np.pi * np.round((along - angle) / (2 * np.pi)))
    return vectors


def torch_rotation_matrix(axis_angle: torch.Tensor) -> torch.Tensor:
    """Axis-angle (..., 3) in radians to rotation matrices (..., 3, 3), differentiable at zero."""
    import torch

    r = axis_angle
    angle_sq = (r * r).sum(-1)[..., None, None]
    small = angle_sq < 1e-8
    safe = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe.sqrt()
    a = torch.where(small, 1 - angle_sq / 6, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - angle_sq / 24, (1 - torch.cos(angle)) / safe)
    x, y, z = r.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*r.shape[:-1], 3, 3)
    return torch.eye(3, dtype=r.dtype, device=r.device) + a * k + b * (k @ k)
