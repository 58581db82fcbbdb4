"""Rigs that look at boards: exact projections with noise, and rendered pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from calibration import Camera
from calibration.board_drawing import draw_board, render_board
from calibration.boards import Board
from calibration.detection import Detection
from calibration.rotations import invert, matrix_from_vector, transform
from calibration.views import CameraPictures, View

WIDTH, HEIGHT, FOCAL = 1280, 960, 1100.0


def make_rig(
    count: int = 3, dist: Sequence[float] = (-0.1, 0.05, 0.001, -0.001, 0.01)
) -> list[Camera]:
    """Cameras on an arc of 30 degree steps, 1 m from its centre, the first one the world."""
    cameras = []
    for i in range(count):
        R = matrix_from_vector(np.array([0.02 * i, np.radians(30) * i, 0.01 * i]))
        T = transform(R, np.array([0, 0, 1.0]) - R @ [0, 0, 1.0])
        K = np.array(
            [[FOCAL + 5 * i, 0, 640 + 4 * i], [0, FOCAL + 3 * i, 475 - 2 * i], [0, 0, 1.0]]
        )
        cameras.append(Camera(f"cam{i}", WIDTH, HEIGHT, "opencv", K, np.array(dist), T))
    return cameras


def board_in_view(
    rng: np.random.Generator, board: Board, depth: float = 1.0, spread: float = 0.2
) -> np.ndarray:
    """(4, 4) T_world_board: near the arc's centre, tilted up to 40 degrees to any side."""
    tilt = rng.uniform(-0.7, 0.7, 3) * [1, 1, 0.5]
    R = matrix_from_vector(tilt)
    centre = np.append(rng.uniform(-spread, spread, 2) * depth, depth + rng.uniform(-0.15, 0.15))
    return transform(R, centre - R @ board.points().mean(axis=0))


def observe(
    cameras: Sequence[Camera],
    board: Board,
    boards: Sequence[np.ndarray],
    noise: float,
    rng: np.random.Generator,
) -> list[View]:
    """Views of the board wherever all of it lies in the picture and it is seen from the front."""
    views = []
    for moment, T in enumerate(boards):
        world = board.points() @ T[:3, :3].T + T[:3, 3]
        for camera in cameras:
            normal = camera.T_camera_world[:3, :3] @ T[:3, 2]
            xy = camera.project(world)
            inside = ((xy > 5) & (xy < [camera.width - 6, camera.height - 6])).all()
            if inside and normal[2] > 0.3:
                xy = xy + rng.normal(0, noise, xy.shape)
                detection = Detection(np.arange(len(xy)), xy, 1.0)
                views.append(View(camera.name, moment, detection))
    return views


def pictures(cameras: Sequence[Camera]) -> list[CameraPictures]:
    return [CameraPictures(c.name, c.width, c.height) for c in cameras]


def small_camera() -> Camera:
    """A camera of 800 x 600 pixels at the world's origin, with a lens."""
    K = np.array([[690.0, 0, 405], [0, 690, 297], [0, 0, 1]])
    dist = np.array([-0.1, 0.05, 0.001, -0.001, 0.01])
    return Camera("small", 800, 600, "opencv", K, dist, np.eye(4))


_RAYS: dict[str, np.ndarray] = {}


def _rays(camera: Camera) -> np.ndarray:
    """(H * W, 2) x/z, y/z of all pixels; remembered, because the lens is inverted step by step."""
    key = repr((camera.width, camera.height, camera.K, camera.dist))
    if key not in _RAYS:
        y, x = np.mgrid[0 : camera.height, 0 : camera.width]
        _RAYS[key] = camera.normalize(np.column_stack([x.ravel(), y.ravel()]).astype(float))
    return _RAYS[key]


def photograph(camera: Camera, board: Board, T_world_board: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the board as the camera sees it, lens included, on grey, a little noisy."""
    # Whole pixels for all the lengths that the tests use: the drawing is exact then.
    per_metre, margin = 4000.0, 0.01
    paper = cv2.GaussianBlur(render_board(board, per_metre, margin), (0, 0), 1.5)
    rays = _rays(camera)
    T = invert(camera.T_camera_world @ T_world_board)
    direction = np.column_stack([rays, np.ones(len(rays))]) @ T[:3, :3].T
    hit = T[:3, 3] - direction * (T[2, 3] / direction[:, 2])[:, None]
    # From board to paper pixels, whose centres lie half a pixel inside their edges.
    origin = np.array(draw_board(board).origin) + margin
    at = ((hit[:, :2] + origin) * per_metre - 0.5).astype(np.float32)
    maps = at.reshape(camera.height, camera.width, 2)
    picture = cv2.remap(
        paper, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=150
    )
    noise = np.random.default_rng(0).normal(0, 2, picture.shape)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7) + noise, 0, 255).astype(np.uint8)
