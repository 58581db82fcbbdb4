"""Derivatives of rotations, batched in float64: what the solver needs beyond `head.rotation`.

Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics" (2018), appendix B.
"""

from __future__ import annotations

import torch

from densefit.head.rotation import torch_rotation_matrix

Tensor = torch.Tensor


def skew(v: Tensor) -> Tensor:
    """(..., 3) to the matrices (..., 3, 3) with skew(v) x = v cross x."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*v.shape[:-1], 3, 3)


def exp(rotation_vector: Tensor) -> Tensor:
    """Axis-angle (..., 3) to rotation matrices (..., 3, 3)."""
    return torch_rotation_matrix(rotation_vector)


def log(rotation: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) to axis-angle (..., 3), angles in [0, pi], through
    quaternions."""
    m = rotation
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    trace = diagonal.sum(-1, keepdim=True)
    # Squares of twice the quaternion's entries; the largest one divides, so that nothing is lost.
    squares = torch.cat([1 + trace, 1 + 2 * diagonal - trace], -1)
    w_x, w_y, w_z = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    x_y, x_z, y_z = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    products = torch.stack([
        torch.stack([squares[..., 0], w_x, w_y, w_z], -1),
        torch.stack([w_x, squares[..., 1], x_y, x_z], -1),
        torch.stack([w_y, x_y, squares[..., 2], y_z], -1),
        torch.stack([w_z, x_z, y_z, squares[..., 3]], -1),
    ], -2)  # fmt: skip
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    q = products.gather(-2, best).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., :1])
    return q[..., 1:] * torch.where(
        sine < 1e-9, torch.full_like(sine, 2.0), angle / sine.clamp_min(1e-9)
    )


def left_jacobian(rotation_vector: Tensor) -> Tensor:
    """J (..., 3, 3) with exp(r + d) = exp(J d) exp(r) to first order; the right one is J(-r)."""
    r = rotation_vector
    angle_sq = (r * r).sum(-1)[..., None, None]
    small = angle_sq < 1e-8
    safe = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe.sqrt()
    b = torch.where(small, 0.5 - angle_sq / 24, (1 - angle.cos()) / safe)
    c = torch.where(small, 1 / 6 - angle_sq / 120, (angle - angle.sin()) / (safe * angle))
    k = skew(r)
    return torch.eye(3, dtype=r.dtype, device=r.device) + b * k + c * (k @ k)
