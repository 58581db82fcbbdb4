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
    """Cameras ready for planes: u = (p0 X) / (p2 X), v = (p1 X) / (p2 X), p rows of a 3x4 matrix.

    One set of C cameras for all frames, or (first axis t) one for each frame, which is how points
    in the head frame are seen.
    """

    rows: Tensor
    """(3 C, 3) or (t, 3 C, 3)."""
    offsets: Tensor
    """(3 C, 1)."""
    to_information: Tensor
    """(6, 4 C)."""
    to_gradient: Tensor
    """(3, 3 C)."""

    @property
    def count(self) -> int:
        """C."""
        return self.rows.shape[-2] // 3

    def take(self, part: slice) -> Projection:
        """Of some of the frames."""
        return Projection(
            self.rows[part], self.offsets[part], self.to_information[part], self.to_gradient[part]
        )


def projection(matrices: Tensor, dtype: torch.dtype) -> Projection:
    """Prepare camera matrices (C, 3, 4) or (t, C, 3, 4) float64."""
    turn = matrices[..., :3]
    p0, p1, p2 = turn.unbind(-2)

    def products(x: Tensor, y: Tensor) -> Tensor:
        rows = [
            x[..., i] * y[..., j] + (x[..., j] * y[..., i] if x is not y else 0) for i, j in PAIRS
        ]
        return torch.stack(rows, -2)

    information = [
        products(p0, p0) + products(p1, p1),
        -products(p0, p2),
        -products(p1, p2),
        products(p2, p2),
    ]
    return Projection(
        rows=turn.transpose(-3, -2).flatten(-3, -2).to(dtype).contiguous(),
        offsets=matrices[..., 3].mT.flatten(-2)[..., None].to(dtype).contiguous(),
        to_information=torch.cat(information, -1).to(dtype).contiguous(),
        to_gradient=torch.cat([p0.mT, p1.mT, -p2.mT], -1).to(dtype).contiguous(),
    )


def head_projection(
    matrices: Tensor, rotation: Tensor, translation: Tensor, dtype: torch.dtype
) -> Projection:
    """Camera matrices (C, 3, 4) as seen from heads at (t, 3, 3), (t, 3): points, information and
    gradients are then those of the head frame."""
    turn = matrices[:, :, :3] @ rotation[:, None]
    shift = matrices[:, :, :3] @ translation[:, None, :, None] + matrices[:, :, 3:]
    return projection(torch.cat([turn, shift], 3), dtype)


def project(cameras: Projection, points: Tensor) -> Tensor:
    """Planes (t, 3, L) to homogeneous image planes (t, 3, C, L)."""
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
    """(t, C): sum of rho(s) over the landmarks."""


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
    front = None if float(depth.detach().amin()) > NEAREST else depth > NEAREST
    if front is not None:
        depth = torch.where(front, depth, torch.ones_like(depth))
    inverse = depth.reciprocal()
    if front is not None:
        inverse = inverse * front
    u, v = image[:, 0] * inverse, image[:, 1] * inverse
    ru, rv = u - xy[:, 0], v - xy[:, 1]
    c2 = scale * scale
    s = (ru * ru).addcmul_(rv, rv) * precision
    w = c2 / (s + c2)
    lost = s * w
    if front is not None:
        void = ~front & (precision > 0)
        w = torch.where(void, torch.zeros_like(w), w)
        lost = torch.where(void, torch.full_like(lost, c2), lost)
    slope = (w * w).mul_(precision).mul_(strength)
    curvature = (2 * w).clamp_(min=1.05).sub_(1).mul_(slope) if newton else slope
    cost = lost.sum(-1).double() * (0.5 * strength)
    return RobustResidual(u, v, ru, rv, inverse, slope, curvature, cost)


def collapse(cameras: Projection, residual: RobustResidual) -> tuple[Tensor, Tensor]:
    """All cameras to information planes (t, 6, L) and gradient planes (t, 3, L), in the frame that
    `cameras` see points of."""
    frames, count, landmarks = residual.u.shape
    information, gradient = coefficients(residual)
    return (
        cameras.to_information @ information.reshape(frames, 4 * count, landmarks),
        cameras.to_gradient @ gradient.reshape(frames, 3 * count, landmarks),
    )


def coefficients(residual: RobustResidual) -> tuple[Tensor, Tensor]:
    """The products (t, 4, C, L) and (t, 3, C, L) that H and g are linear in."""
    r = residual
    frames, count, landmarks = r.u.shape
    information = r.u.new_empty(frames, 4, count, landmarks)
    gradient = r.u.new_empty(frames, 3, count, landmarks)
    s = r.slope * r.inverse_depth
    h = s if r.curvature is r.slope else r.curvature * r.inverse_depth
    h, hu, hv = (
        torch.mul(h, r.inverse_depth, out=information[:, 0]),
        information[:, 1],
        information[:, 2],
    )
    torch.mul(h, r.u, out=hu)
    torch.mul(h, r.v, out=hv)
    torch.mul(hu, r.u, out=information[:, 3]).addcmul_(hv, r.v)
    gu = torch.mul(r.residual_u, s, out=gradient[:, 0])
    gv = torch.mul(r.residual_v, s, out=gradient[:, 1])
    torch.mul(gu, r.u, out=gradient[:, 2]).addcmul_(gv, r.v)
    return information, gradient
