"""The predict stage: recordings in, landmarks/<camera>.npz out.

All cameras go forward together, a few frames at a time, so that one call of the network serves the
whole rig. The blocks are cut at fixed frame numbers: results depend neither on the number of
threads nor on where an earlier run was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densefit.errors import InputError, UsageError
from densefit.files import ensure_out_dir
from densefit.landmarks.files import PART_FRAMES, PartWriter
from densefit.progress import Bar, info, progress, warn

if TYPE_CHECKING:
    from densefit.capture import Frame, Source, Take
    from densefit.landmarks.tracker import FaceTracker, Sighting

# Frames of each camera that share one guess of where the face is. Divides PART_FRAMES.
BLOCK_FRAMES = 4
assert PART_FRAMES % BLOCK_FRAMES == 0


@dataclass(frozen=True)
class PredictOptions:
    """How to predict."""

    device: str = "auto"
    """auto, cpu or cuda"""
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
    quality: str = "fast"
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
    Raises InputError when no camera shows a face in any frame, when weights do not suit the head
    model, or when `out` cannot be written.
    """
    from densefit.head import load_head

    folder = ensure_out_dir(ensure_out_dir(out) / "landmarks")
    head = load_head(options.model)
    writers = {
        name: PartWriter(folder, name, head.landmarks_version, _job(source, options))
        for name, source in take.sources.items()
    }
    if options.overwrite:
        for writer in writers.values():
            writer.discard()
            writer.path.unlink(missing_ok=True)
            writer.parts.mkdir(parents=True, exist_ok=True)
    todo = {name: take.sources[name] for name, writer in writers.items() if not writer.finished}
    if todo:
        tracker = _make_tracker(head, options)
        _run(todo, writers, tracker, options)
    paths = {name: writer.path for name, writer in writers.items()}
    _report(paths, take)
    if options.overlay:
        from densefit.landmarks.overlay import write_overlays

        write_overlays(take, paths, out / "overlay", options)
    return paths


