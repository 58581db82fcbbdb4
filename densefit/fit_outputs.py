"""What `fit-rig` leaves beside fit.npz: meshes, overlays, and the report to the user."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import read_rig
from densefit.errors import QualityError
from densefit.export.mesh_sequence import ply_writer
from densefit.export.scene import iterate_vertices, neutral_vertices
from densefit.export.surface import surface_of
from densefit.files import ensure_out_dir
from densefit.fit_file import FitFile
from densefit.fit_meta import median, sizes_of_given_identity
from densefit.progress import info, progress

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.capture import Frame, MasterTimeline, Source, Take
    from densefit.head.model import HeadModel
    from densefit.landmarks.files import LandmarkTrack
    from densefit.landmarks.predictor import PredictOptions
    from densefit.report.overlay import Counter, OverlayJob


SCALES = {
    "calibrated": "sizes are those of the calibrated rig",
    "prior": "sizes are estimates from the average head: no calibrated distances between cameras",
}
"""What `scale` in meta.json means, for people."""


@dataclass
class FitRigReport:
    """What the stage made, for people and, with --json, for programs."""

    fit: Path
    rig: Path
    neutral: Path
    overlays: list[Path] = field(default_factory=list)
    meshes: Path | None = None
    mosaic: Path | None = None
    page: Path | None = None
    """report.html."""
    kept: bool = False
    """The fit of an earlier run was kept."""
    frames: int = 0
    valid_frames: int = 0
    scale: str = ""
    scale_std: float = 0.0
    """Of all sizes, relative, with scale `prior`."""
    sizes: str = ""
    """What sizes are, for people."""
    residual_px: dict[str, float | None] = field(default_factory=dict)
    """Median over the frames, by camera."""
    seen_frames: dict[str, int] = field(default_factory=dict)
    focal_px: dict[str, float] = field(default_factory=dict)
    focal_std_px: dict[str, float] = field(default_factory=dict)
    """One standard deviation where the fit estimated the focal length, else 0."""
    seconds: dict[str, float] = field(default_factory=dict)


def write_meshes(fit: FitFile, head: HeadModel, report: FitRigReport, sequence: bool) -> None:
    """meshes/neutral.ply and, on demand, the `sequence`; files that exist are kept."""
    folder = ensure_out_dir(report.neutral.parent)
    write = ply_writer(surface_of(head))
    if not report.neutral.is_file():
        write(report.neutral, neutral_vertices(fit, head))
    if not sequence:
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


@dataclass(frozen=True)
class OverlayInputs:
    """What overlays are drawn from."""

    take: Take
    fit: FitFile
    head: HeadModel
    timeline: MasterTimeline
    chosen: PredictOptions
    """Which frames were predicted on."""


def write_overlays(inputs: OverlayInputs, report: FitRigReport) -> None:
    """overlay/<camera>_fit.mp4, or a folder of PNG for photos; those that exist are kept."""
    from densefit.report.overlay import OverlayJob, run_together

    rig = read_rig(report.rig)
    folder = report.fit.parent / "overlay"
    work, total = [], 0
    for column, (name, source) in enumerate(inputs.take.sources.items()):
        camera = rig.cameras[name]
        if camera.K is None or camera.T_camera_world is None:
            continue  # never saw a head, so nothing is known of it
        master = master_frames(inputs.timeline.index[:, column])
        target = folder / (f"{name}_fit" if _is_photo(source) else f"{name}_fit.mp4")
        report.overlays.append(target)
        if not _overlay_exists(target, len(master)):
            job = OverlayJob(source, camera, master, inputs.fit, inputs.head)
            work.append(partial(_write_overlay, job, inputs.chosen, target))
            total += len(master)
    run_together(work, total)


def write_mosaic_of(
    inputs: OverlayInputs, tracks: Mapping[str, LandmarkTrack], report: FitRigReport
) -> None:
    """overlay/mosaic.mp4 (mosaic.png of a single frame) from the overlays; kept if it exists."""
    from densefit.report.mosaic import MosaicCamera, write_mosaic

    drawn = {path.name.removesuffix(".mp4").removesuffix("_fit"): path for path in report.overlays}
    cameras = [
        MosaicCamera(
            name, drawn.get(name, source.path), tracks[name], inputs.timeline.index[:, column]
        )
        for column, (name, source) in enumerate(inputs.take.sources.items())
        # The recordings themselves can stand in only where their pictures are counted alike.
        if name in drawn or (inputs.chosen.start is None and inputs.chosen.every == 1)
    ]
    if not cameras:
        return
    suffix = "png" if inputs.fit.n_frames == 1 else "mp4"
    report.mosaic = report.fit.parent / "overlay" / f"mosaic.{suffix}"
    if not report.mosaic.is_file():
        write_mosaic(cameras, inputs.fit.fps, report.mosaic)


def _is_photo(source: Source) -> bool:
    return source.kind in ("photo", "photos")


def _overlay_exists(target: Path, pictures: int) -> bool:
    return target.is_file() or len(list(target.glob("*.png"))) >= max(pictures, 1)


def _write_overlay(job: OverlayJob, chosen: PredictOptions, target: Path, counter: Counter) -> Path:
    from densefit.report.overlay import write_overlay_pictures, write_overlay_video

    frames = chosen_frames(job.source, chosen)
    if _is_photo(job.source):
        write_overlay_pictures(job, frames, target, counter)
    else:
        write_overlay_video(job, frames, target, job.source.fps / chosen.every, counter)
    return target


def chosen_frames(source: Source, chosen: PredictOptions) -> Iterator[Frame]:
    """The pictures that were predicted on, in the same order."""
    from densefit.capture import open_frames

    return open_frames(source, chosen.start, chosen.end, chosen.every)


def master_frames(index: np.ndarray) -> np.ndarray:
    """Turn a camera's column of the master timeline round.

    Args:
        index: (T,) picture of the camera at each master frame, -1 if none; no picture twice.
    Returns:
        (N,) int64: master frame of each picture up to the last that has one, -1 if none.
    """
    master = np.full(int(index.max(initial=-1)) + 1, -1, np.int64)
    used = np.flatnonzero(index >= 0)
    master[index[used]] = used
    return master


def write_page(out: Path, model: Path | None) -> Path:
    """report.html, imported late because it draws in 3D."""
    from densefit.report.page import write_report

    info("report")
    return write_report(out, model)


def summarize(report: FitRigReport, fit: FitFile, clock: Clock) -> FitRigReport:
    rig = read_rig(report.rig)
    names = fit.meta["cameras"]
    report.frames = fit.n_frames
    report.valid_frames = int(fit.valid.sum())
    report.scale = fit.meta["scale"]
    report.scale_std = float(fit.meta.get("scale_std", 0.0))
    report.sizes = size_sentence(fit.meta)
    report.residual_px = {name: median(fit.residual_px[:, c]) for c, name in enumerate(names)}
    report.seen_frames = {
        name: int(np.isfinite(fit.residual_px[:, c]).sum()) for c, name in enumerate(names)
    }
    known = {n: c for n, c in rig.cameras.items() if c.K is not None}
    report.focal_px = {n: float(c.K[0, 0]) for n, c in known.items()}  # type: ignore[index]
    report.focal_std_px = {n: estimated_focal_std(c, fit.meta) for n, c in known.items()}
    report.seconds = clock.laps
    return report


def size_sentence(meta: Mapping[str, Any]) -> str:
    """What meta.json says of the head's sizes, for people."""
    given = sizes_of_given_identity(meta)
    if given:
        return given
    sentence, deviation = SCALES[meta["scale"]], float(meta.get("scale_std") or 0.0)
    if not deviation:
        return sentence
    return f"{sentence} (give or take {100 * deviation:.1f} %, one standard deviation)"


