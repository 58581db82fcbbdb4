"""E_cameras: what is known beforehand of focal lengths and extrinsics that the fit may move.

    focal        1/2 (log(f / f0) / sd)^2
    extrinsics   1/2 |log(R R0^T)|^2 / sd_rotation^2 + 1/2 |t - R R0^T t0|^2 / sd_translation^2

R0, t0 as given; t - R R0^T t0 is how far the centre of projection moved, in the camera's own axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.fit import so3
from densefit.fit.state import CameraState

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.fit.options import FitOptions

Tensor = torch.Tensor


@dataclass(frozen=True)
class CameraPrior:
    """Of C cameras, float64; infinite deviations where nothing is known."""

    rotation: Tensor
    """(C, 3, 3): world to camera as given."""
    translation: Tensor
    """(C, 3)."""
    rotation_sd: Tensor
    """(C,) rad per axis."""
    translation_sd: Tensor
    """(C,) m per axis."""
    focal_mean: Tensor
    """(C,) of log focal length over its first guess."""
    focal_sd: Tensor
    """(C,)."""
    focal_pull: Tensor
    """(C,): slope of the energy by log focal length (see `distance.py`); mostly zero."""

    def take(self, index: list[int]) -> CameraPrior:
        """Of some of the cameras."""
        return CameraPrior(*(getattr(self, f)[index] for f in CameraPrior.__dataclass_fields__))

    def narrowed(self, growth: float) -> CameraPrior:
        """The same as if seen `growth` times."""
        factor = growth**-0.5 if growth > 0 else math.inf
        return replace(
            self,
            rotation_sd=self.rotation_sd * factor,
            translation_sd=self.translation_sd * factor,
            focal_sd=self.focal_sd * factor,
            focal_pull=self.focal_pull if growth > 0 else 0 * self.focal_pull,
        )


def camera_prior(cameras: list[Camera], options: FitOptions) -> CameraPrior:
    """Deviations are the rig file's own `std`, else those of the options.

    Args:
        cameras: as given; K None where the focal length is unknown.
    """
    count = len(cameras)
    rotation = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    translation = torch.zeros(count, 3, dtype=torch.float64)
    deviations = torch.full((3, count), math.inf, dtype=torch.float64)
    for c, camera in enumerate(cameras):
        std = camera.std or {}
        if camera.T_camera_world is not None:
            rotation[c] = torch.tensor(np.array(camera.T_camera_world[:3, :3]))
            translation[c] = torch.tensor(np.array(camera.T_camera_world[:3, 3]))
            deviations[0, c] = std.get("rotation") or options.refine_rotation_sd
            deviations[1, c] = std.get("translation") or options.refine_translation_sd
        if camera.K is None or options.refine_cameras != "all":
            deviations[2, c] = options.focal_sd
        else:
            given = std.get("focal", 0.0) / float(camera.K[0, 0])
            deviations[2, c] = given or options.refine_focal_sd
    mean = torch.zeros(count, dtype=torch.float64)
    return CameraPrior(
        rotation, translation, deviations[0], deviations[1], mean, deviations[2], 0 * mean
    )


@dataclass(frozen=True)
class CameraPriorTerm:
    """Cost and derivatives by the camera columns, float64."""

    cost: Tensor
    gradient: Tensor
    """(N,)."""
    block: Tensor
    """(N, N)."""


def camera_prior_term(prior: CameraPrior, cameras: CameraState) -> CameraPriorTerm:
    """Differentiate E_cameras by the steps of `state.move_cameras`.

    For e = log(R R0^T), the gradient of |e|^2 / 2 by a small rotation from the left is e exactly;
    of the shift d = t - R R0^T t0, which the rotation w takes to d + w x d, it is d by the shift
    and zero by the rotation.
    """
    count = cameras.unknowns
    cost = torch.zeros((), dtype=torch.float64)
    gradient = torch.zeros(count, dtype=torch.float64)
    block = torch.zeros(count, count, dtype=torch.float64)
    for c, (extrinsics, focal) in enumerate(cameras.columns()):
        if extrinsics is not None and math.isfinite(float(prior.rotation_sd[c])):
            turn = cameras.rotation[c] @ prior.rotation[c].T
            angle = so3.log(turn)
            moved = cameras.translation[c] - turn @ prior.translation[c]
            tight = prior.rotation_sd[c] ** -2, prior.translation_sd[c] ** -2
            cost = cost + 0.5 * (tight[0] * angle @ angle + tight[1] * moved @ moved)
            gradient[extrinsics] += torch.cat([tight[0] * angle, tight[1] * moved])
            slope = torch.cat([-so3.skew(moved), torch.eye(3, dtype=torch.float64)], 1)
            own = tight[1] * slope.T @ slope
            own[:3, :3] += tight[0] * torch.eye(3, dtype=torch.float64)
            block[extrinsics, extrinsics] += own
        if focal is not None:
            away = cameras.log_focal[c] - prior.focal_mean[c]
            cost = cost + 0.5 * (away / prior.focal_sd[c]) ** 2 + prior.focal_pull[c] * away
            gradient[focal] += away / prior.focal_sd[c] ** 2 + prior.focal_pull[c]
            block[focal, focal] += prior.focal_sd[c] ** -2
    return CameraPriorTerm(cost, gradient, block)
