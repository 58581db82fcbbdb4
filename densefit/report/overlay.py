"""Overlays: the fitted head over each camera's own pictures, as video or, for photos, PNG."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.export.scene import CHUNK, iterate_vertices
from densefit.files import atomic_path, ensure_out_dir
from densefit.picture_size import picture_camera
from densefit.progress import Bar, progress
from densefit.report.painter import HeadPainter, PainterOptions

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.capture import Frame, Source
    from densefit.fit_file import FitFile
    from densefit.head.model import HeadModel


# A photo is looked at for longer than a frame of a video.
PHOTO_OPTIONS = PainterOptions(raster_side=720)
BATCH = 8
"""Pictures that are painted at once."""
BATCH_PIXELS = 12_000_000
"""... as long as they have no more pixels than this together."""


@dataclass(frozen=True)
class OverlayJob:
    """One camera's overlay.

    `master_frame` says which frame of the fit belongs to each picture of the camera, counted in
    the order in
    which they are read: (N,) int64, -1 where none does; pictures after the N-th have none.
    """

    source: Source
    camera: Camera
    master_frame: np.ndarray
    fit: FitFile
    head: HeadModel


@dataclass(frozen=True)
class Counter:
    """Progress that several cameras share, and the wish to stop."""

    bar: Bar
    threads: int = 1
    """that each camera may paint in"""
    stop: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def advance(self) -> None:
        """Count one picture; raises CancelledError when the work is to end."""
        if self.stop.is_set():
            raise CancelledError
        with self._lock:
            self.bar.advance(1)


def write_overlay_video(
    job: OverlayJob,
    frames: Iterable[Frame],
    path: Path,
    fps: float,
    counter: Counter,
) -> Path:
    """Write an H.264 video of `frames` with the head drawn on those that have one.

    Args:
        frames: the camera's pictures, in order.
        path: .mp4, written whole or not at all.
        fps: frames per second to write.
    """
    from densefit.capture import VideoWriter

    ensure_out_dir(path.parent)
    with VideoWriter(path, fps, job.source.width, job.source.height) as video:
        for _, picture in painted(job, frames, threads=counter.threads):
            video.write(picture)
            counter.advance()
    return path


def write_overlay_pictures(
    job: OverlayJob, frames: Iterable[Frame], folder: Path, counter: Counter
) -> list[Path]:
    """Write each of `frames` as folder/%06d.png, numbered as in the camera."""
    import cv2

    ensure_out_dir(folder)
    files = []
    for index, picture in painted(job, frames, PHOTO_OPTIONS, counter.threads):
        files.append(folder / f"{index:06d}.png")
        with atomic_path(files[-1]) as temporary:
            cv2.imwrite(str(temporary), picture[..., ::-1])
        counter.advance()
    return files


def run_together(work: Sequence[Callable[[Counter], Path]], total: int) -> list[Path]:
    """Do the cameras' overlays at the same time.

    Painting is made of many small steps, which gain nothing from torch's own threads.

    Args:
        total: pictures of all cameras, for the progress bar.
    Returns:
        What each piece of work returns, in order.
    """
    if not work:
        return []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with progress(total, "overlay") as bar, ThreadPoolExecutor(min(threads, len(work))) as pool:
            counter = Counter(bar, -(-threads // len(work)))
            try:
                return [future.result() for future in [pool.submit(w, counter) for w in work]]
            except BaseException:
                counter.stop.set()  # Ctrl-C or a failure: the other cameras end at their next frame
                raise
    finally:
        torch.set_num_threads(threads)


def painted(
    job: OverlayJob,
    frames: Iterable[Frame],
    options: PainterOptions | None = None,
    threads: int = 1,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frame number in the camera and picture (H, W, 3) uint8 RGB with the head on it.

    A few pictures are painted at a time, and so many of these batches beside one another.
    """
    painter = HeadPainter(job.head, options)
    heads = HeadCache(job.fit, job.head)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[tuple[int, np.ndarray]]]] = deque()
        try:
            for batch in _batches(enumerate(frames)):
                tasks = [(frame, *_head_of(job, heads, position)) for position, frame in batch]
                waiting.append(pool.submit(_paint, painter, tasks))
                if len(waiting) > threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_Task = tuple["Frame", np.ndarray | None, "Camera | None"]


def _batches(frames: Iterator[tuple[int, Frame]]) -> Iterator[list[tuple[int, Frame]]]:
    """Pictures by the eight, of large ones fewer."""
    for first in frames:
        count = max(1, min(BATCH, BATCH_PIXELS // first[1].image[..., 0].size))
        yield [first, *islice(frames, count - 1)]


def _head_of(
    job: OverlayJob, heads: HeadCache, position: int
) -> tuple[np.ndarray | None, Camera | None]:
    """Vertices (V, 3) of the head in a picture, if there is one, and the camera."""
    master = int(job.master_frame[position]) if position < len(job.master_frame) else -1
    if master < 0 or not job.fit.posed[master]:
        return None, None
    return heads.vertices(master), job.camera


def _paint(painter: HeadPainter, tasks: list[_Task]) -> list[tuple[int, np.ndarray]]:
    out = {frame.index: frame.image for frame, _, _ in tasks}
    shown = [
        (frame, vertices, picture_camera(camera, frame.image.shape[1], frame.image.shape[0]))
        for frame, vertices, camera in tasks
        if vertices is not None and camera is not None
    ]
    if shown:
        frames, vertices, cameras = zip(*shown, strict=True)
        images = [frame.image for frame in frames]
        drawn = painter.draw_all(images, np.stack(vertices), cameras)
        out |= {frame.index: picture for frame, picture in zip(frames, drawn, strict=True)}
    return list(out.items())


class HeadCache:
    """World vertices of single frames, computed a chunk at a time because that is faster."""

    def __init__(self, fit: FitFile, head: HeadModel) -> None:
        self._fit, self._head = fit, head
        self._first = -1
        self._chunk = np.zeros((0, 0, 3), np.float32)

    def vertices(self, frame: int) -> np.ndarray:
        """(V, 3) float32, metres, world."""
        first = frame - frame % CHUNK
        if first != self._first:
            numbers = np.arange(first, min(first + CHUNK, self._fit.n_frames))
            _, self._chunk = next(iterate_vertices(self._fit, self._head, numbers))
            self._first = first
        return self._chunk[frame - first]
