"""What the report is made from: the fit, its cameras, its landmarks, and how well they agree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import Rig, read_rig
from densefit.errors import InputError
from densefit.export.scene import iterate_vertices
from densefit.fit_file import FitFile, read_fit
from densefit.footage import Footage, read_footage
from densefit.landmarks import slices
from densefit.landmarks.files import LandmarkTrack
from densefit.model_file import open_head
from densefit.picture_size import picture_camera, picture_scale
from densefit.progress import warn

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel

MAX_FRAMES = 400
"""Frames that residuals by region are measured on; more do not change a median."""


@dataclass(frozen=True)
class Evidence:
    """Everything that `out` says about a fit."""

    out: Path
    fit: FitFile
    head: HeadModel
    rig: Rig
    footage: Footage | None
    tracks: dict[str, LandmarkTrack]
    """By camera; without those whose file is gone."""

    @property
    def cameras(self) -> list[str]:
        """Names, in the order of the fit's columns."""
        return list(self.fit.meta["cameras"])

    def known_camera(self, name: str) -> Camera | None:
        """The camera, if its lens and place are known."""
        camera = self.rig.cameras.get(name)
        known = camera is not None and camera.K is not None and camera.T_camera_world is not None
        return camera if known else None

    def row(self, name: str, frame: int) -> int:
        """Row of a camera's landmarks at a master frame, -1 if there is none."""
        if self.footage is None or name not in self.tracks:
            return -1
        row = int(self.footage.index[frame, self.footage.column(name)])
        track = self.tracks[name]
        return row if 0 <= row < len(track) and track.valid[row] else -1

    @cached_property
    def face_px(self) -> dict[str, float]:
        """Side of the face's square in each camera's pictures, px, median over the frames."""
        sides = {n: t.roi[t.valid, 2] for n, t in self.tracks.items() if t.valid.any()}
        return {name: float(np.median(side)) for name, side in sides.items()}

    @property
    def eye_distance(self) -> float:
        """Metres between the centres of the fitted person's eyeballs."""
        left, right = self.head.joint_positions(self.fit.identity)[2:]
        return float(np.linalg.norm(left - right))

    @cached_property
    def relative_residual(self) -> dict[str, float]:
        """Residual over the side of the face's square, median over the frames, by camera that saw
        the head."""
        found = {}
        for column, name in enumerate(self.cameras):
            values = self.fit.residual_px[:, column]
            if not np.isfinite(values).any() or name not in self.face_px:
                continue
            shares = values / self._face_sides(name)
            # Where nobody knows any more which picture a frame is, they are taken for equal.
            found[name] = (
                float(np.nanmedian(shares))
                if np.isfinite(shares).any()
                else float(np.nanmedian(values)) / self.face_px[name]
            )
        return found

    def _face_sides(self, name: str) -> np.ndarray:
        """(T,) side of the face's square at each master frame, NaN where unknown.

        In pixels of the rig's camera, as residuals are; the tracks' are of each picture.
        """
        sides = np.full(self.fit.n_frames, np.nan)
        camera = self.rig.cameras.get(name)
        if self.footage is None or camera is None:
            return sides
        rows = np.array([self.row(name, frame) for frame in range(len(sides))])
        sides[rows >= 0] = self.tracks[name].roi[rows[rows >= 0], 2]
        if self.footage.recordings[self.footage.column(name)].kind == "photos":
            for frame in np.flatnonzero(rows >= 0).tolist():
                size = self.photo_sizes.get((name, frame))
                sides[frame] *= picture_scale(camera, *size) if size else np.nan
        return sides

    @cached_property
    def photo_sizes(self) -> dict[tuple[str, int], tuple[int, int]]:
        """(width, height) of each photo by camera and master frame, for folders of photos; without
        those that are gone."""
        sizes: dict[tuple[str, int], tuple[int, int]] = {}
        for recording in self.footage.recordings if self.footage is not None else ():
            if recording.kind == "photos" and self.footage is not None:
                every = range(self.fit.n_frames)
                try:
                    for frame, image in self.footage.pictures(recording.name, list(every)):
                        sizes[recording.name, frame] = (image.shape[1], image.shape[0])
                except InputError as error:
                    warn(f"report: sizes of camera {recording.name}'s photos unknown ({error})")
        return sizes

    @cached_property
    def regions(self) -> list[RegionResidual]:
        """How far the fit is from the landmarks, by region of the face, the worst first."""
        return _region_residuals(self)


