"""What a recording is, told without decoding it: codec, clock, what was dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densefit.capture.clock import frame_times
from densefit.capture.photos import read_photo
from densefit.capture.source import Source, open_video
from densefit.capture.streams import real_video_streams, video_stream

# Frame distances that differ by more (over the usual one) count as uneven.
_UNEVEN = 0.1
# Share of uneven distances, other than dropped frames, from which the rate is called variable.
_VARIABLE = 0.02

# Photos whose size is looked at.
_SIZED_PHOTOS = 40

# Transfer characteristics of ITU-T H.273.
_HDR = {16: "HDR (PQ)", 18: "HDR (HLG)"}


@dataclass(frozen=True, eq=False)
class RecordingFacts:
    """A camera's recording as its container describes it."""

    source: Source
    codec: str
    """as FFmpeg names it; the file type of pictures"""
    pixel_format: str
    remarks: tuple[str, ...]
    """interlaced, HDR, rotated and the like, for people"""
    times: np.ndarray
    """(N,) float64, s: presentation times, read from the packets"""
    bytes: int
    """of all its files"""

    @property
    def rhythm(self) -> Rhythm:
        return rhythm(self.times)


@dataclass(frozen=True)
class Rhythm:
    """How evenly frames follow one another."""

    fps: float
    """of the usual distance; 0 for less than two frames"""
    variable: bool
    """distances differ in other ways than by dropped frames"""
    dropped: int
    """frames missing where a distance is a multiple of the usual one"""
    longest: float
    """s, the longest distance"""


def describe(source: Source) -> RecordingFacts:
    """Read what the file tells. The source was opened before, so nothing new can be wrong."""
    size = sum(file.stat().st_size for file in source.files or (source.path,))
    if source.kind != "video":
        times = np.arange(len(source.files)) / source.fps
        codec = source.files[0].suffix[1:].lower()
        sizes = _other_sizes(source) if source.kind == "photos" else ()
        return RecordingFacts(source, codec, "", sizes, times, size)
    with open_video(source.path) as container:
        stream = video_stream(container, source.path)
        context = stream.codec_context
        codec, pixel_format = context.codec.canonical_name, context.pix_fmt or ""
        remarks = _remarks(source, context)
        streams = real_video_streams(container)
        if len(streams) > 1:
            remarks += (f"video {streams.index(stream) + 1} of {len(streams)} in the file",)
    times = frame_times(source.path)
    return RecordingFacts(source, codec, pixel_format, remarks, times, size)


def _other_sizes(source: Source) -> tuple[str, ...]:
    """Sizes of photos that are not of the first one's size, of as many as are soon read."""
    shapes = (read_photo(file).shape for file in source.files[1:_SIZED_PHOTOS])
    sizes = dict.fromkeys((width, height) for height, width, _ in shapes)
    sizes.pop((source.width, source.height), None)
    return tuple(f"also {width}x{height}" for width, height in sizes)


def _remarks(source: Source, context: object) -> tuple[str, ...]:
    found = []
    coded = getattr(context, "width", 0), getattr(context, "height", 0)
    if coded != (source.width, source.height):
        turned = coded[::-1] == (source.width, source.height)
        found.append("rotated" if turned else f"stored as {coded[0]}x{coded[1]}")
    transfer = int(getattr(context, "color_trc", 2))
    if transfer in _HDR:
        found.append(_HDR[transfer])
    if int(getattr(context, "field_order", 0)) > 1:
        found.append("interlaced")
    return tuple(found)


def rhythm(times: np.ndarray) -> Rhythm:
    """Tell dropped frames from a variable rate.

    Args:
        times: (N,) s, increasing.
    """
    steps = np.diff(times)
    if len(steps) == 0:
        return Rhythm(0.0, False, 0, 0.0)
    usual = float(np.median(steps))
    if usual <= 0:
        return Rhythm(0.0, True, 0, float(steps.max()))
    # The mean of the usual steps is free of the container's rounding of single times.
    usual = float(steps[np.abs(steps - usual) < _UNEVEN * usual + 1e-3].mean())
    multiple = np.maximum(np.rint(steps / usual), 1)
    # Containers round times, to a millisecond at worst.
    uneven = np.abs(steps - multiple * usual) > _UNEVEN * usual + 1e-3
    return Rhythm(
        fps=1 / usual,
        variable=bool(uneven.mean() > _VARIABLE),
        dropped=int((multiple - 1)[~uneven].sum()),
        longest=float(steps.max()),
    )
