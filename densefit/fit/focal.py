"""A start for an unknown focal length of one camera of several: a short fit of it alone.

Rigid poses of a mean head cannot tell a long lens from a flat face; a fit with identity can, a
little, and the prior decides the rest.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from densefit.fit.camera_prior import CameraPrior
from densefit.fit.initial import initial_poses, select_cameras
from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.linearization import Planes
from densefit.fit.options import FitOptions
from densefit.fit.priors import make_priors
from densefit.fit.solver import minimize
from densefit.fit.state import CameraState, State, rest

Tensor = torch.Tensor

FRAMES = 8
SCALES = (30.0, 8.0)
ITERATIONS = 15


def start_focal(
    model: LandmarkModel,
    cameras: CameraState,
    planes: Planes,
    camera: int,
    points: Tensor,
    identity: Tensor,
    options: FitOptions,
    prior: CameraPrior,
) -> CameraState:
    """The cameras with the focal length of one replaced by that of a short fit of it alone.

    Args:
        points: (3, L) mean head. planes: some frames of all cameras. identity: (K,) start, or the
        known one. prior: of that camera alone.
    """
    seen = torch.nonzero((planes.precision[:, camera] > 0).any(1)).flatten()
    if not len(seen):
        return cameras
    index = seen[torch.linspace(0, len(seen) - 1, min(len(seen), FRAMES)).round().long().unique()]
    part = Planes(planes.xy[index][:, :, [camera]], planes.precision[index][:, [camera]])
    short = replace(options, independent_frames=True, max_iterations=ITERATIONS, tolerance=1e-3)
    time = torch.arange(len(index), dtype=torch.float64)
    priors = make_priors(model, short, time, len(index), prior)
    eye = torch.eye(3, dtype=torch.float64)[None]
    alone = replace(
        select_cameras(cameras, [camera]),
        rotation=eye, translation=torch.zeros(1, 3, dtype=torch.float64), free_extrinsics=(False,),
    )  # fmt: skip
    rotation, shift, _ = initial_poses(points, alone, part, [0])
    state = State(identity, rest(rotation, shift), alone)
    found = minimize(
        model, part, priors, state, short, options.identity is None, SCALES, with_system=False
    )
    log_focal = cameras.log_focal.clone()
    log_focal[camera] = found.state.cameras.log_focal[0]
    return replace(cameras, log_focal=log_focal)
