"""How much a landmark counts in a picture, beyond its own sigma: what can be told from the head's
pose."""

from __future__ import annotations

import numpy as np
import torch

from densefit.fit.landmark_term import project, projection
from densefit.fit.linearization import Planes
from densefit.fit.options import FitOptions
from densefit.fit.state import CameraState
from densefit.head.model import HeadModel

Tensor = torch.Tensor

RAYLEIGH_MEDIAN_SQ = 2 * float(np.log(2))
"""Median of |x - mu|^2 / sigma^2 for two independent Gaussian errors."""
SIGMA_SCALE_RANGE = (0.3, 10.0)
"""Below the lower end, small residuals say more about what the fit absorbs than about the
landmarks."""
FACING_RANGE = (-0.2, 0.15)
"""Cosines between surface normal and view over which a landmark goes from hidden to seen."""


def landmark_normals(head: HeadModel) -> np.ndarray:
    """Unit normals (L, 3) of the template at the landmarks, out of the surface."""
    corners = head.template.astype(np.float64)[head.triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    vertex = np.zeros((len(head.template), 3))
    for corner in range(3):
        np.add.at(vertex, head.triangles[:, corner], face)
    normal = head.landmarks(vertex)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)


def adjust_precision(
    planes: Planes,
    points: Tensor,
    normals: Tensor,
    cameras: CameraState,
    rotation: Tensor,
    shift: Tensor,
    options: FitOptions,
) -> Planes:
    """Lower the precision for what the model cannot represent, and of landmarks on the far side.

    Args:
        points, normals: (3, L) of the mean head. rotation, shift: (T, 3, 3), (T, 3) first poses.
    """
    depth = torch.einsum("ca,ta->tc", cameras.rotation[:, 2], shift) + cameras.translation[:, 2]
    spread = options.model_sigma * cameras.log_focal.exp() / depth.clamp_min(0.05)
    precision = planes.precision
    extra = spread.to(precision.dtype).square()[..., None]
    precision = precision / (1 + precision * extra)
    if options.hidden_weight < 1:
        precision = precision * facing_weight(
            points, normals, cameras, rotation, shift, options.hidden_weight
        )
    return Planes(planes.xy, precision)


def facing_weight(
    points: Tensor,
    normals: Tensor,
    cameras: CameraState,
    rotation: Tensor,
    shift: Tensor,
    hidden: float,
) -> Tensor:
    """(T, C, L): 1 for surface turned to the camera, `hidden` for surface turned away, smooth
    between."""
    centres = -(cameras.rotation.mT @ cameras.translation[..., None])[..., 0]
    local = torch.einsum("tba,tcb->tca", rotation, centres - shift[:, None])
    # Planes one by one: norms and sums over an inner axis of three are slow.
    x, y, z = (local[..., i, None].to(points.dtype) - points[i] for i in range(3))
    length = (x * x + y * y + z * z).sqrt_().clamp_min_(1e-6)
    cosine = (x * normals[0] + y * normals[1] + z * normals[2]) / length
    low, high = FACING_RANGE
    turned = ((cosine - low) / (high - low)).clamp_(0, 1)
    return hidden + (1 - hidden) * turned * turned * (3 - 2 * turned)


def squared_errors(planes: Planes, world: Tensor, cameras: CameraState) -> Tensor:
    """s = |x - mu|^2 / sigma^2 (T, C, L) of landmarks (T, 3, L); nan where there is none."""
    image = project(projection(cameras.matrices, world.dtype), world)
    error = (image[:, :2] / image[:, 2:].clamp_min(1e-3) - planes.xy).square().sum(1)
    return torch.where(planes.precision > 0, error * planes.precision, torch.nan)


def measured_sigma_scale(
    planes: Planes, world: Tensor, cameras: CameraState, bounded: bool = True
) -> Tensor:
    """(C,): what to multiply the sigmas by, so that the more certain half of the landmarks fits
    them.

    Args:
        bounded: keep to SIGMA_SCALE_RANGE.

    The size of a network's sigma carries over badly from renders to footage, in both directions;
    how they compare with one another carries over well.
    """
    s = squared_errors(planes, world, cameras)
    out = []
    for c in range(s.shape[1]):
        p = planes.precision[:, c]
        typical = torch.where(p > 0, p, torch.nan).nanmedian(1, keepdim=True).values
        certain = s[:, c][(p >= typical) & (p > 0)]
        ratio = float(certain.nanmedian()) / RAYLEIGH_MEDIAN_SQ if len(certain) else 1.0
        scale = float(np.sqrt(ratio))
        out.append(float(np.clip(scale, *SIGMA_SCALE_RANGE)) if bounded else scale)
    return torch.tensor(out, dtype=torch.float64)


def scaled(planes: Planes, sigma_scale: Tensor) -> Planes:
    """Planes with the sigmas of each camera multiplied."""
    return Planes(
        planes.xy, planes.precision / sigma_scale.to(planes.precision.dtype).square()[:, None]
    )
