"""Video decoding through PyAV: by presentation time, rotation applied, damage told."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from densefit.capture.clock import Clock, frame_times
from densefit.capture.colour import upright_rgb
from densefit.capture.frames import Frame, Wanted
from densefit.capture.orientation import Orientations
from densefit.capture.photos import MAX_PIXELS
from densefit.capture.source import Source, open_video, plain, report_damage
from densefit.capture.streams import video_stream
from densefit.errors import InputError

__all__ = ["decode_video", "frame_times"]


def decode_video(
    source: Source,
    wanted: Wanted = lambda index, time: True,
    threads: int = 0,
    probe: bool = False,
) -> Generator[Frame, None, None]:
    """Decode a video in presentation order.

    Args:
        source: a video.
        wanted: chooses frames; frames that it declines are decoded but not converted.
        threads: decoder threads; 0 leaves it to the decoder.
        probe: only the first frame matters: no threads, no reports.
    Raises:
        InputError: the picture size changes midway; or damage, when the source is strict.
    """
    import av

    with open_video(source.path) as container:
        stream = video_stream(container, source.path)
        stream.thread_type = "NONE" if probe else "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        if threads:
            stream.codec_context.thread_count = threads
        damage = _Damage()
        clock = Clock(source, stream, first_only=probe)
        orientations = Orientations()
        index = 0
        pictures = _pictures(container, stream, damage, 1 / source.fps)
        for picture in _deinterlaced(pictures):
            time = clock.time_of(picture)
            take = wanted(index, time)
            if take is None:
                return
            if take:
                try:
                    turn = orientations.of(picture)
                    image = upright_rgb(picture, stream.sample_aspect_ratio, turn)
                except (av.FFmpegError, OSError, ValueError) as error:
                    # A header that claims colours or a shape that no picture has.
                    damage.problem = plain(error)
                    break
                if not probe:
                    _check_size(source, image, index)
                yield Frame(index, time, image)
            index += 1
        if not probe:
            _report(source, damage, clock, index)


class _Damage:
    """What went wrong while decoding, if anything."""

    problem: str | None = None


def _pictures(container: Any, stream: Any, damage: _Damage, period: float) -> Iterator[Any]:
    """Decoded frames up to the first that is damaged.

    What cannot be decoded before the first good frame is skipped: streams that were cut out of
    others begin in the middle of a group of pictures.
    """
    import av

    last: Any = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            damage.problem = plain(error)
            return
        if packet is None:
            return
        try:
            pictures = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            if last is not None:
                damage.problem = plain(error)
                yield from _flushed(stream, last, period)
                return
            continue
        for picture in pictures:
            if picture.is_corrupt:
                if last is not None:
                    damage.problem = "damaged picture"
                    return
                continue
            last = picture
            yield picture


def _deinterlaced(pictures: Iterator[Any]) -> Iterator[Any]:
    """The same pictures at the same times; from the first interlaced one on through a filter.

    The filter changes only pictures that are marked as interlaced. It looks one picture ahead.
    """
    graph: Any = None
    shape: Any = None
    for picture in pictures:
        if graph is not None and shape != _shape(picture):
            graph.push(None)
            yield from _filtered(graph)
            graph = None
        if graph is None:
            if not picture.interlaced_frame:
                yield picture
                continue
            graph, shape = _deinterlacer(picture), _shape(picture)
        graph.push(picture)
        yield from _filtered(graph)
    if graph is not None:
        graph.push(None)
        yield from _filtered(graph)


def _shape(picture: Any) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name


def _deinterlacer(first: Any) -> Any:
    """A filter graph for pictures like `first`."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    graph.link_nodes(
        source,
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _filtered(graph: Any) -> Iterator[Any]:
    import av

    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def _flushed(stream: Any, last: Any, period: float) -> Iterator[Any]:
    """Good frames that wait inside a threaded decoder, up to the hole that the damaged one left."""
    import av

    try:
        pictures = stream.decode(None)
    except (av.FFmpegError, ValueError):  # the decoder gave up altogether: nothing waits in it
        return
    for picture in pictures:
        if picture.is_corrupt or picture.pts is None or last.pts is None:
            return
        if (picture.pts - last.pts) * stream.time_base > 1.5 * period:
            return
        last = picture
        yield picture


def _check_size(source: Source, image: np.ndarray, index: int) -> None:
    if image.shape[:2] != (source.height, source.width):
        raise InputError(
            f"{source.path}: the picture changes from {source.width}x{source.height} to "
            f"{image.shape[1]}x{image.shape[0]} at frame {index}; convert it to one size"
        )


def _report(source: Source, damage: _Damage, clock: Clock, n_frames: int) -> None:
    """Say where the good part of a damaged video ends."""
    problem = None
    gone = not source.path.exists()
    if n_frames == 0 or clock.last is None:
        problem = "no picture in it can be decoded"
    elif damage.problem:
        problem = f"damaged after {clock.last:.2f} s ({damage.problem})"
    else:
        # Containers that are written on the fly end without an error; their headers tell.
        missing = source.duration - (clock.last - source.start_time) - 1 / source.fps
        # Of a file that is there, lengths are stated loosely; of one that is gone, one lost
        # picture is too much.
        if missing > (1.5 / source.fps if gone else max(0.5, 3 / source.fps)):
            problem = f"ends at {clock.last:.2f} s, {missing:.2f} s before the length it states"
    if problem and gone:
        # A drive that was pulled out must not pass for a short recording.
        raise InputError(
            f"{source.path}: vanished while it was read; bring it back and run the same command "
            "again"
        )
    if problem and n_frames == 0:
        raise InputError(f"{source.path}: {problem}; convert it or record it again")
    if problem:
        report_damage(source, problem)
