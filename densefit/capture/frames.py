"""Pictures of a source one after the other, in presentation order, upright."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from densefit.capture import photos
from densefit.capture.source import Source, report_damage
from densefit.errors import InputError, UsageError

Wanted = Callable[[int, float], bool | None]
"""(frame number, time) -> deliver it? None: stop reading."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture."""

    index: int
    """Number in the recording, from 0 in presentation order, whatever range is read."""
    time: float
    """Presentation time, seconds on the camera's own clock."""
    image: np.ndarray
    """(H, W, 3) uint8 RGB as displayed."""


@dataclass(frozen=True)
class Moment:
    """Where a range of frames begins or ends."""

    value: float
    unit: Literal["frames", "seconds"]
    """Frames count from the first; seconds run from the first frame's presentation time."""


_MOMENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(f|s)?")


def parse_moment(text: str | int | Moment | None, option: str = "--start") -> Moment | None:
    """`120` and `120f` are a frame number, `4.5s` seconds after the first frame; None stays None.

    Raises:
        UsageError: anything else.
    """
    if text is None or isinstance(text, Moment):
        return text
    match = _MOMENT.fullmatch(str(text).strip())
    if match and match[2] == "s":
        return Moment(float(match[1]), "seconds")
    if match and match[1].isdigit():
        return Moment(int(match[1]), "frames")
    raise UsageError(f"{option} {text}: give a frame number (120) or seconds (4.5s)")


def open_frames(
    source: Source,
    start: str | int | Moment | None = None,
    end: str | int | Moment | None = None,
    every: int = 1,
    threads: int = 0,
    skip: int = 0,
) -> Iterator[Frame]:
    """Decode a source.

    Args:
        source: an opened recording.
        start: first frame, default the recording's first; see `parse_moment`.
        end: frame to stop before, default none.
        every: of the frames from `start` on, every n-th.
        threads: decoder threads; 0 leaves it to the decoder.
        skip: frames of those chosen to leave out at the beginning, because they are done already.
    Yields:
        Frames with strictly increasing index and time.
    Raises:
        UsageError: a range that is malformed or holds nothing.
        InputError: a damaged picture, or a damaged video of a strict source.
    """
    wanted = frame_choice(source, start, end, every, skip)
    if source.kind == "video":
        from densefit.capture.video import decode_video

        return decode_video(source, wanted=wanted, threads=threads)
    return _decode_pictures(source, wanted)


def frame_choice(
    source: Source,
    start: str | int | Moment | None = None,
    end: str | int | Moment | None = None,
    every: int = 1,
    skip: int = 0,
) -> Wanted:
    """The function that chooses frames; to be called once for each frame, in order.

    Arguments and errors are those of `open_frames`.
    """
    first, last = parse_moment(start, "--start"), parse_moment(end, "--end")
    if every < 1:
        raise UsageError(f"--every {every}: give 1 or more")
    if first and last and first.unit == last.unit and first.value >= last.value:
        raise UsageError(f"--start {start} is not before --end {end}")
    origin: int | None = None

    def wanted(index: int, time: float) -> bool | None:
        nonlocal origin
        if _reached(last, index, time, source):
            return None
        if origin is None and (first is None or _reached(first, index, time, source)):
            origin = index
        if origin is None or (index - origin) % every:
            return False
        return (index - origin) // every >= skip

    return wanted


def check_range(
    source: Source,
    start: str | int | Moment | None = None,
    end: str | int | Moment | None = None,
) -> None:
    """Make sure, undecoded, that a range holds a frame, as far as the recording tells.

    Where a video's container states too few frames for the range, its packets are counted.

    Raises:
        UsageError: the range is malformed or empty by itself.
        InputError: the recording ends before it, or begins after it.
    """
    count = np.arange(source.n_frames_estimate)
    if _holds_frame(source, count / source.fps + source.start_time, start, end):
        return
    if source.kind == "video":
        from densefit.capture.clock import frame_times

        times = frame_times(source.path)
        # Where packets tell nothing the decoder may find more.
        if not len(times) or _holds_frame(source, times, start, end):
            return
        count = times
    raise InputError(
        f"{source.path}: no frame in the chosen range, of {len(count)}; check --start and --end"
    )


def _holds_frame(
    source: Source,
    times: np.ndarray,
    start: str | int | Moment | None,
    end: str | int | Moment | None,
) -> bool:
    wanted = frame_choice(source, start, end)
    return any(wanted(index, time) for index, time in enumerate(times.tolist()))


def _reached(moment: Moment | None, index: int, time: float, source: Source) -> bool:
    if moment is None:
        return False
    if moment.unit == "frames":
        return index >= moment.value
    # Times are rounded to the container's clock, 1 ms at worst.
    return time - source.start_time >= moment.value - 5e-4


def _decode_pictures(source: Source, wanted: Wanted) -> Iterator[Frame]:
    for index, path in enumerate(source.files):
        time = index / source.fps
        take = wanted(index, time)
        if take is None:
            return
        if not take:
            continue
        try:
            image = photos.read_photo(path)
        except InputError as error:
            if source.kind != "sequence":
                raise
            last = f"last good picture {source.files[index - 1].name}" if index else "none is good"
            report_damage(source, f"{error} ({last})")
            return
        if source.kind == "sequence" and image.shape[:2] != (source.height, source.width):
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]}, but the sequence began with "
                f"{source.width}x{source.height}; all pictures of a sequence need one size"
            )
        yield Frame(index, time, image)