def resolve_device(device: str) -> str:
    """auto -> cuda where there is one, else cpu. InputError when cuda is asked for in vain."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this PyTorch finds no CUDA device; use --device cpu")
    return device


def _make_tracker(head: Any, options: PredictOptions) -> FaceTracker:
    import torch

    from densefit.landmarks.tracker import FaceChoice, TrackOptions, load_tracker
    from densefit.memory import keep_freed_memory

    keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    face, closeup = _weights(options)
    try:
        choice = TrackOptions(face=FaceChoice.parse(options.face))
    except ValueError as error:
        raise UsageError(f"--face {error}") from error
    return load_tracker(head, resolve_device(options.device), face, closeup, choice)


def _weights(options: PredictOptions) -> tuple[Path, Path | None]:
    """Files of the network for whole faces and of the close-up, None where there is none."""
    from densefit.landmarks.weights import CLOSEUP_WEIGHTS, LANDMARK_WEIGHTS

    chosen = options.weights
    if chosen is not None and not chosen.is_dir():
        return chosen, None
    folder = chosen or LANDMARK_WEIGHTS.parent
    high = options.quality == "high"
    return folder / LANDMARK_WEIGHTS.name, folder / CLOSEUP_WEIGHTS.name if high else None


def _job(source: Source, options: PredictOptions) -> dict[str, Any]:
    """What must be equal for earlier work on a camera to be still good."""
    from densefit.landmarks.weights import DETECTOR_WEIGHTS

    files = source.files or (source.path,)
    stamps = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()
    weights = [w for w in (*_weights(options), DETECTOR_WEIGHTS) if w is not None]
    return {
        "source": digest,
        "kind": source.kind,
        "range": [options.start, options.end, options.every],
        "face": options.face,
        "weights": [hashlib.sha256(w.read_bytes()).hexdigest() for w in weights if w.exists()],
    }


class _Camera:
    """One camera on its way through the recording."""

    def __init__(self, source: Source, writer: PartWriter, options: PredictOptions) -> None:
        from densefit.capture import open_frames

        self.source, self.writer = source, writer
        self.separate = source.kind in ("photo", "photos")
        self.last_xy = None if self.separate else writer.last_xy()
        self._frames: Iterator[Frame] = open_frames(
            source,
            options.start,
            options.end,
            options.every,
            threads=options.threads or 0,
            skip=writer.frames_done,
        )

    def next_block(self) -> list[Frame]:
        """The next few frames; none at the end."""
        return list(islice(self._frames, BLOCK_FRAMES))

    def write(self, frames: list[Frame], sightings: list[Sighting | None], count: int) -> None:
        """Store a block, and remember where the face was."""
        for frame, sighting in zip(frames, sightings, strict=True):
            if sighting is None:
                nothing = np.zeros((count, 2), np.float32)
                self.writer.add(nothing, nothing[:, 0], frame.time, None)
            else:
                self.writer.add(sighting.xy, sighting.sigma, frame.time, sighting.roi)
        last = sightings[-1]
        self.last_xy = None if last is None or self.separate else last.xy


def _run(
    sources: dict[str, Source],
    writers: dict[str, PartWriter],
    tracker: FaceTracker,
    options: PredictOptions,
) -> None:
    """Take all cameras through their recordings, block by block; decode one block ahead."""
    cameras = {name: _Camera(source, writers[name], options) for name, source in sources.items()}
    estimate = sum(s.n_frames_estimate for s in sources.values())
    whole = options.start is None and options.end is None and options.every == 1
    with ExitStack() as stack:
        bar = stack.enter_context(
            progress(estimate if whole and estimate else None, "predict", "frames")
        )
        pool = stack.enter_context(ThreadPoolExecutor(max(1, min(4, len(cameras)))))
        coming = {name: pool.submit(camera.next_block) for name, camera in cameras.items()}
        while coming:
            blocks = {name: future.result() for name, future in coming.items()}
            for name in [n for n, block in blocks.items() if not block]:
                _finish(cameras.pop(name))
                del blocks[name]
            coming = {name: pool.submit(cameras[name].next_block) for name in blocks}
            _do_block(cameras, blocks, tracker, bar)


def _finish(camera: _Camera) -> None:
    """Join a camera's parts."""
    if camera.writer.empty:
        raise InputError(
            f"{camera.source.path}: no frame in the chosen range; check --start and --end"
        )
    camera.writer.finish()


def _do_block(
    cameras: dict[str, _Camera],
    blocks: dict[str, list[Frame]],
    tracker: FaceTracker,
    bar: Bar,
) -> None:
    """One block of every camera: those that know where the face is follow it, the others look."""
    following = [n for n in blocks if cameras[n].last_xy is not None]
    looking = [n for n in blocks if cameras[n].last_xy is None]
    sightings: dict[str, list[Sighting | None]] = {}
    pictures = [frame.image for name in following for frame in blocks[name]]
    places = [cameras[name].last_xy for name in following for _ in blocks[name]]
    found = iter(tracker.follow(pictures, places) if pictures else [])  # type: ignore[arg-type]
    for name in following:
        sightings[name] = list(islice(found, len(blocks[name])))
    pictures = [frame.image for name in looking for frame in blocks[name]]
    found = iter(tracker.find(pictures) if pictures else [])
    for name in looking:
        sightings[name] = list(islice(found, len(blocks[name])))
    for name, frames in blocks.items():
        cameras[name].write(frames, sightings[name], len(tracker.layout.mirror))
        bar.advance(len(frames))


def _report(paths: dict[str, Path], take: Take) -> None:
    """Say how many frames have a face; a camera without one is a warning, all of them an error."""
    valid = {}
    for name, path in paths.items():
        # Only this array: a long take's landmarks need not fit into memory.
        with np.load(path, allow_pickle=False) as track:
            seen = track["valid"]
        valid[name] = int(seen.sum())
        if valid[name]:
            info(f"{name}: face in {valid[name]} of {len(seen)} frames")
    for name, count in valid.items():
        if not count and any(valid.values()):
            warn(f"{take.sources[name].path}: no face in any frame of camera '{name}'")
    if not any(valid.values()):
        files = ", ".join(str(source.path) for source in take.sources.values())
        raise InputError(
            f"{files}: no face found in any frame; faces need to be at least 40 pixels wide and"
            " upright"
        )
