"""When each picture of a video is shown: as its file states, mended where that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from densefit.capture.source import Source, nominal_fps, open_video, warn_once
from densefit.capture.streams import video_stream
from densefit.progress import warn

# Times that stand still or run backwards are moved on by this much, below any real frame distance.
_TIME_STEP = 1e-6
# Periods that a time may lie before an earlier one; beyond, the clock has begun anew.
_JUMP = 4.0
# Decoding times are checked instead where B-frames make presentation times go to and fro; of some
# containers FFmpeg guesses them, wrong by up to the 16 pictures that H.264 and H.265 may reorder.
_DECODING_JUMP = 17.0
# Packets that show whether a file's times are those of its pictures, when only the first matters.
_FEW = 64


class Clock:
    """Presentation times in seconds, strictly increasing, made up where the file has none.

    Where times jump back the clock goes on from the last picture; where they run backwards a
    little, pictures follow one another closely until the file's times have caught up.
    """

    def __init__(self, source: Source, stream: Any, first_only: bool = False) -> None:
        """For the stream that is decoded; `first_only` spares reading on when one time will do."""
        self.source = source
        self.time_base = stream.time_base
        self.last: float | None = None
        self.warned = False
        self.shift = 0.0
        self.in_order: TimesInOrder | None = None
        if stream.codec_context.has_b_frames:
            self.in_order = times_in_order(source.path, _FEW if first_only else None)
        self.place: int | None = None

    def time_of(self, picture: Any) -> float:
        """The time of the next picture in presentation order, an av.VideoFrame."""
        period = 1 / self.source.fps
        time = self._stated(picture)
        if time is None:
            time = 0.0 if self.last is None else self.last + period
        if self.last is not None and time < self.last - _JUMP * period:
            _warn_of_jump(self.source.path, self.last)
            self.shift += self.last + period - time
            time = self.last + period
        elif self.last is not None and time <= self.last:
            if not self.warned:
                warn(
                    f"{self.source.path}: presentation times run backwards at {self.last:.3f} s; "
                    "synchronization may suffer there"
                )
                self.warned = True
            time = self.last + _TIME_STEP
        self.last = time
        return time

    def _stated(self, picture: Any) -> float | None:
        """Seconds as the file has them, with what jumps back have added; None if it has none."""
        if picture.pts is None and self.in_order is None:
            return None
        base = picture.time_base or self.time_base
        own = 0.0 if picture.pts is None else float(picture.pts * base)
        if self.in_order is None:
            return own + self.shift
        if self.place is None:
            # A key picture comes first; those before it could not be decoded.
            self.place = int(np.searchsorted(self.in_order.stated, own - 0.5 / self.source.fps))
        else:
            self.place += 1
        times = self.in_order.shown
        return float(times[self.place]) if self.place < len(times) else None


@dataclass(frozen=True, eq=False)
class TimesInOrder:
    """Times that belong to a video's pictures by their order alone: the first shown has the first.

    Both (N,) float64, seconds, increasing.
    """

    stated: np.ndarray
    """what FFmpeg takes for the packets' presentation times"""
    shown: np.ndarray
    """when the pictures are shown"""


def times_in_order(path: Path, most: int | None = None) -> TimesInOrder | None:
    """The times of a video whose packets carry those of other pictures, else None.

    AVI states when packets are decoded, not when their pictures are shown; B-frames are stored
    after pictures that are shown later. Streams copied out of AVI bring such times along.

    Args:
        path: a video.
        most: packets to look at; default all, as far as needed.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        if not stream.codec_context.has_b_frames:
            return None
        of_decoding = container.format.name == "avi"
        stated: list[int] = []
        shown: list[int] = []
        for packet in islice(_packets(container, stream), most):
            time = packet.dts if of_decoding else packet.pts
            if time is None or packet.pts is None or (shown and time <= shown[-1]):
                return None  # they go to and fro, as those of B-frames should
            stated.append(packet.pts)
            shown.append(time)
        base = stream.time_base
    return TimesInOrder(_seconds(stated, base), _seconds(shown, base)) if shown else None


def frame_times(path: Path) -> np.ndarray:
    """(N,) float64: presentation times of all frames, read from the packets undecoded.

    Strictly increasing, and as in decoding: of frames that claim one time the later are moved on,
    where times jump back the clock goes on, a stream without times is counted at its rate.
    """
    in_order = times_in_order(path)
    if in_order is not None:
        return in_order.shown
    with open_video(path) as container:
        stream = video_stream(container, path)
        base, period = stream.time_base, 1 / nominal_fps(stream)
        packets = list(_packets(container, stream))
    if all(packet.pts is None for packet in packets):
        return np.arange(len(packets)) * period
    parts = _parts(packets, period / float(base))
    ordered = _seconds(parts[0], base)
    for part in parts[1:]:
        _warn_of_jump(path, ordered[-1])
        times = _seconds(part, base)
        ordered = np.concatenate([ordered, times + (ordered[-1] + period - times[0])])
    if (np.diff(ordered) > 0).all():
        return ordered
    moved = _TIME_STEP * np.arange(len(ordered))
    return np.asarray(np.maximum.accumulate(ordered - moved) + moved)


@dataclass(frozen=True)
class _Packet:
    """Of a packet, what tells the time; in units of the stream's time base."""

    pts: int | None
    dts: int | None
    key: bool


def _packets(container: Any, stream: Any) -> Iterator[_Packet]:
    """Those that pictures are made from, while the file is whole; decoding tells of the rest."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            return
        if packet is None:
            return
        if packet.size and not packet.is_discard:
            yield _Packet(packet.pts, packet.dts, packet.is_keyframe)


def _seconds(times: list[int], base: Fraction) -> np.ndarray:
    """Sorted, and exactly as decoded pictures' times are counted."""
    return np.array([float(time * base) for time in sorted(times)])


def _parts(packets: list[_Packet], period: float) -> list[list[int]]:
    """The presentation times, split where the clock began anew; `period` is in their unit.

    A key picture is shown after all that are stored before it. What follows it may be shown
    earlier, so for the rest the times of decoding count.
    """
    parts: list[list[int]] = [[]]
    latest = decoded = -np.inf
    for packet in packets:
        if packet.pts is None:
            continue
        back = packet.key and packet.pts < latest - _JUMP * period
        if packet.dts is not None:
            back = back or packet.dts < decoded - _DECODING_JUMP * period
            decoded = packet.dts
        if back:
            parts.append([])
            latest = -np.inf
        latest = max(latest, packet.pts)
        parts[-1].append(packet.pts)
    return parts


def _warn_of_jump(path: Path, last: float) -> None:
    warn_once(
        f"{path}: presentation times jump back after {last:.3f} s (recordings joined into one "
        "file, or a clock that was set back); what follows is taken to go on from there"
    )
