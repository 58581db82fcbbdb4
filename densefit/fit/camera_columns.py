"""Derivatives of the landmark term by cameras that are not known: extrinsics and focal length."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densefit.fit.geometry import Posed, cross_columns, torque, unit_columns
from densefit.fit.landmark_term import RobustResidual, coefficients, projection
from densefit.fit.state import CameraState

Tensor = torch.Tensor


@dataclass(frozen=True)
class CameraColumns:
    """N camera unknowns against everything, for t frames."""

    planes: Tensor
    """(t, N, 3, L): A^T W dx/dunknown of its camera, in the head frame."""
    block: Tensor
    """(N, N) float64: sum over frames and landmarks."""
    gradient: Tensor
    """(N,) float64."""


def camera_columns(
    cameras: CameraState, residual: RobustResidual, posed: Posed, relief: Tensor | None = None
) -> CameraColumns:
    """All camera columns. A camera moves as T' = exp(w) T + shift in its own frame.

    Args:
        relief: (t, L), how much a landmark moves in the picture where heads go with the focal
            length, over what the focal length alone makes of it (see `dolly.py`).
    """
    dtype, device = posed.world.dtype, posed.world.device
    information, gradient = coefficients(residual)
    frames, _, landmarks = posed.world.shape
    count = cameras.unknowns
    planes = torch.empty(frames, count, 3, landmarks, dtype=dtype, device=device)
    block = torch.zeros(count, count, dtype=torch.float64, device=device)
    pull = torch.zeros(count, dtype=torch.float64, device=device)
    for c, (extrinsics, focal) in enumerate(cameras.columns()):
        if extrinsics is None and focal is None:
            continue
        scale = float(cameras.log_focal[c].exp())
        own = projection(
            torch.diag(torch.tensor([scale, scale, 1.0, 0.0], dtype=torch.float64))[None, :3], dtype
        )
        turn = cameras.rotation[c].to(dtype)
        points = turn @ posed.world + cameras.translation[c].to(dtype)[:, None]
        parts, where = [], []
        if extrinsics is not None:
            six = own.to_information @ information[:, :, c]
            units = unit_columns(six)
            parts += [cross_columns(units, points), units]
            where += list(range(extrinsics.start, extrinsics.stop))
            pull[extrinsics] = _wrench(points, (own.to_gradient @ gradient[:, :, c])[:, None])[:, 0]
        if focal is not None:
            h = residual.curvature[:, c] * residual.inverse_depth[:, c]
            u, v = residual.u[:, c], residual.v[:, c]
            x, y = (u, v) if relief is None else (u * relief, v * relief)
            parts.append(
                (own.to_gradient @ torch.stack([h * x, h * y, h * (u * x + v * y)], 1))[:, None]
            )
            where.append(focal)
            slope = residual.slope[:, c]
            moment = slope * (residual.residual_u[:, c] * x + residual.residual_v[:, c] * y)
            pull[focal] = moment.sum(dtype=torch.float64)
            block[focal, focal] = (residual.curvature[:, c] * (x * x + y * y)).sum(
                dtype=torch.float64
            )
        stacked = torch.cat(parts, 1)
        if extrinsics is not None:
            rows = _wrench(points, stacked)
            block[extrinsics, where] = rows
            block[where, extrinsics] = rows.T
        planes[:, where] = (posed.head_rotation.mT @ turn.T)[:, None] @ stacked
    return CameraColumns(planes, block, pull)


def _wrench(points: Tensor, planes: Tensor) -> Tensor:
    """Products (6, m) with a camera's rotation and shift, summed over frames: planes (t, m, 3,
    L)."""
    turn = torque(points, planes).sum(0)
    shift = planes.sum((0, 3), dtype=torch.float64).T
    return torch.cat([turn, shift], 0)
