"""Landmarks as the fit receives them, and as the solver wants them: planes without distortion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from calibration.lens import distort
from densefit.errors import InputError
from densefit.fit.options import FitOptions

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel


@dataclass(frozen=True)
class Observations:
    """Landmarks of T master frames in C cameras, in pixels of the pictures as displayed."""

    xy: np.ndarray
    """(T, C, L, 2) float32 px; NaN where not valid."""
    sigma: np.ndarray
    """(T, C, L) float32 px: standard deviation per axis."""
    valid: np.ndarray
    """(T, C) bool: the head was found."""
    time: np.ndarray
    """(T,) float64 s, not decreasing."""

    def __post_init__(self) -> None:
        frames, cameras = self.valid.shape
        if self.xy.shape[:2] != (frames, cameras) or self.xy.shape[3:] != (2,):
            raise InputError(
                f"landmarks have shape {self.xy.shape}, expected {(frames, cameras, 'L', 2)}"
            )
        if self.sigma.shape != self.xy.shape[:3]:
            raise InputError(f"sigma has shape {self.sigma.shape}, expected {self.xy.shape[:3]}")
        if self.time.shape != (frames,) or (np.diff(self.time) < 0).any():
            raise InputError(f"time must be {frames} values that do not decrease")

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool: at least one camera found the head."""
        return np.asarray(np.any(self.valid, axis=1))

    @property
    def landmarks(self) -> int:
        """L."""
        return int(self.xy.shape[2])

    def take(self, frames: np.ndarray) -> Observations:
        """The observations of some frames."""
        return Observations(
            self.xy[frames], self.sigma[frames], self.valid[frames], self.time[frames]
        )


class LandmarkSource(Protocol):
    """Landmarks of T master frames in C cameras, of which a few frames at a time are in memory."""

    @property
    def time(self) -> np.ndarray:
        """(T,) float64 s."""

    @property
    def valid(self) -> np.ndarray:
        """(T, C) bool."""

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool."""

    @property
    def landmarks(self) -> int:
        """L."""

    def take(self, frames: np.ndarray) -> Observations:
        """Some of the frames."""


@dataclass(frozen=True)
class NormalizedLandmarks:
    """Pinhole coordinates at unit focal length: x/z, y/z of the camera, distortion removed."""

    xy: np.ndarray
    """(T, C, L, 2) float64; zero where the precision is."""
    precision: np.ndarray
    """(T, C, L) float64: weight / sigma^2 in the same units; zero where there is no landmark."""


def landmark_region_weights(head: HeadModel, options: FitOptions) -> np.ndarray:
    """Weight (L,) of each landmark: of its region, zero where `options.landmarks` leaves it out."""
    per_region = [
        next((w for key, w in options.region_weights.items() if key in name), 1.0)
        for name in head.region_names
    ]
    weights = np.asarray(per_region, np.float64)[head.landmark_region]
    chosen = {68: head.ibug68, 320: head.face320}.get(options.landmarks)
    if chosen is None:
        return weights
    used = np.zeros(len(weights), bool)
    used[chosen] = True
    return np.where(used, weights, 0.0)


def without_sigma(observations: Observations) -> Observations:
    """The same landmarks, all of a picture as certain as its median one."""
    empty = ~np.isfinite(observations.sigma).any(axis=2, keepdims=True)
    sigma = np.where(empty, 1.0, observations.sigma)
    median = np.nanmedian(sigma, axis=2, keepdims=True)
    return replace(observations, sigma=np.where(np.isfinite(observations.sigma), median, np.nan))


def normalize_observations(
    observations: Observations, cameras: list[Camera], weights: np.ndarray, floor_px: float
) -> NormalizedLandmarks:
    """Remove lens and pixels.

    Args:
        cameras: C cameras, all with K (a guess where the focal length is unknown).
        weights: (L,) multiplies the precision of each landmark.
        floor_px: added to sigma in quadrature, px.

    sigma is carried over by the mean of the local scale: its circle stays a circle, which
    distortion changes by well under a tenth in any usable part of a lens.
    """
    xy = np.zeros(observations.xy.shape, np.float64)
    precision = np.zeros(observations.sigma.shape, np.float64)
    for c, camera in enumerate(cameras):
        pixels, sigma = observations.xy[:, c], observations.sigma[:, c]
        usable = np.isfinite(pixels[..., 0]) & np.isfinite(pixels[..., 1]) & (sigma > 0)
        usable &= np.isfinite(sigma) & observations.valid[:, c, None]
        if camera.model == "opencv" and not np.any(camera.dist):
            _plain(camera, pixels, sigma, floor_px, xy[:, c], precision[:, c])
            precision[:, c] *= weights
            if not usable.all():
                xy[:, c][~usable], precision[:, c][~usable] = 0, 0
            continue
        if not usable.any():
            continue
        points = np.asarray(pixels[usable], np.float64)
        flat = camera.normalize(points)
        scale = _local_scale(camera, points, flat)
        good = np.isfinite(flat).all(axis=1) & np.isfinite(scale)
        sigma_n = np.hypot(np.asarray(sigma[usable], np.float64), floor_px) * scale
        xy[:, c][usable] = np.where(good[:, None], flat, 0)
        rows = np.broadcast_to(weights, usable.shape)[usable]
        precision[:, c][usable] = np.where(good, rows / np.square(sigma_n), 0)
    return NormalizedLandmarks(xy, precision)


def _plain(
    camera: Camera,
    pixels: np.ndarray,
    sigma: np.ndarray,
    floor_px: float,
    xy: np.ndarray,
    precision: np.ndarray,
) -> None:
    """Write pinhole coordinates and 1 / sigma^2 of a camera without a lens to undo."""
    K = np.asarray(camera.K, np.float64)
    # One coordinate at a time: inner loops over two numbers are slow.
    for axis in (0, 1):
        plane = xy[..., axis]
        np.subtract(pixels[..., axis], K[axis, 2], out=plane)
        plane /= K[axis, axis]
    np.square(sigma, dtype=np.float64, out=precision)
    precision += floor_px**2
    np.divide(K[0, 0] * K[1, 1], precision, out=precision)


def _local_scale(camera: Camera, points: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Normalised units per pixel at (N, 2) points, whose pinhole coordinates are `flat`."""
    focal = float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))  # type: ignore[index]
    if camera.model == "opencv":
        with np.errstate(invalid="ignore"):  # points that no ray leads to are nan
            slope = np.abs(np.linalg.det(distort(flat, camera.dist)[1]))
        scale = 1 / (focal * np.sqrt(np.maximum(slope, 1e-12)))
    else:
        step = 2.0
        dx = camera.normalize(points + [step, 0]) - flat
        dy = camera.normalize(points + [0, step]) - flat
        scale = np.sqrt(np.abs(dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0])) / step
    return np.clip(scale, 0.3 / focal, 3 / focal)
