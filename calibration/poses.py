"""Board poses from single views with known intrinsics."""

from __future__ import annotations

import numpy as np

from calibration import lens
from calibration.boards import Board
from calibration.rotations import transform
from calibration.views import View

# Rays further from the axis than this make planar pose estimation in x/z, y/z useless.
_WIDEST = np.tan(np.radians(80))


def normalized(model: str, intrinsics: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(N, 2) px -> x/z, y/z without lens; NaN where no ray leads there."""
    plane = (xy - intrinsics[2:4]) / intrinsics[:2]
    if model == "opencv_fisheye":
        return lens.undistort_fisheye(plane, intrinsics[4:])
    return lens.undistort(plane, intrinsics[4:])


def board_tilts(T_camera_board: np.ndarray) -> np.ndarray:
    """(V,) degrees between the boards' planes and the picture's, of (V, 4, 4) poses.

    Only this tilt tells focal length from distance. A board that is parallel to the picture says
    nothing of them, also where it lies to the side and is seen at an angle.
    """
    return np.degrees(np.arccos(np.clip(np.abs(T_camera_board[:, 2, 2]), 0, 1)))


def board_poses(
    view: View, board: Board, model: str, intrinsics: np.ndarray
) -> list[tuple[np.ndarray, float]]:
    """The poses that explain a view, best first.

    A flat board far away looks nearly the same in two poses (Collins and Bartoli, Infinitesimal
    Plane-based Pose Estimation, IJCV 2014), hence up to two.

    Returns:
        (4, 4) T_camera_board in metres, and its rms in px at the focal length; empty if none.
    """
    import cv2

    rays = normalized(model, intrinsics, view.detection.xy)
    good = np.isfinite(rays).all(axis=1) & (np.abs(rays) < _WIDEST).all(axis=1)
    if good.sum() < 6:
        return []
    points, rays = board.points()[view.detection.ids][good], rays[good]
    _, rotations, translations, errors = cv2.solvePnPGeneric(
        points, rays[:, None], np.eye(3), None, flags=cv2.SOLVEPNP_IPPE
    )
    focal = float(intrinsics[:2].mean())
    poses = []
    for rotation, translation, error in zip(rotations, translations, np.ravel(errors), strict=True):
        T = transform(cv2.Rodrigues(rotation)[0], np.ravel(translation))
        in_front = (points @ T[:3, :3].T + T[:3, 3])[:, 2].min() > 0
        if np.isfinite(T).all() and in_front:
            poses.append((T, float(error) * focal))
    return sorted(poses, key=lambda pose: pose[1])
