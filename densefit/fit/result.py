"""What a fit returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

from densefit.fit.observations import Observations
from densefit.fit.state import FrameLayout, Motion
from densefit.head.rotation import continuous_axis_angle

if TYPE_CHECKING:
    from calibration import Camera


@dataclass(frozen=True)
class FitResult:
    """One identity and T frames. Metres, radians, seconds; X_world = R(rotation) X_head +
    translation.

    Frames that no camera saw are NaN, but for those inside a gap of at most `FitOptions.max_gap`
    within a shot, which the smoother fills (valid is False there). Deviations are those of errors
    that go together as measured (see noise.py); expressions at a bound stay there for the others,
    and theirs are those of a truth within bounds.
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
    """(T,) bool: at least one camera whose place is known saw the head."""
    residual_px: np.ndarray
    """(T, C) px: median distance of the landmarks that are more certain than the picture's median
    sigma."""
    identity_std: np.ndarray
    """(K,); zero when the identity was given."""
    expression_std: np.ndarray
    """(T, 52); zero for the eyeLook entries. Root mean square error where the truth, too, lies in
    [0, 1]."""
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
    scale_std: float
    """Standard deviation of all sizes relative to themselves with scale `prior`, else 0."""
    energy: float
    """Of the joint solve (over keyframes for long takes)."""
    iterations: int
    sigma_scale: np.ndarray
    """(C,): what the landmarks' sigmas were multiplied by."""


def motion_arrays(
    motion: Motion, deviation: np.ndarray, frames: np.ndarray, total: int, free: np.ndarray
) -> dict[str, np.ndarray]:
    """A solved motion and its deviations (t, P) as the result's arrays: NaN outside `frames`.

    Args:
        frames: (t,) indices of the solved frames among `total`. free: (44,) free expressions.
    """
    layout = FrameLayout(len(free))
    expression_std = np.zeros((len(frames), 52))
    expression = motion.expression.numpy()
    expression_std[:, free] = inside_bounds(expression[:, free], deviation[:, layout.expression])
    solved = {
        "expression": expression,
        "rotation": continuous_axis_angle(motion.rotation.numpy()),
        "translation": motion.translation.numpy(),
        "joints": _joints(motion.neck.numpy(), motion.eyes.numpy()),
        "expression_std": expression_std,
        "rotation_std": deviation[:, layout.rotation],
        "translation_std": deviation[:, layout.translation],
        "joints_std": _joints(deviation[:, layout.neck], deviation[:, layout.eyes]),
    }
    out = {}
    for name, values in solved.items():
        out[name] = np.full((total, *values.shape[1:]), np.nan)
        out[name][frames] = values
    return out


def inside_bounds(value: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Root mean square distance from `value` of a normal variable about it that lies in [0, 1].

    With a = value / sigma, b = (1 - value) / sigma and phi, Phi of the standard normal:
    sigma^2 (1 - (a phi(a) + b phi(b)) / (Phi(a) + Phi(b) - 1)).
    """
    sigma = np.maximum(deviation, 1e-12)
    a, b = value / sigma, (1 - value) / sigma
    cut = a * np.exp(-0.5 * a**2) + b * np.exp(-0.5 * b**2)
    inside = np.sqrt(np.pi / 2) * (erf(a / np.sqrt(2)) + erf(b / np.sqrt(2)))
    return np.asarray(deviation * np.sqrt(np.clip(1 - cut / inside, 0, 1)))


def _joints(neck: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """(T, 4, 3) from neck (T, 3) and eyes (T, 4)."""
    joints = np.zeros((len(neck), 4, 3))
    joints[:, 0], joints[:, 2, :2], joints[:, 3, :2] = neck, eyes[:, :2], eyes[:, 2:]
    return joints


def residuals_px(
    world: np.ndarray, cameras: list[Camera], observations: Observations
) -> np.ndarray:
    """Median distance (t, C) in px over the landmarks that are no less certain than the median.

    Args:
        world: (t, L, 3) metres, the fitted landmarks of the frames of `observations`.
    """
    out = np.full(observations.valid.shape, np.nan)
    for c, camera in enumerate(cameras):
        seen = np.flatnonzero(observations.valid[:, c])
        if camera.T_camera_world is None or not len(seen):
            continue
        sigma = observations.sigma[seen, c]
        u, v = _project(camera, world[seen] if len(seen) < len(world) else world)
        du, dv = u - observations.xy[seen, c, :, 0], v - observations.xy[seen, c, :, 1]
        distance = np.sqrt((du * du + dv * dv).astype(np.float32))
        certain = sigma <= row_medians(sigma)[:, None]
        out[seen, c] = row_medians(np.where(certain, distance, np.nan))
    return out


def _project(camera: Camera, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (t, L) and (t, L) px of points (t, L, 3)."""
    if camera.model != "opencv" or np.any(camera.dist):
        flat = camera.project(world.reshape(-1, 3)).reshape(*world.shape[:2], 2)
        return flat[..., 0], flat[..., 1]
    matrix = camera.K @ camera.T_camera_world[:3]  # type: ignore[index]
    image = matrix[:, :3] @ world.swapaxes(1, 2) + matrix[:, 3:]
    depth = np.where(image[:, 2] > 0, image[:, 2], np.nan)
    return image[:, 0] / depth, image[:, 1] / depth


def row_medians(values: np.ndarray) -> np.ndarray:
    """Medians (n,) of the numbers in the rows of (n, m), nan where there is none; much faster than
    np.nanmedian."""
    ordered = np.sort(values, axis=1)
    count = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    low, high = (ordered[rows, np.maximum(middle, 0)] for middle in ((count - 1) // 2, count // 2))
    return np.where(count > 0, (low + high) / 2, np.nan)
