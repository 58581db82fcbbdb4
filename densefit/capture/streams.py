"""Which of a file's streams is the recording, and what its header states of it."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from densefit.errors import InputError

# A base rate above the average by more is not explained by dropped frames.
_MOST_DROPPED = 1.6


def video_stream(container: Any, path: Path) -> Any:
    """The stream to decode: of several the one marked as default, then the largest picture.

    Raises:
        InputError: there is none, or only parts of a picture.
    """
    import av

    disposition = av.stream.Disposition
    streams = real_video_streams(container)
    if not streams:
        other = "sound but no video" if container.streams.audio else "no video"
        raise InputError(f"{path}: holds {other}; give the camera's video file")
    parts = any(stream.disposition & disposition.dependent for stream in container.streams.video)
    if parts and not any(stream.disposition & disposition.default for stream in streams):
        raise InputError(
            f"{path}: a tiled HEIC or AVIF picture, of which only the tiles can be read; convert "
            "it to JPEG"
        )

    def rank(stream: Any) -> tuple[bool, bool, int]:
        context = stream.codec_context
        size = context.width * context.height if context else 0
        return context is not None, bool(stream.disposition & disposition.default), size

    best = max(streams, key=rank)
    if best.codec_context is None:
        raise InputError(
            f"{path}: holds video of a kind that this PyAV cannot decode, or is damaged; convert "
            "it to H.264"
        )
    return best


def real_video_streams(container: Any) -> list[Any]:
    """The video streams that are no cover picture."""
    import av

    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def average_rate(stream: Any) -> Fraction | None:
    """Frames per second over the whole file, dropped ones not counted; None if not stated."""
    return stream.average_rate or stream.guessed_rate or stream.base_rate


def nominal_rate(stream: Any) -> Fraction | None:
    """The camera's rate: dropped frames lower the average, but the clock runs on.

    FFmpeg's base rate is the slowest that all times fit; where rates vary that says nothing.
    """
    average, base = average_rate(stream), stream.base_rate
    if average and base and average <= base < _MOST_DROPPED * average:
        return base
    return average


def stated_frames(container: Any, stream: Any) -> int:
    """Frames that the container's index lists, less those that an edit list hides; 0 if unknown."""
    if stream.frames and "mov" in container.format.name:
        return sum(not entry.is_discard for entry in stream.index_entries) or stream.frames
    return stream.frames


def stated_duration(container: Any, stream: Any) -> float | None:
    """Seconds of video that the file states; None where only the sound's length is known."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", tag)
    if match:
        end = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    elif container.duration and len(container.streams) == 1:
        end = container.duration / 1e6
    else:
        return None
    # What is left of nothing is no length: then the header counts from the first frame after all.
    length = end - _counted_before(container, stream)
    return length if length > 0 else end


def _counted_before(container: Any, stream: Any) -> float:
    """Seconds before the first frame that the container's length includes.

    Matroska states where the video ends, counted from 0; but mkvmerge, which also writes
    statistics, its length. FLV counts from the first frame's decoding on.
    """
    import av

    start = float((stream.start_time or 0) * stream.time_base)
    if "matroska" in container.format.name:
        return 0.0 if any(key.startswith("_STATISTICS") for key in stream.metadata) else start
    if container.format.name == "flv":
        try:
            packet = next(container.demux(stream))
        except (av.FFmpegError, OSError, StopIteration):
            return 0.0
        if packet.pts is not None and packet.dts is not None:
            return float((packet.pts - packet.dts) * stream.time_base)
    return 0.0
