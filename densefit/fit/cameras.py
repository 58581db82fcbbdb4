"""Between the rig's cameras and the solver's: guesses for what is unknown, and estimates back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.fit import initial
from densefit.fit.linearization import Planes
from densefit.fit.state import CameraState, Motion

if TYPE_CHECKING:
    from calibration import Camera

Tensor = torch.Tensor


def guessed_intrinsics(camera: Camera, factor: float) -> np.ndarray:
    """K (3, 3) of a camera without one: centre of the picture, focal length `factor` of its longer
    side."""
    focal = factor * max(camera.width, camera.height)
    return np.array(
        [[focal, 0, (camera.width - 1) / 2], [0, focal, (camera.height - 1) / 2], [0, 0, 1]]
    )


def camera_state(
    cameras: list[Camera], free_focal: list[bool], refine: bool = False
) -> tuple[CameraState, list[int]]:
    """The solver's cameras, and those whose extrinsics are known.

    Without any extrinsics the first camera is the world.

    Args:
        refine: given extrinsics are unknowns too, where more than one camera has them.
    """
    transforms = [c.T_camera_world for c in cameras]
    if all(t is None for t in transforms):
        transforms[0] = np.eye(4)
    given = [c.T_camera_world is not None for c in cameras]
    refine = refine and sum(given) > 1
    known = [i for i, t in enumerate(transforms) if t is not None]
    stacked = torch.tensor(np.stack([np.eye(4) if t is None else t for t in transforms]))
    state = CameraState(
        rotation=stacked[:, :3, :3].contiguous(),
        translation=stacked[:, :3, 3].contiguous(),
        log_focal=torch.zeros(len(cameras), dtype=torch.float64),
        free_focal=tuple(free_focal),
        free_extrinsics=tuple(
            t is None or (refine and g) for t, g in zip(transforms, given, strict=True)
        ),
    )
    return state, known


def place_cameras(
    points: Tensor, cameras: CameraState, known: list[int], planes: Planes
) -> tuple[CameraState, list[int]]:
    """Starts for unknown extrinsics from rigid poses of the mean head.

    Cameras are placed one after the other, those with most frames in common with the placed ones
    first. Returns the cameras and which of them are placed: one that never sees the head cannot be.
    """
    known = list(known)
    waiting = [c for c in range(len(cameras.free_focal)) if c not in known]
    seen = (planes.precision > 0).any(2)
    while waiting:
        rotation, shift, score = initial.initial_poses(points, cameras, planes, known)
        usable = torch.isfinite(score) & (
            score < max(initial.GOOD_SCORE, 1.5 * float(score.nanmedian()))
        )
        common = [int((usable & seen[:, c]).sum()) for c in waiting]
        camera = waiting.pop(int(np.argmax(common)))
        cameras, placed = initial.initial_extrinsics(
            points, cameras, planes, camera, rotation, shift, usable
        )
        if placed:
            known = sorted([*known, camera])
        else:
            extrinsics = tuple(f and i != camera for i, f in enumerate(cameras.free_extrinsics))
            cameras = replace(cameras, free_extrinsics=extrinsics)
    return cameras, known


def estimated_cameras(
    cameras: list[Camera], state: CameraState, deviation: np.ndarray, placed: list[int]
) -> list[Camera]:
    """The rig's cameras with estimated focal lengths and extrinsics, and their deviations in
    `std`."""
    out = []
    for c, (extrinsics, focal) in enumerate(state.columns()):
        camera = cameras[c]
        std = dict(camera.std or {})
        K = np.array(camera.K)
        if focal is not None:
            K[[0, 1], [0, 1]] *= float(state.log_focal[c].exp())
            std["focal"] = float(K[0, 0] * deviation[focal])
        transform = camera.T_camera_world
        if (transform is None or extrinsics is not None) and c in placed:
            transform = np.eye(4)
            transform[:3, :3], transform[:3, 3] = state.rotation[c], state.translation[c]
        if extrinsics is not None:
            std["rotation"] = float(np.sqrt(np.mean(np.square(deviation[extrinsics][:3]))))
            std["translation"] = float(np.sqrt(np.mean(np.square(deviation[extrinsics][3:]))))
        out.append(replace(camera, K=K, T_camera_world=transform, std=std or None))
    return out


def scale_source(cameras: list[Camera], valid: np.ndarray) -> str:
    """`calibrated` when two placed cameras saw the head at the same time, else `prior`.

    Args:
        valid: (T, C) bool.
    """
    placed = [c.T_camera_world is not None for c in cameras]
    return "calibrated" if (valid[:, placed].sum(axis=1) >= 2).any() else "prior"


def scale_deviation(
    cameras: CameraState, covariance: np.ndarray, motion: Motion, spread: np.ndarray
) -> float:
    """Standard deviation of all sizes relative to themselves, where no calibration gives them.

    That of the longest distance between a camera that is the world, or known in it, and one placed
    by the head; with one camera that of the head's distance, in the middle of the frames.

    Args:
        covariance: (N, N) of the camera columns. spread: (T, 3) deviations of the head's positions.
    """
    centres = -(cameras.rotation.mT @ cameras.translation[..., None])[..., 0]
    known = next((c for c, free in enumerate(cameras.free_extrinsics) if not free), 0)
    best, relative = 0.0, None
    for c, (extrinsics, _) in enumerate(cameras.columns()):
        apart = centres[c] - centres[known]
        length = float(apart.norm())
        if extrinsics is None or length <= best:
            continue
        along = (cameras.rotation[c] @ (apart / length)).numpy()
        shift = covariance[extrinsics, extrinsics][3:, 3:]
        best, relative = length, float(np.sqrt(along @ shift @ along)) / length
    if relative is not None:
        return relative
    view = (motion.translation - centres[known]).numpy()
    distance = np.linalg.norm(view, axis=1)
    return float(np.median(np.sqrt(np.square(view * spread).sum(1)) / np.square(distance)))
