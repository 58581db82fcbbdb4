"""The stage `fit-rig`: a take becomes fit.npz, meta.json, rig.yaml, the neutral mesh and overlays.

Each output is written whole. A second run with the same inputs keeps the fit and makes only what
is missing;
with other inputs it refuses, unless told to overwrite.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import Rig, write_rig
from densefit.errors import InputError
from densefit.export.mesh_sequence import ply_writer
from densefit.export.orientation import viewing_axes
from densefit.export.scene import iterate_vertices, neutral_vertices
from densefit.files import ensure_out_dir, read_json, write_text
from densefit.fit_file import FitFile, open_head, read_fit, write_fit
from densefit.fit_inputs import (
    FitInputs,
    changed_inputs,
    check_landmarks,
    gather,
    input_hashes,
    with_unseen_cameras,
)
from densefit.progress import info, progress

if TYPE_CHECKING:
    from densefit.capture import Frame, MasterTimeline, Source, Take
    from densefit.fit import FitOptions, FitResult
    from densefit.head.model import HeadModel
    from densefit.landmarks.files import LandmarkTrack
    from densefit.landmarks.predictor import PredictOptions


@dataclass(frozen=True)
class FitRigOptions:
    """Choices of the stage."""

    predict: PredictOptions
    fit: FitOptions
    model: Path | None = None
    """Head model; None: the shipped one."""
    identity: Path | None = None
    """fit.npz (or its folder) of an earlier take of the same person, whose identity is kept
    fixed."""
    overwrite: bool = False
    """Replace a fit made from other inputs; else that is an error."""
    meshes: bool = False
    """Also write meshes/frame_%06d.ply."""
    overlay: bool = True
    """Draw the head over the footage."""


@dataclass
class FitRigReport:
    """What the stage made, for people and, with --json, for programs."""

    fit: Path
    rig: Path
    neutral: Path
    overlays: list[Path] = field(default_factory=list)
    meshes: Path | None = None
    kept: bool = False
    """The fit of an earlier run was kept."""
    frames: int = 0
    valid_frames: int = 0
    scale: str = ""
    residual_px: dict[str, float | None] = field(default_factory=dict)
    """Median over the frames, by camera."""
    seen_frames: dict[str, int] = field(default_factory=dict)
    focal_px: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_fit_rig(take: Take, out: Path, options: FitRigOptions) -> FitRigReport:
    """Predict landmarks where they are missing, fit all cameras and frames together, write `out`.

    Args:
        take: sources with their rig and timing.
        out: output folder; made if need be.
    Raises:
        InputError: no usable frame, folder not writable, or `out` holds a fit of something else.
    """
    from densefit.capture import master_timeline
    from densefit.landmarks.files import read_landmarks
    from densefit.landmarks.predictor import predict

    out = ensure_out_dir(out)
    clock = _Clock()
    head = open_head(options.model)
    options = _with_identity(take, head, options)
    cameras = {name: take.camera(name) for name in take.sources}
    paths = predict(take, out, options.predict)
    tracks = {name: read_landmarks(paths[name]) for name in take.sources}
    check_landmarks(tracks, head)
    clock.lap("predict")
    timeline = master_timeline(take, {name: track.time for name, track in tracks.items()})
    inputs = gather(tracks, timeline, cameras, _photo_sizes(take, options))
    report = _fit_or_keep(take, out, head, inputs, options)
    clock.lap("fit")
    fit = read_fit(out, head)
    _write_meshes(fit, head, report, options)
    clock.lap("meshes")
    if options.overlay:
        _write_overlays(take, fit, head, timeline, tracks, report, options)
        clock.lap("overlay")
    return _summarize(report, fit, clock)


def _photo_sizes(take: Take, options: FitRigOptions) -> dict[str, list[tuple[int, int]]]:
    """(width, height) of each photo, for the cameras whose pictures may differ in size."""
    return {
        name: [(f.image.shape[1], f.image.shape[0]) for f in _frames(source, options)]
        for name, source in take.sources.items()
        if source.kind == "photos"
    }


def _with_identity(take: Take, head: HeadModel, options: FitRigOptions) -> FitRigOptions:
    known = options.fit.identity
    if options.identity is not None:
        known = read_fit(options.identity, head).identity
    fit = replace(options.fit, identity=known, independent_frames=take.independent_frames)
    return replace(options, fit=fit)


def _fit_or_keep(
    take: Take, out: Path, head: HeadModel, inputs: FitInputs, options: FitRigOptions
) -> FitRigReport:
    """Fit, unless `out` holds the fit of just these inputs."""
    report = FitRigReport(out / "fit.npz", out / "rig.yaml", out / "meshes" / "neutral.ply")
    stated = {f.name: _plain(getattr(options.fit, f.name)) for f in fields(options.fit)}
    hashes = input_hashes(inputs, head, stated)
    if report.fit.is_file() and not options.overwrite:
        earlier = read_json(out / "meta.json") if (out / "meta.json").is_file() else {}
        changed = changed_inputs(earlier.get("inputs"), hashes)
        if changed:
            raise InputError(
                f"{report.fit}: made from other {', '.join(changed)}; choose another folder "
                f"with -o, or replace it "
                "with --overwrite"
            )
        info(f"{report.fit}: kept, nothing has changed")
        report.kept = True
        return report
    _remove_outputs(out)
    result = _solve(head, inputs, options.fit)
    rig = Rig(
        {c.name: c for c in (*result.cameras, *inputs.unseen)}, take.rig.up if take.rig else None
    )
    residual = with_unseen_cameras(result.residual_px, inputs, list(take.sources))
    write_rig(report.rig, rig)
    _write_sync(take, out)
    meta = _meta(take, head, result, residual, rig) | {"options": stated, "inputs": hashes}
    write_fit(out, replace(result, residual_px=residual), meta)
    return report


def _solve(head: HeadModel, inputs: FitInputs, options: FitOptions) -> FitResult:
    from densefit.fit import fit

    frames = len(inputs.observations.time)
    info(f"fit: {frames} frames, {len(inputs.cameras)} cameras")
    return fit(head, inputs.cameras, inputs.observations, options)


def _remove_outputs(out: Path) -> None:
    """What belongs to an earlier fit must not stand beside a new one, not even after Ctrl-C."""
    for pattern in ("fit.npz", "meshes/*.ply", "overlay/*_fit.mp4", "overlay/*_fit/*.png"):
        for path in out.glob(pattern):
            path.unlink()


def _write_sync(take: Take, out: Path) -> None:
    """out/sync.yaml in the words of take.yaml, where there is more than one clock."""
    if len(take.sources) < 2:
        return
    lines = ["# t_master = rate * t_camera + offset, seconds", "offsets:"]
    lines += [f"  {name}: {float(take.offsets.get(name, 0.0))!r}" for name in take.sources]
    lines += ["clock_rates:"]
    lines += [f"  {name}: {float(take.clock_rates.get(name, 1.0))!r}" for name in take.sources]
    write_text(out / "sync.yaml", "\n".join(lines) + "\n")


def _meta(
    take: Take, head: HeadModel, result: FitResult, residual_px: np.ndarray, rig: Rig
) -> dict[str, Any]:
    from densefit.fit_file import UNITS

    names = list(take.sources)
    return {
        "model": {"name": head.name, "sha256": head.sha256},
        "landmarks_version": head.landmarks_version,
        "take": take.name,
        "cameras": names,
        "expression_names": list(head.expression_names),
        "units": UNITS,
        "scale": result.scale,
        "fps": _fps(take, result.time),
        "up": viewing_axes(rig)[0].tolist(),
        "independent_frames": take.independent_frames,
        "residual_px": {name: _median(residual_px[:, c]) for c, name in enumerate(names)},
        "energy": float(result.energy),
        "iterations": int(result.iterations),
        "versions": _versions(),
    }


def _fps(take: Take, seconds: np.ndarray) -> float:
    """Of the master timeline; independent pictures have no rate and are shown one a second."""
    if take.independent_frames or len(seconds) < 2:
        return 1.0
    step = float(np.median(np.diff(seconds)))
    return round(1 / step, 6) if step > 0 else 1.0


def _versions() -> dict[str, str]:
    import torch

    import densefit

    return {
        "densefit": densefit.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def _write_meshes(
    fit: FitFile, head: HeadModel, report: FitRigReport, options: FitRigOptions
) -> None:
    folder = ensure_out_dir(report.neutral.parent)
    write = ply_writer(head)
    if not report.neutral.is_file():
        write(report.neutral, neutral_vertices(fit, head))
    if not options.meshes:
        return
    report.meshes = folder
    wanted = np.flatnonzero(fit.posed)
    missing = np.array(
        [t for t in wanted if not (folder / f"frame_{t:06d}.ply").is_file()], np.int64
    )
    with progress(len(missing), "meshes") as bar:
        for numbers, vertices in iterate_vertices(fit, head, missing):
            for number, mesh in zip(numbers, vertices, strict=True):
                write(folder / f"frame_{number:06d}.ply", mesh)
            bar.advance(len(numbers))


def _write_overlays(
    take: Take,
    fit: FitFile,
    head: HeadModel,
    timeline: MasterTimeline,
    tracks: dict[str, LandmarkTrack],
    report: FitRigReport,
    options: FitRigOptions,
) -> None:
    from densefit.report.overlay import OverlayJob, write_overlay_pictures, write_overlay_video

    rig = _fitted_rig(report.rig)
    folder = report.fit.parent / "overlay"
    for column, (name, source) in enumerate(take.sources.items()):
        camera = rig.cameras[name]
        if camera.K is None or camera.T_camera_world is None:
            continue  # never saw a head, so nothing is known of it
        master = master_frames(timeline.index[:, column], len(tracks[name].time))
        job = OverlayJob(source, camera, master)
        frames = _frames(source, options)
        if source.kind in ("photo", "photos"):
            pictures = folder / f"{name}_fit"
            if len(list(pictures.glob("*.png"))) < len(master):
                write_overlay_pictures(job, frames, fit, head, pictures)
            report.overlays.append(pictures)
            continue
        path = folder / f"{name}_fit.mp4"
        if not path.is_file():
            fps = source.fps / options.predict.every
            write_overlay_video(job, frames, fit, head, path, fps)
        report.overlays.append(path)


def _frames(source: Source, options: FitRigOptions) -> Iterator[Frame]:
    """The pictures that were predicted on, in the same order."""
    from densefit.capture import open_frames

    chosen = options.predict
    return open_frames(source, chosen.start, chosen.end, chosen.every)


def master_frames(index: np.ndarray, n_frames: int) -> np.ndarray:
    """Turn a camera's column of the master timeline round.

    Args:
        index: (T,) camera frame of each master frame, -1 if none.
        n_frames: T_c, frames of the camera.
    Returns:
        (T_c,) int64: master frame of each camera frame, -1 if none.
    """
    master = np.full(n_frames, -1, np.int64)
    used = np.flatnonzero(index >= 0)
    # Backwards, so that the first of several master frames wins.
    master[index[used[::-1]]] = used[::-1]
    return master


def _fitted_rig(path: Path) -> Rig:
    from calibration import read_rig

    return read_rig(path)


def _summarize(report: FitRigReport, fit: FitFile, clock: _Clock) -> FitRigReport:
    rig = _fitted_rig(report.rig)
    names = fit.meta["cameras"]
    report.frames = fit.n_frames
    report.valid_frames = int(fit.valid.sum())
    report.scale = fit.meta["scale"]
    report.residual_px = {name: _median(fit.residual_px[:, c]) for c, name in enumerate(names)}
    report.seen_frames = {
        name: int(np.isfinite(fit.residual_px[:, c]).sum()) for c, name in enumerate(names)
    }
    report.focal_px = {n: float(c.K[0, 0]) for n, c in rig.cameras.items() if c.K is not None}
    report.seconds = clock.laps
    return report


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _plain(value: Any) -> Any:
    """Options as JSON can hold them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class _Clock:
    """Seconds that each part of the stage took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def camera_table(report: FitRigReport) -> Iterator[str]:
    """One line a camera, for people."""
    for name, residual in report.residual_px.items():
        share = f"{report.seen_frames[name]} of {report.frames} frames"
        fitted = "no head" if residual is None else f"residual {residual:.2f} px"
        focal = f", focal {report.focal_px[name]:.0f} px" if name in report.focal_px else ""
        yield f"  {name}: {share}, {fitted}{focal}"
