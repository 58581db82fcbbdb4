"""`out/footage.npz`: which pictures of which recordings a fit was made from.

Whatever shows the footage again (report, mosaic, textures, Blender's backgrounds) finds it here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densefit.errors import InputError
from densefit.files import read_npz, read_npz_array, write_npz

if TYPE_CHECKING:
    from densefit.capture import MasterTimeline, Source, Take
    from densefit.landmarks.predictor import PredictOptions

FILE_NAME = "footage.npz"
KINDS = ("video", "photo", "photos", "sequence")


@dataclass(frozen=True)
class Recording:
    """Where one camera's pictures are."""

    name: str
    path: Path
    """As it was when the fit was made; may be gone by now."""
    kind: str
    """video, photo, photos or sequence."""
    fps: float

    def open(self) -> Source:
        """Open the recording again; InputError if it is gone or damaged."""
        from densefit.capture import open_source

        return open_source(
            self.name, self.path, separate_photos=self.kind == "photos", fps=self.fps
        )


@dataclass(frozen=True)
class Footage:
    """Recordings and the picture of each that belongs to each master frame."""

    recordings: tuple[Recording, ...]
    index: np.ndarray
    """(T, C) int64: position among the pictures that were read, -1 where there is none."""
    timecode: np.ndarray
    """(T,) float64: time of day in seconds by the recordings' timecode; NaN without one."""
    drop_frame: bool
    """The timecode skips numbers to keep pace with 29.97 pictures a second."""
    start: str | None
    end: str | None
    every: int
    path: Path
    """The file that this was read from."""

    def column(self, camera: str) -> int:
        """Of `index`. InputError for a camera that was not recorded."""
        names = [recording.name for recording in self.recordings]
        if camera not in names:
            raise InputError(
                f"{self.path}: no recording of camera '{camera}', which rig.yaml has; run fit-rig "
                "again"
            )
        return names.index(camera)

    def pictures(self, camera: str, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Decode a camera's pictures at some master frames.

        Args:
            frames: master frames; those without a picture of this camera are left out.
        Yields:
            Master frame and picture (H, W, 3) uint8 RGB, in the order of time.
        Raises:
            InputError: the recording is gone or damaged.
        """
        from densefit.capture import open_frames

        column = self.index[:, self.column(camera)]
        wanted = {int(column[frame]): int(frame) for frame in frames if column[frame] >= 0}
        if not wanted:
            return
        source = self.recordings[self.column(camera)].open()
        last = max(wanted)
        for position, frame in enumerate(open_frames(source, self.start, self.end, self.every)):
            if position in wanted:
                yield wanted[position], frame.image
            if position >= last:
                return


def write_footage(
    out: Path,
    take: Take,
    timeline: MasterTimeline,
    times: Mapping[str, np.ndarray],
    chosen: PredictOptions,
) -> Path:
    """Write out/footage.npz.

    Args:
        times: by camera (T_c,) float64, s: presentation times of the pictures that were read.
    """
    sources = [take.sources[name] for name in timeline.cameras]
    paths = [source.path.resolve() for source in sources]
    path = out / FILE_NAME
    write_npz(
        path,
        cameras=np.array([source.name for source in sources]),
        paths=np.array([str(p) for p in paths]),
        # So that results and recordings may be moved together.
        relative=np.array([os.path.relpath(p, out.resolve()) for p in paths]),
        kinds=np.array([source.kind for source in sources]),
        fps=np.array([source.fps for source in sources]),
        index=timeline.index,
        timecode=_timecodes(sources, timeline, times),
        drop_frame=np.array(any(source.drop_frame for source in sources)),
        range=np.array([str(chosen.start or ""), str(chosen.end or ""), str(chosen.every)]),
    )
    return path


def read_footage(out: Path) -> Footage | None:
    """Read out/footage.npz; None where a fit has none. InputError if it is damaged."""
    path = Path(out) / FILE_NAME
    if not path.is_file():
        return None
    data = read_npz(path)
    try:
        recordings = tuple(
            Recording(str(name), _found(Path(out), str(p), str(relative)), str(kind), float(fps))
            for name, p, relative, kind, fps in zip(
                *(data[key] for key in ("cameras", "paths", "relative", "kinds", "fps")),
                strict=True,
            )
        )
        start, end, every = (str(part) for part in data["range"])
        footage = Footage(
            recordings,
            data["index"],
            data["timecode"],
            bool(data["drop_frame"]),
            start or None,
            end or None,
            int(every),
            path,
        )
        _check(footage)
        return footage
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: damaged ({error}); run fit-rig again") from error


def _check(footage: Footage) -> None:
    """ValueError unless the arrays are what their descriptions promise."""
    index, moments = footage.index, footage.timecode
    if index.ndim != 2 or index.dtype.kind != "i" or index.shape[1] != len(footage.recordings):
        raise ValueError(f"index is {index.dtype} of shape {index.shape}")
    if moments.shape != index.shape[:1] or moments.dtype.kind != "f":
        raise ValueError(f"timecode is {moments.dtype} of shape {moments.shape}")
    if footage.every < 1:
        raise ValueError(f"every {footage.every}")
    fit = footage.path.with_name("fit.npz")
    if fit.is_file() and len(read_npz_array(fit, "time")) != len(index):
        raise ValueError(f"{len(index)} frames, the fit beside it has others")
    for recording in footage.recordings:
        if recording.kind not in KINDS or not 0 < recording.fps < np.inf:
            raise ValueError(f"{recording.kind!r} of {recording.fps} pictures/s")


def need_footage(out: Path, purpose: str) -> Footage:
    """As `read_footage`; InputError says what it is needed for when it is missing."""
    footage = read_footage(out)
    if footage is None:
        raise InputError(
            f"{Path(out) / FILE_NAME}: missing, {purpose} needs it; run fit-rig once more, the fit "
            f"itself is kept"
        )
    return footage


def _found(out: Path, absolute: str, relative: str) -> Path:
    moved = out / relative
    return moved if not Path(absolute).exists() and moved.exists() else Path(absolute)


def _timecodes(
    sources: Sequence[Source], timeline: MasterTimeline, times: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(T,) time of day at each master frame by the first camera that has a timecode."""
    for column, source in enumerate(sources):
        if source.timecode is None:
            continue
        index = timeline.index[:, column]
        known = index >= 0
        own = np.asarray(times[source.name])[index[known]] - source.start_time + source.timecode
        # Frames that this camera lacks lie as far from their neighbours as on the master clock.
        if known.any():
            shift = np.interp(timeline.time, timeline.time[known], own - timeline.time[known])
            return timeline.time + shift
    return np.full(len(timeline.time), np.nan)
