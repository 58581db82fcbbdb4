"""The predict stage: recordings in, landmarks/<camera>.npz out.

All cameras go forward together, a few frames at a time, so that one call of the network serves the
whole rig. The blocks are cut at fixed frame numbers: results depend neither on the number of
threads nor on where an earlier run was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densefit.errors import InputError, UsageError
from densefit.files import ensure_out_dir, read_npz_array
from densefit.landmarks.files import PART_FRAMES, PartWriter
from densefit.landmarks.jobs import make_writers, precision_of_run, resolve_device, weights_of
from densefit.progress import Bar, detail, info, progress, warn

if TYPE_CHECKING:
    from densefit.capture import Frame, Source, Take
    from densefit.landmarks.follow import Trail
    from densefit.landmarks.look import Sighting
    from densefit.landmarks.tracker import FaceTracker


_LARGE = 4_000_000
"""Pixels of a picture that is not kept by the dozen."""
_BRISK = 20.0
"""Frames a second of which 16 are short enough a time for a face to stay about where it is."""


def block_frames(cameras: int, pixels: int = 0, rate: float = 30.0) -> int:
    """Frames of each of so many cameras that share one guess of where the face is.

    pixels: of the largest picture; rate: frames a second that are used. Large batches are faster (a
    third of the time a frame, 16 instead of 4 on two cores), but faces move, and pictures take
    memory.
    """
    many = cameras == 1 and pixels < _LARGE and rate >= _BRISK
    frames = 16 if many else 8 if cameras <= 2 else 4
    assert PART_FRAMES % frames == 0
    return frames


@dataclass(frozen=True)
class PredictOptions:
    """How to predict."""

    device: str = "auto"
    """auto, cpu or cuda"""
    precision: str = "auto"
    """what the networks run in: float32, bfloat16, int8, or auto for the fastest on this machine;
    work that was begun in one goes on in it"""
    threads: int | None = None
    """CPU threads; None for all cores"""
    seed: int = 0
    """kept for reports: nothing in this stage is random"""
    start: str | None = None
    """first frame: number or seconds ("4.5s")"""
    end: str | None = None
    """frame to stop before"""
    every: int = 1
    """use every n-th frame"""
    quality: str = "high"
    """fast: one look at each frame; high: a close-up from the brows to the lower lip too"""
    face: str = "largest"
    """which of several faces: largest, left, right (of the picture), or "track N", N-th by size"""
    weights: Path | None = None
    """other weights than the shipped ones: a folder as `densefit train` leaves it, or one file for
    whole faces, which is then used without a close-up"""
    model: Path | None = None
    """other head model than the shipped one (the weights must be trained for its landmarks)"""
    overlay: bool = False
    """also write overlay/<camera>.mp4"""
    overwrite: bool = False
    """redo cameras that are finished"""


def predict(take: Take, out: Path, options: PredictOptions = PredictOptions()) -> dict[str, Path]:
    """Landmarks of all cameras of a take.

    Returns the camera's file by name, in the take's order. Cameras finished by an earlier run with
    the same options are kept; an interrupted one goes on after its last complete part.
    Raises InputError when a recording has no frame in the chosen range, when no camera shows a face
    in any frame, when weights do not suit the head model, when `out` cannot be written, when it
    holds landmarks of other recordings, frames or weights and `overwrite` is not set, or when an
    overlay would replace a recording.
    """
    from densefit.capture import check_range
    from densefit.head import load_head
    from densefit.landmarks.overlay import check_overlays, warn_of_older_overlays, write_overlays

    for source in take.sources.values():
        check_range(source, options.start, options.end)
    if options.overlay:
        check_overlays(take, out / "overlay")
    ensure_out_dir(ensure_out_dir(out) / "landmarks")
    head = load_head(options.model)
    writers = make_writers(take, out, options, head.landmarks_version)
    for writer in writers.values():
        writer.check()
    for name in [n for n, writer in writers.items() if writer.finished]:
        detail(f"{writers[name].path}: kept, nothing has changed")
    found_before = all(writer.finished for writer in writers.values())
    if not found_before:
        options = replace(options, precision=precision_of_run(writers))
        detail(f"predicting on {resolve_device(options.device)} in {options.precision}")
        tracker = make_tracker(head, options)
        try:
            _run(take.sources, writers, tracker, options)
        finally:
            tracker.close()
    paths = {name: writer.path for name, writer in writers.items()}
    _report(paths, take)
    if options.overlay:
        write_overlays(take, paths, out / "overlay", options)
    elif not found_before:
        warn_of_older_overlays(take, paths, out / "overlay")
    return paths


def make_tracker(head: Any, options: PredictOptions) -> FaceTracker:
    """The networks as the options want them; InputError if weights are missing or unsuitable."""
    import torch

    from densefit.landmarks.choice import FaceChoice
    from densefit.landmarks.tracker import TrackOptions, load_tracker
    from densefit.memory import keep_freed_memory

    keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    face, closeup = weights_of(options)
    try:
        choice = TrackOptions(face=FaceChoice.parse(options.face))
    except ValueError as error:
        raise UsageError(f"--face {error}") from error
    device = resolve_device(options.device)
    return load_tracker(head, device, face, closeup, choice, options.precision)


class _Camera:
    """One camera on its way through the recording."""

    def __init__(
        self,
        source: Source,
        writer: PartWriter,
        options: PredictOptions,
        start: int,
        block: int,
        decoder_threads: int,
    ) -> None:
        """start: how many of the chosen frames to pass over; earlier runs have done them.

        block: frames at a time; decoder_threads: each holds a picture or two.
        """
        from densefit.capture import open_frames
        from densefit.landmarks.follow import Trail

        self.source, self.writer, self.start, self._block = source, writer, start, block
        # Frames that are done already are only shown to the network beside those of others.
        self._repeated = len(writer) - start
        if not writer.finished:
            writer.open()
        self.separate = source.kind in ("photo", "photos")
        known = 0 if self.separate else min(start, 1)  # one frame more, to see who is in it
        self._frames: Iterator[Frame] = open_frames(
            source,
            options.start,
            options.end,
            options.every,
            threads=decoder_threads,
            skip=start - known,
        )
        before = next(self._frames, None) if known else None
        self.trail = Trail()
        if before is not None:
            self.trail = Trail.of(writer.trail_before(start), before.image)

    def next_block(self) -> list[Frame]:
        """The next few frames; none at the end."""
        return list(islice(self._frames, self._block))

    def write(
        self, frames: list[Frame], sightings: list[Sighting | None], trail: Trail, count: int
    ) -> None:
        """Store a block of `count` landmarks a frame, and what is known after it."""
        self.trail = trail
        self.writer.trail = trail.arrays()
        for frame, sighting in zip(frames, sightings, strict=True):
            if self._repeated > 0:
                self._repeated -= 1
            elif sighting is None:
                nothing = np.zeros((count, 2), np.float32)
                self.writer.add(nothing, nothing[:, 0], frame.time, None)
            else:
                self.writer.add(sighting.xy, sighting.sigma, frame.time, sighting.roi)


def _where_they_stopped(
    sources: Mapping[str, Source], writers: Mapping[str, PartWriter], options: PredictOptions
) -> dict[str, _Camera]:
    """The cameras that have something to do, all at the same frame.

    An interrupted run may have stopped between the parts of two cameras. What a network says of a
    picture depends a little, by rounding, on how many others it sees with it; so all cameras go
    back to where the last of them stands, and the pictures meet as if nothing had happened. That
    may concern cameras that have finished since.
    """
    start = min(len(writer) for writer in writers.values() if not writer.finished)
    # All cameras' decoders together have the machine's threads, so that memory does not grow with
    # the number of cameras times that of threads.
    threads = max(1, (options.threads or os.cpu_count() or 1) // len(sources))
    pixels = max(source.width * source.height for source in sources.values())
    rate = min(source.fps for source in sources.values()) / options.every
    block = block_frames(len(sources), pixels, rate)
    cameras = {}
    for name, source in sources.items():
        done = len(writers[name])
        if not writers[name].finished or start < done < start + PART_FRAMES + block:
            cameras[name] = _Camera(source, writers[name], options, start, block, threads)
    return cameras


def _run(
    sources: Mapping[str, Source],
    writers: Mapping[str, PartWriter],
    tracker: FaceTracker,
    options: PredictOptions,
) -> None:
    """Take all cameras through their recordings, block by block; decode one block ahead."""
    cameras = _where_they_stopped(sources, writers, options)
    with ExitStack() as stack:
        bars = {
            name: stack.enter_context(progress(_estimate(camera, options), f"predict {name}"))
            for name, camera in cameras.items()
        }
        pool = stack.enter_context(ThreadPoolExecutor(max(1, min(4, len(cameras)))))
        coming = {name: pool.submit(camera.next_block) for name, camera in cameras.items()}
        while coming:
            blocks = {name: future.result() for name, future in coming.items()}
            for name in [n for n, block in blocks.items() if not block]:
                _finish(cameras.pop(name))
                del blocks[name]
            coming = {name: pool.submit(cameras[name].next_block) for name in blocks}
            _do_block(cameras, blocks, tracker, bars)


def _estimate(camera: _Camera, options: PredictOptions) -> int | None:
    """Frames that are still to be done, where the recording says how many it has."""
    whole = options.start is None and options.end is None
    frames = -(-camera.source.n_frames_estimate // options.every) - camera.start
    return frames if whole and frames > 0 else None


def _finish(camera: _Camera) -> None:
    """Join a camera's parts."""
    if camera.writer.finished:
        return
    if camera.writer.empty:
        raise InputError(
            f"{camera.source.path}: no frame in the chosen range; check --start and --end"
        )
    camera.writer.finish()


