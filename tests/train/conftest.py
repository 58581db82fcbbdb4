"""Small made-up faces, so that training code is tested without the renderer or the head asset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

LANDMARKS = 703


@dataclass(frozen=True)
class FlatHead:
    """The part of a head model that training reads: a flat disc of landmarks."""

    template: np.ndarray
    face320: np.ndarray
    ibug68: np.ndarray
    mirror_landmarks: np.ndarray
    landmark_region: np.ndarray
    region_names: tuple[str, ...] = ("left_upper_lid", "scalp")
    landmarks_version: str = "flat"

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """The vertices are the landmarks."""
        return vertices


def flat_head() -> FlatHead:
    """Landmarks in symmetric pairs over an ellipse of 14 x 20 cm, the last ones on the axis."""
    rng = np.random.default_rng(7)
    radius, angle = np.sqrt(rng.random(351)), rng.uniform(-np.pi / 2, np.pi / 2, 351)
    left = np.stack([0.07 * radius * np.cos(angle), 0.1 * radius * np.sin(angle)], 1)
    right = left * [-1, 1]
    points = np.concatenate([np.stack([left, right], 1).reshape(-1, 2), [[0.0, 0.0]]])
    template = np.concatenate([points, np.zeros((LANDMARKS, 1))], 1).astype(np.float32)
    mirror = np.arange(LANDMARKS) ^ 1
    mirror[-1] = LANDMARKS - 1
    region = (np.arange(LANDMARKS) > 600).astype(np.uint8)
    ibug = np.arange(68)
    # Outer eye corners far apart, as in a face.
    ibug[36], ibug[45] = int(template[:, 0].argmin()), int(template[:, 0].argmax())
    return FlatHead(template, np.arange(320), ibug, mirror, region)


def write_shard(path: Path, count: int, seed: int, version: str = "flat", size: int = 96) -> None:
    """Discs with two eyes and a mouth, at random places, sizes and rolls."""
    rng = np.random.default_rng(seed)
    head = flat_head()
    y, x = np.mgrid[:size, :size].astype(np.float32)
    rgba = np.zeros((count, 4, size, size), np.uint8)
    landmarks = np.empty((count, LANDMARKS, 2), np.float32)
    for i in range(count):
        scale = size * rng.uniform(2.0, 2.5)
        centre = size / 2 + rng.normal(0, size * 0.04, 2)
        roll = rng.normal(0, 0.2)
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]) * scale
        landmarks[i] = centre + (head.template[:, :2] * [1, -1]) @ turn.T
        u, v = np.linalg.inv(turn) @ (np.stack([x, y]).reshape(2, -1) - centre[:, None])
        u, v = u.reshape(size, size), v.reshape(size, size)
        skin = rng.uniform(90, 220) * np.array([1, 0.8, 0.7])
        picture = np.broadcast_to(skin[:, None, None], (3, size, size)).copy()
        for ex, ey, r in ((-0.03, -0.025, 0.013), (0.03, -0.025, 0.013), (0.0, 0.045, 0.018)):
            picture[:, (u - ex) ** 2 + (v - ey) ** 2 < r * r] = rng.uniform(0, 60)
        rgba[i, :3] = picture
        rgba[i, 3] = ((u / 0.07) ** 2 + (v / 0.1) ** 2 < 1) * 255
    np.savez(
        path,
        rgba=rgba,
        landmarks=landmarks,
        visible=rng.random((count, LANDMARKS)) > 0.3,
        landmarks_version=version,
    )


@pytest.fixture
def head() -> FlatHead:
    """A flat head."""
    return flat_head()


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "0000.npz", 48, 1)
    write_shard(folder / "0001.npz", 48, 2)
    return folder


@pytest.fixture(scope="session")
def make_shard() -> Callable[..., None]:
    """The function that writes a shard."""
    return write_shard
