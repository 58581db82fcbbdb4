"""What a fit returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from densefit.head.rotation import axis_angle

if TYPE_CHECKING:
    from calibration import Camera


@dataclass(frozen=True)
class FitResult:
    """One identity and T frames. Metres, radians, seconds; X_world = R(rotation) X_head +
    translation.

    Frames that no camera saw are NaN, but for those inside a gap of at most `FitOptions.max_gap`,
    which the smoother fills (valid is False there). Deviations are those of Laplace's approximation
    at the minimum, bounds ignored.
    """

    identity: np.ndarray
    """(K,) standard deviations of the prior."""
    expression: np.ndarray
    """(T, 52) in [0, 1], ARKit order; eyeLook entries are those of the eye joints."""
    rotation: np.ndarray
    """(T, 3) axis-angle, continuous over time."""
    translation: np.ndarray
    """(T, 3) m."""
    joints: np.ndarray
    """(T, 4, 3) axis-angle of neck, head (zero), left eye, right eye."""
    time: np.ndarray
    """(T,) s."""
    valid: np.ndarray
    """(T,) bool: at least one camera saw the head."""
    residual_px: np.ndarray
    """(T, C) px: median distance of the landmarks that are more certain than the picture's median
    sigma."""
    identity_std: np.ndarray
    """(K,); zero when the identity was given."""
    expression_std: np.ndarray
    """(T, 52); zero for the eyeLook entries."""
    rotation_std: np.ndarray
    """(T, 3) rad, small rotations about the head's own axes."""
    translation_std: np.ndarray
    """(T, 3) m."""
    joints_std: np.ndarray
    """(T, 4, 3) rad; zero for what is no unknown (the head joint, the roll of the eyes)."""
    cameras: list[Camera]
    """With focal lengths and extrinsics filled in, and their deviations in `std`."""
    scale: str
    """`calibrated`: distances come from cameras; `prior`: from the size of an average head."""
    energy: float
    """Of the joint solve (over keyframes for long takes)."""
    iterations: int
    sigma_scale: np.ndarray
    """(C,): what the landmarks' sigmas were multiplied by."""


def continuous_axis_angle(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrices (T, 3, 3) to vectors (T, 3) that never jump: angles may pass pi."""
    vectors = axis_angle(rotation)
    for t in range(1, len(vectors)):
        angle = np.linalg.norm(vectors[t])
        if angle < 1e-9:
            # A full turn about the last axis is the same rotation, and nearer when the last was
            # one.
            last = np.linalg.norm(vectors[t - 1])
            if last > np.pi:
                vectors[t] = vectors[t - 1] / last * 2 * np.pi * np.round(last / (2 * np.pi))
            continue
        axis = vectors[t] / angle
        along = float(axis @ vectors[t - 1])
        vectors[t] = axis * (angle + 2 * np.pi * np.round((along - angle) / (2 * np.pi)))
    return vectors