def _do_block(
    cameras: dict[str, _Camera],
    blocks: dict[str, list[Frame]],
    tracker: FaceTracker,
    bars: dict[str, Bar],
) -> None:
    """One block of every camera: films are followed, photos looked at one by one."""
    pictures = {name: [frame.image for frame in frames] for name, frames in blocks.items()}
    films = {name: some for name, some in pictures.items() if not cameras[name].separate}
    before = {name: cameras[name].trail for name in blocks}
    sightings, trails = tracker.follow(films, {name: before[name] for name in films})
    photos = {name: some for name, some in pictures.items() if cameras[name].separate}
    sightings |= _find(tracker, photos)
    for name, frames in blocks.items():
        trail = trails.get(name, before[name])
        cameras[name].write(frames, sightings[name], trail, len(tracker.layout.mirror))
        bars[name].advance(len(frames))


def _find(
    tracker: FaceTracker, photos: dict[str, list[np.ndarray]]
) -> dict[str, list[Sighting | None]]:
    """Each camera's pictures, searched one by one."""
    shown = [picture for some in photos.values() for picture in some]
    seen = iter(tracker.find(shown) if shown else [])
    return {name: list(islice(seen, len(some))) for name, some in photos.items()}


FEW = 0.1
"""Share of a recording's frames with a face below which it is said that there are few."""


def _report(paths: dict[str, Path], take: Take) -> None:
    """Say how many frames have a face; hardly any is a warning, none in any camera an error."""
    valid, few = {}, []
    for name, path in paths.items():
        # Only this array: a long take's landmarks need not fit into memory.
        seen = read_npz_array(path, "valid")
        valid[name] = int(seen.sum())
        if valid[name]:
            info(f"{name}: face in {valid[name]} of {len(seen)} frames")
        if 0 < valid[name] < FEW * len(seen):
            few.append(name)
    for name, count in valid.items():
        if not count and any(valid.values()):
            warn(f"{take.sources[name].path}: no face in any frame of camera '{name}'")
    for name in few:
        warn(
            f"{take.sources[name].path}: hardly a frame of camera '{name}' has a face; faces need "
            "to be upright and at least 40 pixels wide"
        )
    if not any(valid.values()):
        files = ", ".join(str(source.path) for source in take.sources.values())
        raise InputError(
            f"{files}: no face found in any frame; faces need to be at least 40 pixels wide and"
            " upright"
        )