@dataclass(frozen=True)
class RegionResidual:
    """One region of the landmarks over all cameras."""

    name: str
    residual: float
    """Median distance, thousandths of the side of the face's square."""
    sigma: float
    """Median sigma of its landmarks, the same unit."""
    in_sigmas: float
    """Median of distance / sigma; 1.18 if sigma tells the truth."""


def gather_evidence(out: Path, model: Path | None = None) -> Evidence:
    """Read everything in `out`.

    Raises:
        InputError: no usable fit there.
    """
    head = open_head(model)
    fit = read_fit(out, head)
    rig_path = out / "rig.yaml"
    if not rig_path.is_file():
        raise InputError(f"{rig_path}: missing beside fit.npz; run fit-rig again")
    tracks = {}
    for name in fit.meta["cameras"]:
        path = out / "landmarks" / f"{name}.npz"
        if path.is_file():
            tracks[name] = slices.open_landmarks(path)
    return Evidence(out, fit, head, read_rig(rig_path), read_footage(out), tracks)


def meta_text(value: Any) -> str:
    """A value of meta.json for people."""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {meta_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(meta_text(item) for item in value)
    return str(value)


def _region_residuals(evidence: Evidence) -> list[RegionResidual]:
    head = evidence.head
    posed = np.flatnonzero(evidence.fit.posed)
    chosen = posed[
        np.unique(np.linspace(0, len(posed) - 1, min(MAX_FRAMES, len(posed))).astype(int))
    ]
    distances, sigmas = [], []
    for numbers, vertices in iterate_vertices(evidence.fit, head, chosen):
        points = head.landmarks(vertices.astype(np.float64))
        for frame, landmarks in zip(numbers.tolist(), points, strict=True):
            for name in evidence.cameras:
                pair = _landmark_distance(evidence, name, frame, landmarks)
                if pair is not None:
                    distances.append(pair[0])
                    sigmas.append(pair[1])
    if not distances:
        return []
    distance, sigma = np.array(distances), np.array(sigmas)
    found = []
    for region, name in enumerate(head.region_names):
        members = head.landmark_region == region
        if members.any():
            d, s = distance[:, members], sigma[:, members]
            found.append(
                RegionResidual(
                    name.replace("_", " "),
                    1000 * float(np.nanmedian(d)),
                    1000 * float(np.nanmedian(s)),
                    float(np.nanmedian(d / s)),
                )
            )
    return sorted(found, key=lambda item: -item.in_sigmas)


def _landmark_distance(
    evidence: Evidence, name: str, frame: int, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Distances (703,) and sigmas (703,) over the side of the face's square; None if unseen."""
    camera, row = evidence.known_camera(name), evidence.row(name, frame)
    if camera is None or row < 0:
        return None
    xy, sigma, side = slices.frame_of(evidence.tracks[name], row)
    shown = track_camera(camera, evidence, name, frame).project(landmarks)
    return (
        np.linalg.norm(shown - xy, axis=1) / side,
        sigma.astype(np.float64) / side,
    )


def track_camera(camera: Camera, evidence: Evidence, name: str, frame: int) -> Camera:
    """The camera at the size of the picture that the landmarks of this frame were found in.

    Only photos of one camera may differ in size.
    """
    footage = evidence.footage
    if footage is None or footage.recordings[footage.column(name)].kind != "photos":
        return camera
    size = evidence.photo_sizes.get((name, frame))
    return camera if size is None else picture_camera(camera, *size)
