"""One camera's recording: what it is, opened and checked before any work starts."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from densefit.capture import photos
from densefit.capture.streams import (
    average_rate,
    nominal_rate,
    stated_duration,
    stated_frames,
    video_stream,
)
from densefit.capture.timecode import is_drop_frame, parse_timecode
from densefit.errors import InputError
from densefit.progress import warn

Kind = Literal["video", "photo", "photos", "sequence"]

DEFAULT_FPS = 30.0
"""Frames per second of an image sequence, which has no clock of its own."""

_PATTERN = re.compile(r"%0?(\d*)d")


@dataclass(frozen=True)
class Source:
    """A camera's recording. Sizes are those of the picture as displayed (rotation applied)."""

    name: str
    """The camera's name."""
    path: Path
    """Video, photo, folder, or pattern such as left/%06d.png."""
    kind: Kind
    """`photos` are separate pictures, each detected afresh; `sequence` is a film in image files."""
    width: int
    """px; of the first picture where photos differ in size."""
    height: int
    """px."""
    fps: float
    """Nominal frames per second; 1 for photos."""
    n_frames_estimate: int
    """Exact for images; for video what the container states, or if nothing, packets counted."""
    duration: float
    """Seconds, as good as n_frames_estimate."""
    start_time: float = 0.0
    """Presentation time of the first frame, seconds on this camera's clock."""
    timecode: float | None = None
    """Time of day of the first frame in seconds, from the file's timecode track or tag."""
    drop_frame: bool = False
    """The timecode counts drop-frame."""
    files: tuple[Path, ...] = ()
    """The pictures of photo, photos and sequence, in order."""
    strict: bool = False
    """A damaged recording is an InputError instead of a warning."""


def open_source(
    name: str,
    path: Path,
    *,
    separate_photos: bool = False,
    fps: float = DEFAULT_FPS,
    strict: bool = False,
) -> Source:
    """Open a recording and decode its first picture.

    Args:
        name: the camera's name.
        path: video, photo, folder of pictures, or numbered pattern.
        separate_photos: a folder holds separate photos (kind `photos`), not a film.
        fps: of image sequences.
        strict: refuse damaged recordings.
    Raises:
        InputError: missing, empty, not a video or picture, no video in it.
    """
    if _PATTERN.search(path.name) and not path.exists():
        return _image_source(name, path, _pattern_files(path), "sequence", fps, strict)
    if not path.exists():
        raise InputError(f"{path}: no such file (camera '{name}'); check the name")
    if path.is_dir():
        kind: Kind = "photos" if separate_photos else "sequence"
        return _image_source(name, path, photos.pictures_in(path), kind, fps, strict)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file (camera '{name}'); copy or record it again")
    if photos.is_photo(path):
        return _image_source(name, path, (path,), "photo", fps, strict)
    return _video_source(name, path, strict)


def _image_source(
    name: str, path: Path, files: tuple[Path, ...], kind: Kind, fps: float, strict: bool
) -> Source:
    if not files:
        raise InputError(
            f"{path}: no pictures there (camera '{name}'); known types are "
            + " ".join(sorted(photos.PHOTO_SUFFIXES))
        )
    for file in files:
        if file.stat().st_size == 0:
            raise InputError(f"{file}: empty file (camera '{name}'); copy it again or remove it")
        if kind == "photos" and not photos.looks_like_picture(file):
            raise InputError(f"{file}: not a picture (camera '{name}'); remove or convert it")
    if kind == "sequence":
        photos.warn_of_holes(path, files)
    height, width = photos.read_photo(files[0]).shape[:2]
    rate = fps if kind == "sequence" else 1.0
    return Source(
        name=name,
        path=path,
        kind=kind,
        width=width,
        height=height,
        fps=rate,
        n_frames_estimate=len(files),
        duration=len(files) / rate,
        files=files,
        strict=strict,
    )


def _pattern_files(path: Path) -> tuple[Path, ...]:
    """The files of left/%06d.png in numerical order. Gaps in the numbers are an InputError."""
    if len(_PATTERN.findall(path.name)) != 1:
        raise InputError(f"{path}: a pattern needs exactly one number field; write %06d")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; check the pattern {path.name}")
    before, digits, after = _PATTERN.split(path.name)
    width = int(digits or 0)
    number = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found: dict[int, Path] = {}
    for file in path.parent.iterdir():
        match = number.fullmatch(file.name)
        # %06d writes at least six digits, %d writes none in excess.
        if match and len(match[1]) == max(width, len(str(int(match[1])))):
            found[int(match[1])] = file
    numbers = sorted(found)
    for previous, following in zip(numbers, numbers[1:], strict=False):
        if following != previous + 1:
            raise InputError(
                f"{path}: picture number {previous + 1} is missing; add it or renumber the rest"
            )
    return tuple(found[n] for n in numbers)


