"""A made-up room as a panorama: the same walls light the head and stand behind it."""

from __future__ import annotations

import math

import numpy as np

HEIGHT, WIDTH = 512, 1024


def make_room(seed: int) -> np.ndarray:
    """(512, 1024, 3) float32 linear radiance; row 0 is up, column 0 looks along -z."""
    import cv2

    rng = np.random.default_rng(seed)
    up = math.pi / 2 - (np.arange(HEIGHT) + 0.5) / HEIGHT * math.pi
    wall = np.array([0.42, 0.40, 0.36]) * (1 + 0.15 * rng.normal(size=3))
    room = np.empty((HEIGHT, WIDTH, 3), np.float32)
    room[:] = wall
    room[up > 0.75] = (0.62, 0.61, 0.58)
    room[up < -0.55] = np.array([0.20, 0.13, 0.08]) * rng.uniform(0.7, 1.4)
    room[(up < -0.48) & (up >= -0.55)] = (0.55, 0.54, 0.52)
    _window(room, 0.16, rng)
    _window(room, 0.62, rng)
    for column in (0.30, 0.92, 0.46):
        _shelf(room, column + rng.uniform(-0.02, 0.02), rng)
    for column in (0.02, 0.08, 0.40, 0.55, 0.74, 0.83):
        _frame(room, column + rng.uniform(-0.015, 0.015), rng)
    shade = cv2.GaussianBlur(rng.normal(0, 1, (16, 32)).astype(np.float32), (0, 0), 2)
    room *= (1 + 0.5 * cv2.resize(shade, (WIDTH, HEIGHT)))[..., None].clip(0.6, 1.4)
    # The camera focuses on the face: what stands behind is soft.
    return cv2.GaussianBlur(np.hstack([room, room, room]), (0, 0), 3.0)[:, WIDTH : 2 * WIDTH]


def _box(room: np.ndarray, column: float, row: float, wide: float, high: float) -> np.ndarray:
    """The part of the panorama around (column, row), fractions of its size."""
    x, y = int(column * WIDTH), int(row * HEIGHT)
    w, h = max(2, int(wide * WIDTH)), max(2, int(high * HEIGHT))
    return room[max(0, y) : y + h, max(0, x) : min(WIDTH, x + w)]


def _window(room: np.ndarray, column: float, rng: np.random.Generator) -> None:
    _box(room, column, 0.27, 0.115, 0.33)[:] = (0.75, 0.74, 0.72)
    for k in range(2):
        pane = _box(room, column + 0.006 + 0.053 * k, 0.285, 0.048, 0.30)
        sky = np.linspace(9, 4, pane.shape[0])[:, None, None] * np.array([0.82, 0.93, 1.1])
        pane[:] = sky * rng.uniform(0.8, 1.2)


def _shelf(room: np.ndarray, column: float, rng: np.random.Generator) -> None:
    _box(room, column, 0.30, 0.085, 0.42)[:] = (0.11, 0.07, 0.045)
    for level in range(4):
        x = column + 0.004
        while x < column + 0.078:
            wide = rng.uniform(0.003, 0.009)
            color = rng.uniform(0.02, 0.5, 3) ** 1.3
            _box(room, x, 0.315 + 0.1 * level, wide, rng.uniform(0.06, 0.082))[:] = color
            x += wide + rng.uniform(0, 0.003)


def _frame(room: np.ndarray, column: float, rng: np.random.Generator) -> None:
    row, wide, high = rng.uniform(0.36, 0.44), rng.uniform(0.025, 0.045), rng.uniform(0.06, 0.12)
    _box(room, column, row, wide, high)[:] = rng.uniform(0.02, 0.3)
    picture = _box(room, column + 0.004, row + 0.008, wide - 0.008, high - 0.016)
    picture[:] = rng.uniform(0.1, 0.7, 3)
    lower = picture[picture.shape[0] // 2 :]
    lower[:] = rng.uniform(0.05, 0.4, 3)
