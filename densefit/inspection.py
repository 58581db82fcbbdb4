"""The whole picture of a take before any long work: cameras, clocks, and what it will cost."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densefit.capture.describe import RecordingFacts, describe
from densefit.errors import InputError
from densefit.input_files import shared_recordings

if TYPE_CHECKING:
    from densefit.capture import MasterTimeline, Take
    from densefit.landmarks.predictor import PredictOptions

# Seconds that the trial of each camera's decoder may take.
_TRIAL_SECONDS = 0.6
_TRIAL_FRAMES = 48
# The best of some tries counts: the others shared the machine.
_TRIALS = 3

# Measured on two cores with AVX2 (60 to 448 frames of one camera, 512 x 512): frames that the fit
# solves a second, and pictures of that size that are drawn a second on overlay and mosaic, while
# the networks there did 200 crops a second. Other machines are taken to be faster or slower by the
# same factor in all.
_FIT_RATE, _OVERLAY_RATE, _NETWORK_RATE = 60.0, 50.0, 200.0
# s there, however short the take: loading libraries, networks and head; a first fit; the search for
# an unknown focal length; report and neutral mesh.
_LOAD_SECONDS, _FIT_SECONDS, _FOCAL_SECONDS, _REPORT_SECONDS = 2.0, 0.5, 3.0, 4.0
# Finding faces and cutting crops, beside the network.
_AROUND_NETWORK = 1.7

# Resident memory: interpreter, libraries and networks, MB; bytes per picture that is solved
# jointly, and per frame of the whole take.
_BASE_MB = 720.0
_FIT_BYTES_PER_VIEW = 703 * 3 * 4 * 8
_FIT_BYTES_PER_FRAME = 39_000


@dataclass(frozen=True)
class CameraReport:
    """One camera; times in seconds on its own clock."""

    path: Path
    kind: str
    codec: str
    pixel_format: str
    width: int
    height: int
    remarks: tuple[str, ...]
    frames: int
    chosen_frames: int
    """within --start, --end and --every"""
    fps: float
    variable_rate: bool
    dropped: int
    longest_gap: float
    start_time: float
    duration: float
    timecode: str | None
    offset: float
    clock_rate: float
    calibration: str
    """K and pose | K only | none, and whether K was scaled to another size"""
    work: str
    """to do | finished | N frames done"""


@dataclass(frozen=True)
class Estimate:
    """What the work will cost, roughly."""

    predict_seconds: float
    fit_seconds: float
    overlay_seconds: float
    memory_mb: float
    disk_mb: float


@dataclass(frozen=True)
class TakeReport:
    """A take before the work."""

    name: str
    cameras: dict[str, CameraReport]
    sync: str
    """what tells which frames belong together, `auto` resolved"""
    master_frames: int
    complete_frames: int
    """master frames that all cameras have"""
    master_fps: float
    estimate: Estimate | None = None
    remarks: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect_take(
    take: Take,
    options: PredictOptions | None = None,
    out: Path | None = None,
    fit: bool = True,
    measure: bool = True,
) -> TakeReport:
    """Read what all recordings tell, match their clocks, and try how fast they can be worked on.

    Args:
        take: opened recordings.
        options: which frames, which weights.
        out: output folder, to say what is done already; nothing is written there.
        fit: estimate the fit too, not only the landmarks.
        measure: estimate the cost; decodes some pictures and runs the network.
    Raises:
        InputError: clocks that cannot be related; `out` holds work on other inputs.
    """
    from densefit.capture.timeline import chosen_sync, master_timeline
    from densefit.landmarks.predictor import PredictOptions

    options = options or PredictOptions()
    facts = {name: describe(source) for name, source in take.sources.items()}
    chosen = {name: _chosen(fact, options) for name, fact in facts.items()}
    line = master_timeline(take, chosen)
    done = _work_done(take, options, out)
    cameras = {
        name: _camera(take, fact, len(chosen[name]), done[name]) for name, fact in facts.items()
    }
    steps = np.diff(line.time)
    return TakeReport(
        name=take.name,
        cameras=cameras,
        sync=chosen_sync(take),
        master_frames=len(line.time),
        complete_frames=int((line.index >= 0).all(axis=1).sum()),
        master_fps=float(1 / np.median(steps)) if len(steps) else 0.0,
        estimate=_estimate(take, options, chosen, line, done, fit) if measure else None,
        remarks=_remarks(take, cameras, line),
    )


def _chosen(facts: RecordingFacts, options: PredictOptions) -> np.ndarray:
    """Times (N,) of the frames within the range. InputError when there are none."""
    from densefit.capture.frames import frame_choice

    wanted = frame_choice(facts.source, options.start, options.end, options.every)
    times = []
    for index, moment in enumerate(facts.times):
        take = wanted(index, float(moment))
        if take is None:
            break
        if take:
            times.append(moment)
    if not times:
        raise InputError(
            f"{facts.source.path}: no frame in the chosen range; check --start and --end"
        )
    return np.array(times)


def _work_done(take: Take, options: PredictOptions, out: Path | None) -> dict[str, int | None]:
    """Frames of each camera whose landmarks are there; None for all of them."""
    if out is None or not out.is_dir():
        return dict.fromkeys(take.sources, 0)
    from densefit.landmarks.jobs import make_writers

    # Only parts and jobs are looked at, so the version does not matter.
    writers = make_writers(take, out, options, landmarks_version="")
    for writer in writers.values():
        writer.check()
    return {name: None if w.finished else w.frames_done for name, w in writers.items()}


def _camera(take: Take, facts: RecordingFacts, chosen: int, done: int | None) -> CameraReport:
    source, rhythm = facts.source, facts.rhythm
    still = source.kind in ("photo", "photos")
    return CameraReport(
        path=source.path,
        kind=source.kind,
        codec=facts.codec,
        pixel_format=facts.pixel_format,
        width=source.width,
        height=source.height,
        remarks=facts.remarks,
        frames=len(facts.times),
        chosen_frames=chosen,
        fps=0.0 if still else rhythm.fps,
        variable_rate=rhythm.variable,
        dropped=rhythm.dropped,
        longest_gap=rhythm.longest,
        start_time=source.start_time,
        duration=source.duration,
        timecode=None if source.timecode is None else clock_text(source.timecode),
        offset=take.offsets.get(source.name, 0.0),
        clock_rate=take.clock_rates.get(source.name, 1.0),
        calibration=_calibration(take, source.name),
        work="finished" if done is None else f"{done} frames done" if done else "to do",
    )


def _calibration(take: Take, name: str) -> str:
    camera = take.camera(name)
    if camera.K is None:
        return "none" if camera.T_camera_world is None else "pose only"
    text = "K only" if camera.T_camera_world is None else "K and pose"
    stated = take.rig.cameras[name] if take.rig else camera
    if (stated.width, stated.height) != (camera.width, camera.height):
        text += f", scaled from {stated.width}x{stated.height}"
    return text


def clock_text(seconds: float) -> str:
    """Seconds of the day as HH:MM:SS.mmm."""
    total = round(seconds * 1000)
    return (
        f"{total // 3600000:02d}:{total // 60000 % 60:02d}:{total // 1000 % 60:02d}"
        f".{total % 1000:03d}"
    )


def _remarks(
    take: Take, cameras: Mapping[str, CameraReport], line: MasterTimeline
) -> tuple[str, ...]:
    """What a person should look at before the work."""
    found = [f"{one} and {two}: the same recording" for one, two in shared_recordings(take)]
    for name, camera in cameras.items():
        if camera.dropped:
            found.append(
                f"{name}: {camera.dropped} frames dropped, longest gap {camera.longest_gap:.2f} s"
            )
        if camera.variable_rate:
            found.append(f"{name}: variable frame rate, {camera.fps:.2f} frames/s mostly")
    for column, name in enumerate(line.cameras):
        used = int((line.index[:, column] >= 0).sum())
        if used < cameras[name].chosen_frames:
            found.append(
                f"{name}: {cameras[name].chosen_frames - used} frames have no place of their own "
                "on the master timeline"
            )
        if len(line.cameras) > 1 and used < 0.5 * len(line.time):
            found.append(
                f"{name}: has a frame at {used} of {len(line.time)} master frames only; check "
                "sync and offsets"
            )
    if len(line.cameras) > 1 and len(line.time) and not (line.index >= 0).all(axis=1).any():
        found.append("at no moment do all cameras have a frame; check sync and offsets")
    return tuple(found)


def _estimate(
    take: Take,
    options: PredictOptions,
    chosen: Mapping[str, np.ndarray],
    line: MasterTimeline,
    done: Mapping[str, int | None],
    fit: bool,
) -> Estimate:
    """Try decoder and network, and reckon."""
    todo = {name: len(chosen[name]) - (n or 0) for name, n in done.items() if n is not None}
    decode = {name: _decode_rate(take, name) for name in chosen}
    network = _network_rate(options, len(chosen))
    # A picture that --every leaves out is decoded all the same.
    decoding = max((options.every * n / decode[name] for name, n in todo.items()), default=0.0)
    scale = network / _NETWORK_RATE
    views, frames = sum(map(len, chosen.values())), len(line.time)
    pixels = [s.width * s.height for s in take.sources.values()]
    # Each camera holds two blocks of pictures, and its decoder's threads hold more.
    pictures = sum(p * 3 * (8 + (os.cpu_count() or 1)) for p in pixels)
    fit_bytes = _fit_bytes(frames, len(chosen)) if fit else 0
    unknown = any(take.camera(name).K is None for name in chosen)
    solving = _FIT_SECONDS + _FOCAL_SECONDS * unknown + frames / _FIT_RATE
    overlay = sum(
        len(chosen[name]) * (s.width * s.height / 512**2 + 1) / 2
        for name, s in take.sources.items()
    )
    return Estimate(
        predict_seconds=_LOAD_SECONDS / scale
        + max(decoding, _AROUND_NETWORK * sum(todo.values()) / network),
        fit_seconds=solving / scale if fit else 0.0,
        overlay_seconds=(_REPORT_SECONDS * fit + overlay / _OVERLAY_RATE) / scale
        if fit or options.overlay
        else 0.0,
        memory_mb=_BASE_MB + (pictures + fit_bytes) / 1e6,
        disk_mb=views * 703 * 3 * 4 / 1e6,
    )


def _fit_bytes(frames: int, cameras: int) -> float:
    """What the fit holds at most: a joint solve or a window, and the motion of all frames."""
    from densefit.fit.options import FitOptions

    joint = min(frames, FitOptions().joint_frames)
    return _FIT_BYTES_PER_VIEW * joint * cameras + _FIT_BYTES_PER_FRAME * frames


def _decode_rate(take: Take, name: str) -> float:
    """Frames a second that this camera's recording can be decoded with."""
    from densefit.capture import open_frames

    begin = time.monotonic()
    count = 0
    for _ in open_frames(take.sources[name], end=_TRIAL_FRAMES):
        count += 1
        if time.monotonic() - begin > _TRIAL_SECONDS:
            break
    return count / max(time.monotonic() - begin, 1e-6)


def _network_rate(options: PredictOptions, cameras: int = 1) -> float:
    """Crops a second through the landmark networks, as many at once as a take of so many cameras
    gives them."""
    from densefit.landmarks.predictor import block_frames, make_tracker
    from densefit.model_file import open_head

    tracker = make_tracker(open_head(options.model), options)
    crops = block_frames(cameras) * cameras
    pictures = [np.full((256, 256, 3), 128, np.uint8)] * crops
    places = np.tile([128.0, 128.0, 200.0, 0.0], (crops, 1))
    looks = [looker for looker in (tracker.face, tracker.closeup) if looker is not None]
    seconds = 0.0
    for looker in looks:
        looker.look(pictures, places, crops)  # the first call sets things up
        tries = []
        for _ in range(_TRIALS):
            begin = time.monotonic()
            looker.look(pictures, places, crops)
            tries.append(time.monotonic() - begin)
        seconds += min(tries)
    return crops / max(seconds, 1e-6)
