"""What the fit is given: landmarks on the master timeline and cameras of their pictures' size.

Hashes of these tell whether an earlier fit was made from the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import Camera
from densefit.errors import InputError
from densefit.picture_size import picture_scale, to_camera_pixels
from densefit.progress import warn

if TYPE_CHECKING:
    from densefit.capture import MasterTimeline, Take
    from densefit.fit.observations import LandmarkSource, Observations
    from densefit.head.model import HeadModel
    from densefit.landmarks.files import LandmarkTrack
    from densefit.landmarks.predictor import PredictOptions


HASHED_FRAMES = 512
"""Frames in memory at once while the landmarks' hash is made."""

LEAST_SHARE = 0.02
"""Of the time between two pictures: what is nearer to one of them is taken to be it."""
LONGEST_STEP = 0.12
"""s between pictures that are interpolated."""


@dataclass(frozen=True)
class FitInputs:
    """Everything the solver sees, for the cameras in which a head was found."""

    observations: TrackedLandmarks
    cameras: list[Camera]
    """Of `observations`, in its order; pictures' own size."""
    unseen: list[Camera]
    """Cameras of the take without a single head; no part of the fit."""


def check_landmarks(tracks: Mapping[str, LandmarkTrack], head: HeadModel) -> None:
    """Raise InputError when landmarks and head model do not number the landmarks alike."""
    for name, track in tracks.items():
        if track.landmarks_version != head.landmarks_version:
            raise InputError(
                f"landmarks/{name}.npz: made for landmarks {track.landmarks_version[:12]}, the "
                f"head model {head.name} "
                f"has {head.landmarks_version[:12]}; use weights trained for this model, or "
                f"predict again"
            )


def gather(
    tracks: Mapping[str, LandmarkTrack],
    timeline: MasterTimeline,
    cameras: Mapping[str, Camera],
    sizes: Mapping[str, Sequence[tuple[int, int]]],
) -> FitInputs:
    """Put the cameras' landmarks onto the master timeline.

    Args:
        tracks: by camera; those without a head are left out with a warning.
        timeline: index (T, C) in the order of `tracks`.
        sizes: (width, height) of each picture of the cameras whose photos may differ in size.
    Raises:
        InputError: no camera has a head in any frame.
    """
    columns = []
    seen: list[Camera] = []
    unseen: list[Camera] = []
    for column, (name, track) in enumerate(tracks.items()):
        index = timeline.index[:, column]
        valid = (index >= 0) & track.valid[np.maximum(index, 0)]
        (seen if valid.any() else unseen).append(cameras[name])
        if valid.any():
            phase = None if timeline.phase is None else timeline.phase[:, column]
            photos = tuple(sizes.get(name, ()))
            columns.append(Column(track, cameras[name], index, valid, photos, phase))
        else:
            warn(f"camera {name}: no face found in any frame; it takes no part in the fit")
    if not columns:
        raise InputError(
            f"no face found in any frame of {', '.join(tracks)}; check that a face is in view "
            f"and large enough "
            "(at least 40 pixels)"
        )
    return FitInputs(TrackedLandmarks(tuple(columns), timeline.time), seen, unseen)


