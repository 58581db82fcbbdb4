"""Files of landmarks of which only the frames asked for are read: an hour of video is no array."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densefit.errors import InputError
from densefit.files import NPZ_ERRORS
from densefit.landmarks.files import LandmarkTrack, read_landmarks

LAZY_BYTES = 64 << 20
"""Smaller files are read at once."""
_LOCAL_HEADER = 30
"""Bytes of a zip member's local header before its name."""


@dataclass(frozen=True)
class ArrayOnDisk:
    """An array inside an .npz that is stored without compression; rows are read on demand."""

    path: Path
    offset: int
    """Of the first row in the file, bytes."""
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, ...) at non-negative indices (N,); neighbours on disk are read together."""
        rows = np.asarray(rows)
        row_size = int(np.prod(self.shape[1:], dtype=np.int64))
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        with self.path.open("rb") as file:
            at = 0
            for run in np.split(rows, breaks):
                if not len(run):
                    continue
                file.seek(self.offset + int(run[0]) * row_size * self.dtype.itemsize)
                block = np.fromfile(file, self.dtype, len(run) * row_size)
                if len(block) < len(run) * row_size:
                    raise InputError(f"{self.path}: ends too early; predict again")
                out[at : at + len(run)] = block.reshape(len(run), *self.shape[1:])
                at += len(run)
        return out


def open_landmarks(path: Path) -> LandmarkTrack:
    """Like `read_landmarks`, but xy and sigma of a large file stay on disk (`ArrayOnDisk`).

    Raises:
        InputError: missing, damaged, or of another layout.
    """
    if not path.is_file() or path.stat().st_size < LAZY_BYTES:
        return read_landmarks(path)
    try:
        with zipfile.ZipFile(path) as archive:
            large = {name: _locate(path, archive, name) for name in ("xy", "sigma")}
            if any(array is None for array in large.values()):
                return read_landmarks(path)
        with np.load(path, allow_pickle=False) as arrays:
            small = {name: arrays[name] for name in ("time", "valid", "roi")}
            version = str(arrays["landmarks_version"])
    except NPZ_ERRORS as error:
        raise InputError(f"{path}: not a file of landmarks ({error}); predict again") from error
    frames = len(small["time"])
    if any(array is None or len(array) != frames for array in large.values()):
        raise InputError(f"{path}: arrays of different lengths; predict again")
    return LandmarkTrack(**large, **small, landmarks_version=version)  # type: ignore[arg-type]


def frame_of(track: LandmarkTrack, row: int) -> tuple[np.ndarray, np.ndarray, float]:
    """xy (703, 2) px, sigma (703,) px and the side of the face's square, px, of one frame."""
    rows = np.array([row])
    return track.xy[rows][0], track.sigma[rows][0], float(track.roi[row, 2])


def _locate(path: Path, archive: zipfile.ZipFile, name: str) -> ArrayOnDisk | None:
    """Where an array's numbers begin; None if it is compressed or not in C order."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
        lengths = np.frombuffer(header[26:30], "<u2")
        file.seek(info.header_offset + _LOCAL_HEADER + int(lengths.sum()))
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        return None if fortran else ArrayOnDisk(path, file.tell(), shape, dtype)