def _video_source(name: str, path: Path, strict: bool) -> Source:
    import av

    try:
        container = av.open(str(path.absolute()), options={"max_pixels": str(photos.MAX_PIXELS)})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a video that can be opened (camera '{name}'; {plain(error)}); if the "
            "recording was cut off, its index is lost: repair it or record again"
        ) from error
    with container:
        stream = video_stream(container, path)
        source = _describe(name, path, container, stream)
    source = replace(source, strict=strict)
    if strict:
        _refuse_if_cut(source)
    # The size as displayed and the first time are known for certain only from a decoded frame.
    from densefit.capture.video import decode_video

    frames = decode_video(source, probe=True)
    first = next(frames, None)
    frames.close()
    if first is None:
        raise InputError(
            f"{path}: no picture in it can be decoded (camera '{name}'); convert it or record it "
            "again"
        )
    height, width = first.image.shape[:2]
    source = replace(source, width=width, height=height, start_time=first.time)
    return source if source.n_frames_estimate and source.duration else _counted(source)


def _counted(source: Source) -> Source:
    """With the length that the packets tell: recordings written on the fly state none."""
    from densefit.capture.clock import frame_times

    times = frame_times(source.path)
    if len(times) == 0:
        return source
    duration = float(times[-1]) - source.start_time + 1 / source.fps
    return replace(source, n_frames_estimate=len(times), duration=duration)


def open_video(path: Path) -> Any:
    """A container that could be opened before. InputError when it cannot any more."""
    import av

    try:
        # Absolute: FFmpeg takes what stands before a colon in a bare name for a protocol.
        return av.open(str(path.absolute()), options={"max_pixels": str(photos.MAX_PIXELS)})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: could be opened before, but not any more ({plain(error)}); bring it back and "
            "run the same command again"
        ) from error


def _describe(name: str, path: Path, container: Any, stream: Any) -> Source:
    average = average_rate(stream)
    rate = nominal_rate(stream)
    fps = nominal_fps(stream)
    duration = stated_duration(container, stream)
    n_frames = stated_frames(container, stream) or round(float(average or 0) * (duration or 0.0))
    return Source(
        name=name,
        path=path,
        kind="video",
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        fps=fps,
        n_frames_estimate=n_frames,
        duration=duration if duration is not None else n_frames / fps,
        timecode=_timecode(container, rate or Fraction(30)),
        drop_frame=is_drop_frame(_timecode_tag(container)),
    )


def nominal_fps(stream: Any) -> float:
    """Frames per second that the camera is set to, as far as the file tells."""
    rate = nominal_rate(stream)
    return float(rate) if rate else DEFAULT_FPS


def _timecode(container: Any, rate: Fraction) -> float | None:
    tag = _timecode_tag(container)
    return parse_timecode(tag, rate) if tag else None


def _timecode_tag(container: Any) -> str:
    """As the file states it; empty without one."""
    places = [container.metadata, *(stream.metadata for stream in container.streams)]
    return next((m["timecode"] for m in places if "timecode" in m), "")


def _refuse_if_cut(source: Source) -> None:
    """Compare the file's size with its own index: tells a truncated file before any decoding.

    Without --strict the decoder finds out by itself, and knows the last good time exactly.
    """
    with open_video(source.path) as container:
        stream = video_stream(container, source.path)
        entries = stream.index_entries
        size = source.path.stat().st_size
        if len(entries) == 0 or entries[-1].pos + entries[-1].size <= size:
            return
        times = [entry.timestamp for entry in entries if entry.pos + entry.size <= size]
        last = float(max(times, default=0) * stream.time_base)
    report_damage(source, f"the file ends early, about {last:.2f} s of video are there")


def report_damage(source: Source, problem: str) -> None:
    """Warn about a damaged recording whose beginning is used, or raise InputError if strict."""
    message = f"{source.path}: {problem}"
    if source.strict:
        raise InputError(f"{message}; copy it again, or drop --strict to use the beginning")
    warn_once(f"{message}; only the good beginning is used")


@functools.cache
def warn_once(message: str) -> None:
    """Each stage reads a recording anew; the user need not read of its faults each time."""
    warn(message)


def plain(error: BaseException) -> str:
    """An FFmpeg or system error without its number and the path."""
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
