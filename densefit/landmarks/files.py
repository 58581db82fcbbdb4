"""landmarks/<camera>.npz: one camera's landmarks over time, written in parts while it is made."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.files import (
    atomic_path,
    ensure_out_dir,
    read_npz,
    read_npz_array,
    write_json,
    write_npz,
)

PART_FRAMES = 512
FARTHEST = 1e6
"""px: nothing in a picture, nor beside it, is farther off or larger."""
_UNSAID = {"precision": "float32"}
"""What was so before jobs said it."""
CHOSEN_BY = {
    "frames": "frames (--start, --end, --every, or --fps of a picture sequence)",
    "weights": "weights (--quality or --weights, or another version of densefit)",
}
"""What a part of a job is called where it differs: the options that change it are told, too."""
_ARRAYS = ("xy", "sigma", "time", "valid", "roi")
_TRAIL = "trail_"
"""Begins the names of what a part says of the face's trail after its last frame."""


@dataclass(frozen=True)
class LandmarkTrack:
    """Landmarks of one camera.

    xy: (T, 703, 2) float32 px; sigma: (T, 703) float32 px, one standard deviation per axis;
    time: (T,) float64 s, presentation time on the camera's own clock; valid: (T,) bool (else xy and
    sigma are NaN); roi: (T, 5) float32 centre x, centre y, side px, roll radians, confidence.
    """

    xy: np.ndarray
    sigma: np.ndarray
    time: np.ndarray
    valid: np.ndarray
    roi: np.ndarray
    landmarks_version: str

    def __len__(self) -> int:
        return len(self.time)


def read_landmarks(path: Path) -> LandmarkTrack:
    """Read a track. InputError names the file when it is missing, damaged or of another layout."""
    arrays = read_npz(path)
    missing = [f.name for f in fields(LandmarkTrack) if f.name not in arrays]
    if missing:
        raise InputError(
            f"{path}: not a file of landmarks (no {', '.join(missing)}); predict again"
        )
    track = LandmarkTrack(
        **{name: arrays[name] for name in _ARRAYS},
        landmarks_version=str(arrays["landmarks_version"]),
    )
    _check(path, track)
    return track


def _check(path: Path, track: LandmarkTrack) -> None:
    """InputError unless types, shapes and values are those that the docstring promises."""
    if track.time.ndim != 1 or track.xy.ndim != 3:
        raise InputError(f"{path}: time or xy of the wrong shape; predict again with --overwrite")
    frames, count = len(track.time), track.xy.shape[1]
    shapes = {"xy": (frames, count, 2), "sigma": (frames, count), "roi": (frames, 5)}
    kinds = {"xy": "f", "sigma": "f", "time": "f", "valid": "b", "roi": "f"}
    for name, array in ((name, getattr(track, name)) for name in _ARRAYS):
        if array.shape != shapes.get(name, (frames,)) or array.dtype.kind != kinds[name]:
            raise InputError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}, not what {frames} frames "
                "need; predict again with --overwrite"
            )
    seen = track.valid
    xy, sigma, roi = track.xy[seen], track.sigma[seen], track.roi[seen]
    # NaN fails every comparison.
    possible = (np.abs(xy) < FARTHEST).all() and (np.abs(roi) < FARTHEST).all()
    possible &= ((sigma > 0) & (sigma < FARTHEST)).all() and (roi[:, 2] > 0).all()
    if not possible or not np.isfinite(track.time).all() or (np.diff(track.time) <= 0).any():
        raise InputError(
            f"{path}: times that do not increase, or landmarks that cannot be; predict again "
            "with --overwrite"
        )


def write_landmarks(path: Path, track: LandmarkTrack) -> None:
    """Write a track whole or not at all, stored without compression."""
    write_npz(path, **{f.name: getattr(track, f.name) for f in fields(LandmarkTrack)})