@dataclass(frozen=True)
class Column:
    """One camera on the master timeline."""

    track: LandmarkTrack
    """xy and sigma may be arrays on disk."""
    camera: Camera
    index: np.ndarray
    """(T,) row of the track at each master frame, -1 if none."""
    valid: np.ndarray
    """(T,) bool."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of each photo where they may differ, else empty."""

    phase: np.ndarray | None = None
    """(T,) seconds by which the pictures were taken late; None: all at their moment."""

    def rows(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """xy (n, L, 2), sigma (n, L) and valid (n,) at some master frames; NaN where not valid.

        Landmarks of pictures that were taken between the master's moments are interpolated to
        them, between the two neighbours, where both have a head.
        """
        valid = self.valid[frames]
        rows = self.index[frames][valid]
        xy, sigma = self._pixels(rows)
        if self.phase is not None and not self.sizes:
            other, share = self._neighbours(rows, self.phase[frames][valid])
            moved = np.flatnonzero(share > 0)
            if len(moved):
                there = self._pixels(other[moved])
                w = share[moved].astype(np.float32)[:, None]
                xy[moved] = (1 - w[..., None]) * xy[moved] + w[..., None] * there[0]
                sigma[moved] = (1 - w) * sigma[moved] + w * there[1]
        full = np.full((len(frames), *xy.shape[1:]), np.nan, np.float32)
        spread = np.full((len(frames), *sigma.shape[1:]), np.nan, np.float32)
        full[valid], spread[valid] = xy, sigma
        return full, spread, valid

    def lateness(self, frames: np.ndarray) -> float:
        """Mean seconds by which the pictures of some master frames were taken after their moment
        and are not interpolated to it."""
        valid = self.valid[frames]
        if self.phase is None or not valid.any():
            return 0.0
        late = self.phase[frames][valid]
        if not self.sizes:
            late = np.where(self._neighbours(self.index[frames][valid], late)[1] > 0, 0.0, late)
        return float(late.mean())

    def _pixels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        track = self.track
        return _camera_pixels(track.xy[rows], track.sigma[rows], rows, self.camera, self.sizes)

    def _neighbours(self, rows: np.ndarray, late: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) to mix in, and their share (n,): zero where there is no need or no head."""
        time, last = self.track.time, len(self.track.time) - 1
        other = np.clip(rows - np.sign(late).astype(int), 0, last)
        apart = np.abs(time[other] - time[rows])
        share = np.abs(late) / np.maximum(apart, 1e-9)
        use = self.track.valid[other] & (other != rows) & (share > LEAST_SHARE) & (share < 1)
        return other, np.where(use & (apart < LONGEST_STEP), share, 0.0)


@dataclass(frozen=True)
class TrackedLandmarks:
    """Landmarks of all cameras on the master timeline, read as they are needed.

    A `densefit.fit.observations.LandmarkSource`.
    """

    columns: tuple[Column, ...]
    time: np.ndarray
    """(T,) float64 s."""

    @cached_property
    def valid(self) -> np.ndarray:
        """(T, C) bool."""
        return np.stack([column.valid for column in self.columns], axis=1)

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool."""
        return np.asarray(np.any(self.valid, axis=1))

    @property
    def landmarks(self) -> int:
        """L."""
        return int(self.columns[0].track.xy.shape[1])

    def take(self, frames: np.ndarray) -> Observations:
        """Some of the frames, in memory."""
        from densefit.fit import Observations

        xy, sigma, valid = zip(*(c.rows(np.asarray(frames)) for c in self.columns), strict=True)
        return Observations(
            np.stack(xy, 1), np.stack(sigma, 1), np.stack(valid, 1), self.time[frames]
        )


def _camera_pixels(
    xy: np.ndarray,
    sigma: np.ndarray,
    rows: np.ndarray,
    camera: Camera,
    sizes: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, L, 2) and sigma (n, L) of a track's rows (n,) in pixels of `camera`."""
    if all(size == (camera.width, camera.height) for size in sizes):
        return xy, sigma
    xy, sigma = xy.copy(), sigma.copy()
    for i, row in enumerate(rows):
        width, height = sizes[row]
        if camera.dist.any() or camera.T_camera_world is not None:
            camera.scaled_to(width, height)  # refuses what a calibration cannot be true for
        xy[i] = to_camera_pixels(xy[i], width, height, camera)
        sigma[i] = sigma[i] * picture_scale(camera, width, height)
    return xy, sigma


def recordings_hash(take: Take, chosen: PredictOptions) -> str:
    """Hash of what the landmarks come from, known before any work: files, their range, weights."""
    from densefit.landmarks.jobs import job

    return _hash(*((name, job(source, chosen)) for name, source in take.sources.items()))


def changed_recordings(take: Take, out: Path, chosen: PredictOptions, earlier: str) -> list[str]:
    """What differs where `recordings_hash` does: recordings, frames, face or weights.

    The folder's landmarks say what they were made from; where that is not what the fit was made
    from, nobody knows more than that something differs.

    Args:
        out: the folder of the earlier fit.
        earlier: its `recordings_hash`.
    """
    from densefit.landmarks.files import CHOSEN_BY, earlier_job
    from densefit.landmarks.jobs import job

    now = {name: job(source, chosen) for name, source in take.sources.items()}
    stated = {name: earlier_job(out / "landmarks", name) or {} for name in now}
    then = {name: {key: stated[name].get(key) for key in parts} for name, parts in now.items()}
    changed = {k for name, parts in now.items() for k in parts if then[name][k] != parts[k]}
    if _hash(*then.items()) != earlier or not changed:
        return ["recordings"]
    return [CHOSEN_BY.get(key, key) for key in next(iter(now.values())) if key in changed]


def input_hashes(
    inputs: FitInputs,
    head: HeadModel,
    options: Mapping[str, Any],
    up: np.ndarray | None = None,
) -> dict[str, str]:
    """sha256 of each thing that a fit depends on, by what a person would call it.

    Args:
        up: (3,) what the rig file says is up; goes into the results' rig.yaml and meta.json.
    """
    observations = inputs.observations
    return {
        "landmarks": _hash(observations.time, observations.valid, *_all_arrays(observations)),
        "cameras": _hash(
            *(part for camera in inputs.cameras for part in _camera_parts(camera)),
            *([] if up is None else [up]),
        ),
        "head model": head.sha256,
        "options": _hash(json.dumps(options, sort_keys=True, default=str)),
    }


def _all_arrays(observations: LandmarkSource) -> Iterator[np.ndarray]:
    frames = len(observations.time)
    for start in range(0, frames, HASHED_FRAMES):
        part = observations.take(np.arange(start, min(frames, start + HASHED_FRAMES)))
        yield from (part.xy, part.sigma)


def changed_inputs(earlier: Any, now: Mapping[str, str]) -> list[str]:
    """Names of the inputs that differ from those of an earlier fit."""
    stated = earlier if isinstance(earlier, dict) else {}
    return [name for name, value in now.items() if stated.get(name) != value]


def with_unseen_cameras(
    residual_px: np.ndarray, inputs: FitInputs, order: Sequence[str]
) -> np.ndarray:
    """Residuals (T, seen) -> (T, C) in the take's order, NaN for cameras without a head."""
    column = {camera.name: i for i, camera in enumerate(inputs.cameras)}
    full = np.full((len(residual_px), len(order)), np.nan)
    for i, name in enumerate(order):
        if name in column:
            full[:, i] = residual_px[:, column[name]]
    return full


def _camera_parts(camera: Camera) -> list[Any]:
    matrices = [camera.K, camera.dist, camera.T_camera_world]
    known = [f"{camera.name} {camera.width} {camera.height} {camera.model}", *matrices]
    return known if camera.std is None else [*known, sorted(camera.std.items())]


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()