def estimated_focal_std(camera: Camera, meta: Mapping[str, Any]) -> float:
    """Standard deviation in px of a focal length that the fit found, as meta.json says; 0 where it
    was given."""
    estimated = camera.name in (meta.get("estimated_focal") or ())
    return float((camera.std or {}).get("focal", 0.0)) if estimated else 0.0


def focal_text(focal: float, std: float) -> str:
    """A focal length in px for people, and how well it is known where it was estimated."""
    if not std:
        return f"{focal:.1f} px"
    return f"{focal:.0f} px (estimated, give or take {std:.0f})"


def camera_table(report: FitRigReport) -> Iterator[str]:
    """One line a camera, for people."""
    for name, residual in report.residual_px.items():
        share = f"{report.seen_frames[name]} of {report.frames} frames"
        fitted = "takes no part" if residual is None else f"residual {residual:.2f} px"
        focal = ""
        if name in report.focal_px:
            std = report.focal_std_px[name]
            focal = f", focal {focal_text(report.focal_px[name], std)}"
        yield f"  {name}: {share}, {fitted}{focal}"


def check_residuals(report: FitRigReport, limit: float | None) -> None:
    """The quality gate: QualityError if a camera's median residual is above `limit` px."""
    if limit is None:
        return
    bad = [
        f"{name} {residual:.2f}"
        for name, residual in report.residual_px.items()
        if residual is not None and residual > limit
    ]
    if bad:
        raise QualityError(
            f"{report.fit}: median residual above --max-residual-px {limit:g}: {', '.join(bad)} px;"
            " check calibration and synchronization, and look at the overlays"
        )


class Clock:
    """Seconds that each part of the stage took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
