"""How well a rig explains views of a board that it was not made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.boards import Board
from calibration.bundle import Freedom, bundle_adjust, rms
from calibration.calibrate import intrinsics_vector
from calibration.errors import CalibrationError
from calibration.extrinsics import candidate_poses, start_state
from calibration.rig import Rig
from calibration.time_offsets import corner_velocities, offset_step
from calibration.views import View, corners_of

# Time offsets and board poses are found by turns.
_TURNS = 6


def held_out_rms(
    views: list[View],
    board: Board,
    rig: Rig,
    points: np.ndarray | None = None,
    all_views: list[View] | None = None,
) -> tuple[float, dict[str, float], np.ndarray]:
    """How well a rig explains views that it was not made from.

    Cameras stay; only each moment's board pose is fitted. Only moments that several cameras see
    say something about extrinsics, so only those count.

    Args:
        points: (P, 3) float64, metres: the board's points as estimated; default: as stated.
        all_views: with it the cameras' time offsets are fitted too, one number a camera.

    Returns:
        px over all corners; by camera; (N,) distances.
    """
    names = list(rig.cameras)
    shared: dict[int, int] = {}
    for view in views:
        shared[view.moment] = shared.get(view.moment, 0) + 1
    views = [view for view in views if shared[view.moment] > 1]
    if not views:
        raise CalibrationError("no moment at which several cameras see the board")
    lenses = {n: (c.model, intrinsics_vector(c)) for n, c in rig.cameras.items()}
    T = np.stack([np.asarray(c.T_camera_world) for c in rig.cameras.values()])
    nominal = board.points() if points is None else points
    corners, moments, ordered = corners_of(views, nominal, names)
    poses = candidate_poses(views, board, lenses)
    state = start_state(names, lenses, T, poses, corners, moments)
    held = Freedom(
        np.zeros(len(names), bool), tuple(np.zeros(len(v), bool) for v in state.intrinsics)
    )
    observed, offsets = corners.xy, np.zeros(len(names))
    velocity = None if all_views is None else corner_velocities(ordered, all_views)
    result = bundle_adjust(corners, state, held, 40, 1e-9)
    for _ in range(_TURNS):
        if velocity is None:
            break
        offsets = offsets + offset_step(corners, velocity, result.residuals, len(names))
        corners = replace(corners, xy=observed + velocity * offsets[corners.camera, None])
        result = bundle_adjust(corners, result.state, held, 40, 1e-9)
    residuals = result.residuals
    per_camera = {
        name: rms(residuals[corners.camera == c])
        for c, name in enumerate(names)
        if (corners.camera == c).any()
    }
    return rms(residuals), per_camera, np.linalg.norm(residuals, axis=1)
