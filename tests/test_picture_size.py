"""Photos of several sizes count as pictures of one lens."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import Camera
from densefit.picture_size import picture_camera, picture_scale, to_camera_pixels

K = [[500.0, 0, 330.0], [0, 505.0, 236.0], [0, 0, 1]]
CAMERA = Camera("a", 640, 480, K=K, dist=[0.1, -0.05, 0.01, 0.0], T_camera_world=np.eye(4))
POINTS = np.array([[0.02, -0.03, 0.6], [-0.1, 0.05, 0.7], [0.08, 0.08, 0.5]])


@pytest.mark.parametrize("size", [(320, 240), (480, 640), (640, 480), (600, 600), (333, 250)])
def test_projection_agrees_in_both_pictures(size):
    own = picture_camera(CAMERA, *size)
    assert (own.width, own.height) == size
    there = to_camera_pixels(own.project(POINTS), *size, CAMERA)
    np.testing.assert_allclose(there, CAMERA.project(POINTS), atol=1e-9)


def test_same_aspect_ratio_is_the_scaling_of_the_pixel_grid():
    np.testing.assert_allclose(picture_camera(CAMERA, 320, 240).K, CAMERA.scaled_to(320, 240).K)


def test_scale_follows_the_longer_side():
    assert picture_scale(CAMERA, 240, 320) == 2
