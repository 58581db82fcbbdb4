"""Cameras for the calibration tests."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import Camera, Rig


def rotation(vector: list[float]) -> np.ndarray:
    import cv2

    return cv2.Rodrigues(np.array(vector, float))[0]


def make_camera(name: str = "left", dist: tuple[float, ...] = (), **changes: object) -> Camera:
    T = np.eye(4)
    T[:3, :3] = rotation([0.1, -0.4, 0.05])
    T[:3, 3] = [0.2, -0.1, 1.1]
    fields: dict[str, object] = {
        "width": 1280,
        "height": 720,
        "K": np.array([[900.0, 0, 650.5], [0, 910.0, 349.25], [0, 0, 1]]),
        "dist": np.array(dist),
        "T_camera_world": T,
    }
    return Camera(name, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def camera() -> Camera:
    return make_camera(dist=(-0.2, 0.05, 0.001, -0.002, 0.01))


@pytest.fixture
def rig(camera: Camera) -> Rig:
    right = make_camera("right", (0.01, -0.02, 0.003, 0.001), model="opencv_fisheye")
    unknown = Camera("phone", 1080, 1920)
    stated = make_camera(
        "cam-3", std={"focal": 1.5, "center": 0.5, "rotation": 0.001, "translation": 0.0005}
    )
    cameras = {c.name: c for c in (camera, right, unknown, stated)}
    return Rig(cameras, up=np.array([0.0, 2.0, 0.0]))
