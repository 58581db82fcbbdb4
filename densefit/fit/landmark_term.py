"""E_landmarks: projection, robust loss, and the collapse of all cameras to one 3x3 per landmark.

With A = dx/dX the 2x3 Jacobian of a camera's projection at the point X, W its robust weight,
the cameras enter the normal equations of everything that moves X only through

    H = sum_c A_c^T W_c A_c  (6 planes, symmetric)    and    g = sum_c A_c^T W_c r_c  (3 planes).

Both are linear in a few products per camera, so that the sum over cameras is one small matrix
product. All functions are pure; t frames, C cameras, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densefit.fit.landmark_model import PAIRS

Tensor = torch.Tensor
NEAREST = 1e-3
"""A point nearer to the camera's plane than this (m) has no picture: it costs the most and pulls
nothing."""


@dataclass(frozen=True)
class Projection:
    """Cameras ready for planes: u = (p0 X) / (p2 X), v = (p1 X) / (p2 X), p rows of a 3x4
    matrix."""

    rows: Tensor
    """(3 C, 3)."""
    offsets: Tensor
    """(3 C, 1)."""
    to_information: Tensor
    """(6, 4 C)."""
    to_gradient: Tensor
    """(3, 3 C)."""

    @property
    def count(self) -> int:
        """C."""
        return len(self.rows) // 3


def projection(matrices: Tensor, dtype: torch.dtype) -> Projection:
    """Prepare camera matrices (C, 3, 4) float64."""
    p0, p1, p2 = (matrices[:, i, :3] for i in range(3))

    def products(x: Tensor, y: Tensor) -> Tensor:
        rows = [x[:, i] * y[:, j] + (x[:, j] * y[:, i] if x is not y else 0) for i, j in PAIRS]
        return torch.stack(rows)

    information = [
        products(p0, p0) + products(p1, p1),
        -products(p0, p2),
        -products(p1, p2),
        products(p2, p2),
    ]
    return Projection(
        rows=matrices[:, :, :3].permute(1, 0, 2).reshape(-1, 3).to(dtype).contiguous(),
        offsets=matrices[:, :, 3].T.reshape(-1, 1).to(dtype).contiguous(),
        to_information=torch.cat(information, 1).to(dtype).contiguous(),
        to_gradient=torch.cat([p0.T, p1.T, -p2.T], 1).to(dtype).contiguous(),
    )


def project(cameras: Projection, points: Tensor) -> Tensor:
    """World planes (t, 3, L) to homogeneous image planes (t, 3, C, L)."""
    frames, _, count = points.shape
    rows = cameras.rows.expand(frames, -1, -1)
    flat = torch.baddbmm(cameras.offsets.expand(frames, -1, count), rows, points)
    return flat.reshape(frames, 3, cameras.count, count)


@dataclass(frozen=True)
class RobustResidual:
    """Residuals and weights of t frames: planes (t, C, L)."""

    u: Tensor
    v: Tensor
    """Projected position."""
    residual_u: Tensor
    residual_v: Tensor
    inverse_depth: Tensor
    slope: Tensor
    """rho' / sigma^2: weight of the gradient."""
    curvature: Tensor
    """Weight of the information: the slope, or rho's mean second derivative where that is larger
    than a floor."""
    cost: Tensor
    """rho(s)."""


def robust_residual(
    image: Tensor,
    xy: Tensor,
    precision: Tensor,
    scale: float,
    strength: float = 1.0,
    newton: bool = False,
) -> RobustResidual:
    """Geman-McClure, rho(s) = c^2/2 s / (s + c^2), with s = precision |x - mu|^2.

    rho' = w^2 / 2 with w = c^2 / (s + c^2); the second derivative of rho over a residual is w^2 (4
    w - 3) along it and w^2 across it, w^2 (2 w - 1) in the mean.

    Args:
        image: (t, 3, C, L) homogeneous; xy: (t, 2, C, L); precision: (t, C, L), zero where absent.
        scale: c.
        strength: multiplies rho, 1 / correlation.
        newton: use the second derivative (close to the minimum) instead of the slope.
    """
    depth = image[:, 2]
    front = depth > NEAREST
    inverse = torch.where(
        front, 1 / torch.where(front, depth, torch.ones_like(depth)), torch.zeros_like(depth)
    )
    u, v = image[:, 0] * inverse, image[:, 1] * inverse
    ru, rv = u - xy[:, 0], v - xy[:, 1]
    c2 = scale * scale
    w = c2 / ((ru * ru + rv * rv) * precision + c2)
    w = torch.where(front | (precision == 0), w, torch.zeros_like(w))
    slope = w * w * (precision * strength)
    curvature = slope * torch.clamp(2 * w - 1, min=0.05) if newton else slope
    return RobustResidual(u, v, ru, rv, inverse, slope, curvature, (0.5 * c2 * strength) * (1 - w))


def collapse(cameras: Projection, residual: RobustResidual) -> tuple[Tensor, Tensor]:
    """All cameras to information planes (t, 6, L) and gradient planes (t, 3, L) in the world."""
    frames, count, landmarks = residual.u.shape
    information, gradient = coefficients(residual)
    return (
        cameras.to_information @ information.reshape(frames, 4 * count, landmarks),
        cameras.to_gradient @ gradient.reshape(frames, 3 * count, landmarks),
    )


def coefficients(residual: RobustResidual) -> tuple[Tensor, Tensor]:
    """The products (t, 4, C, L) and (t, 3, C, L) that H and g are linear in."""
    r = residual
    h = r.curvature * r.inverse_depth * r.inverse_depth
    hu, hv = h * r.u, h * r.v
    information = torch.stack([h, hu, hv, hu * r.u + hv * r.v], 1)
    s = r.slope * r.inverse_depth
    gu, gv = r.residual_u * s, r.residual_v * s
    return information, torch.stack([gu, gv, gu * r.u + gv * r.v], 1)