class PartWriter:
    """Collects one camera's frames, puts every 512 on disk, joins them at the end.

    The parts survive an interruption: `frames_done` says how many frames need not be done again.
    """

    def __init__(
        self,
        folder: Path,
        camera: str,
        landmarks_version: str,
        job: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        """Nothing is written or removed before `open`.

        Args:
            folder: `landmarks/`.
            camera: its name.
            landmarks_version: of the head model.
            job: JSON values that tell this work from work on other things, by what they are.
            overwrite: earlier work does not count.
        """
        self.path = folder / f"{camera}.npz"
        self.camera = camera
        self.parts = folder / ".parts" / camera
        self.landmarks_version = landmarks_version
        self.overwrite = overwrite
        self.job = dict(job)
        self._job_file = _job_file(folder, camera)
        self.trail: Mapping[str, np.ndarray] = {}
        """What following needs to know after the frames that are being added (`follow.Trail`)."""
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._count = 0 if overwrite else self._whole_parts()

    def check(self) -> None:
        """Raise InputError if there is earlier work of another job, which would be lost."""
        if self.overwrite or not (self.path.exists() or self._part(0).exists()):
            return
        stated = earlier_job(self.path.parent, self.camera) or {}
        changed = [
            CHOSEN_BY.get(name, name)
            for name, value in self.job.items()
            if stated.get(name) != value
        ]
        if changed:
            raise InputError(
                f"{self.path}: made from other {', '.join(changed)}; choose another folder with "
                "-o, or replace it with --overwrite"
            )

    def open(self) -> None:
        """Make ready to add frames; removes what is left of work that does not count."""
        if self.overwrite or not self._part(0).exists():
            self._remove_parts()
            self.path.unlink(missing_ok=True)
            self._job_file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._job_file, self.job)
        ensure_out_dir(self.parts)

    @property
    def finished(self) -> bool:
        """The camera's file is there, and need not be made again."""
        return self.path.exists() and not self.overwrite

    @property
    def frames_done(self) -> int:
        """Frames in complete parts."""
        return self._count * PART_FRAMES

    def _whole_parts(self) -> int:
        count = 0
        while self._part(count).exists():
            count += 1
        # A run that was killed while it joined its parts has left a shorter one at the end, whose
        # frames are done again: nothing says that they were the last.
        if count and len(read_npz_array(self._part(count - 1), "time")) < PART_FRAMES:
            count -= 1
        return count

    @property
    def empty(self) -> bool:
        """Not a single frame was added, now or earlier."""
        return not self._rows and not self._count

    def __len__(self) -> int:
        """Frames that need not be done again, in parts or in the finished file."""
        if not self.finished:
            return self.frames_done
        return len(read_npz_array(self.path, "time"))

    def trail_before(self, frame: int) -> dict[str, np.ndarray]:
        """What was known of the face before one of the frames done, the first of a part."""
        if frame == 0:
            return {"lost": np.array(0)}
        row, arrays = frame - 1, {}
        if self.finished:
            track = read_landmarks(self.path)
            arrays = {"xy": track.xy, "valid": track.valid}
        else:
            arrays = read_npz(self._part(row // PART_FRAMES))
            row %= PART_FRAMES
        trail = {n.removeprefix(_TRAIL): a for n, a in arrays.items() if n.startswith(_TRAIL)}
        if trail:
            return trail
        # A finished file says no more than where the face was, nor do parts of earlier versions.
        seen = bool(arrays["valid"][row])
        return {"lost": np.array(0), "xy": arrays["xy"][row]} if seen else {"lost": np.array(1)}

    def add(self, xy: np.ndarray, sigma: np.ndarray, time: float, roi: np.ndarray | None) -> None:
        """Append a frame; roi None marks it invalid (xy and sigma are then ignored)."""
        valid = roi is not None
        if roi is None:
            xy, sigma = np.full_like(xy, np.nan), np.full_like(sigma, np.nan)
            roi = np.array([np.nan, np.nan, np.nan, np.nan, 0.0])
        row = (
            np.asarray(xy, np.float32),
            np.asarray(sigma, np.float32),
            np.asarray(time, np.float64),
            np.asarray(valid),
            np.asarray(roi, np.float32),
        )
        self._rows.append(row)
        if len(self._rows) == PART_FRAMES:
            self._flush()

    def finish(self) -> Path:
        """Join the parts (one in memory at a time) into the camera's file and remove them."""
        if self._rows:
            self._flush()
        with atomic_path(self.path) as temporary:
            _join([self._part(i) for i in range(self._count)], temporary, self.landmarks_version)
        self._remove_parts()
        return self.path

    def _remove_parts(self) -> None:
        """All at once: half of them would look like the work of an interrupted run."""
        if self.parts.exists():
            doomed = self.parts.with_name(f".{self.parts.name}.removed")
            shutil.rmtree(doomed, ignore_errors=True)
            self.parts.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def _part(self, index: int) -> Path:
        return self.parts / f"{index:06d}.npz"

    def _flush(self) -> None:
        columns = [np.stack(column) for column in zip(*self._rows, strict=True)]
        arrays = dict(zip(_ARRAYS, columns, strict=True))
        arrays |= {_TRAIL + name: array for name, array in self.trail.items()}
        write_npz(self._part(self._count), **arrays)
        self._count += 1
        self._rows.clear()


def earlier_job(folder: Path, camera: str) -> dict[str, Any] | None:
    """What a camera's landmarks in `landmarks/` are, or were to be, made from; None: unknown."""
    try:
        stated = json.loads(_job_file(folder, camera).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _UNSAID | stated if isinstance(stated, dict) else None


def _job_file(folder: Path, camera: str) -> Path:
    return folder / ".parts" / f"{camera}.json"


def _join(files: list[Path], path: Path, landmarks_version: str) -> None:
    """Write an .npz whose arrays are those of the parts one after the other."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in _ARRAYS:
            length, first = _length(files, name)
            header = {
                "descr": np.lib.format.dtype_to_descr(first.dtype),
                "fortran_order": False,
                "shape": (length, *first.shape[1:]),
            }
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array_header_1_0(out, header)
                for block in _blocks(files, name):
                    out.write(np.ascontiguousarray(block).tobytes())
        with archive.open("landmarks_version.npy", "w") as out:
            np.lib.format.write_array(out, np.asarray(landmarks_version), allow_pickle=False)


def _length(files: list[Path], name: str) -> tuple[int, np.ndarray]:
    first, length = None, 0
    for block in _blocks(files, name):
        first = block if first is None else first
        length += len(block)
    assert first is not None, "a camera without a frame has no parts to join"
    return length, first


def _blocks(files: list[Path], name: str) -> Iterator[np.ndarray]:
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            yield part[name]
