"""Pictures of one camera that differ in size: photos cropped, or in portrait and landscape.

They are taken for pictures of one lens: scaled so that the longer sides agree, centres on one
another. For
pictures of one aspect ratio that is just the scaling of the pixel grid, cx' = (cx + 0.5) s - 0.5.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration import Camera


def picture_scale(camera: Camera, width: int, height: int) -> float:
    """Camera pixels per pixel of a picture of `width` x `height`."""
    return max(camera.width, camera.height) / max(width, height)


def to_camera_pixels(xy: np.ndarray, width: int, height: int, camera: Camera) -> np.ndarray:
    """Pixels (..., 2) of a picture of another size to pixels of `camera`.

    Lengths such as sigma scale by `picture_scale`.
    """
    scale = picture_scale(camera, width, height)
    centre = np.array([width - 1, height - 1]) / 2
    return (xy - centre) * scale + np.array([camera.width - 1, camera.height - 1]) / 2


def picture_camera(camera: Camera, width: int, height: int) -> Camera:
    """`camera` for a picture of another size, the inverse of `to_camera_pixels`."""
    if (width, height) == (camera.width, camera.height) or camera.K is None:
        return replace(camera, width=width, height=height)
    scale = picture_scale(camera, width, height)
    K = camera.K.copy()
    K[:2, :2] /= scale
    centre = np.array([camera.width - 1, camera.height - 1]) / 2
    K[:2, 2] = (K[:2, 2] - centre) / scale + np.array([width - 1, height - 1]) / 2
    return replace(camera, width=width, height=height, K=K)
