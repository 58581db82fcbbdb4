"""`densefit inspect`: what a take is, before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from densefit.cli.flags import PredictFlags, TakeFlags
from densefit.cli.options import AsJson
from densefit.cli.results import print_json, print_table

if TYPE_CHECKING:
    from densefit.inspection import CameraReport, Estimate, TakeReport


def inspect(
    recordings: TakeFlags,
    prediction: PredictFlags,
    as_json: AsJson = False,
) -> None:
    """Print cameras, codecs, sizes, rates, clocks and calibration; estimate time and memory."""
    from densefit.inspection import inspect_take

    show(inspect_take(recordings.load(), prediction.options()), as_json)


def show(report: TakeReport, as_json: bool) -> None:
    """Print the report on stdout."""
    if as_json:
        print_json(report.as_json())
        return
    headings = ("camera", "recording", "picture", "frames", "clock", "calibration", "work")
    rows = [(name, *_cells(camera)) for name, camera in report.cameras.items()]
    print_table(headings, rows, report.name)
    photos = [camera for camera in report.cameras.values() if camera.kind == "photos"]
    complete = f"{report.complete_frames} of {report.master_frames} master frames have all cameras"
    rate = f" at {report.master_fps:.2f} frames/s" if report.master_fps else ""
    if photos and len(photos) == len(report.cameras):
        typer.echo(f"{report.master_frames} separate photos: one person, one lens")
    else:
        typer.echo(f"sync by {report.sync}: {complete}{rate}")
    for remark in report.remarks:
        typer.echo(f"note: {remark}")
    if report.estimate is not None:
        typer.echo(_cost(report.estimate))


def _cells(camera: CameraReport) -> tuple[str, ...]:
    codec = " ".join(filter(None, (camera.codec, camera.pixel_format)))
    size = ", ".join((f"{camera.width}x{camera.height}", *camera.remarks))
    frames = f"{camera.frames}"
    if camera.chosen_frames != camera.frames:
        frames = f"{camera.chosen_frames} of {camera.frames}"
    if camera.fps:
        frames += f" at {camera.fps:.3f}/s" + (", variable" if camera.variable_rate else "")
    if camera.dropped:
        frames += f", {camera.dropped} dropped"
    clock = f"from {camera.start_time:.3f} s, {camera.duration:.2f} s long"
    if camera.kind == "photos":
        frames, clock = f"{frames} separate photos", ""
    if camera.timecode:
        clock += f", timecode {camera.timecode}"
    if camera.offset:
        clock += f", offset {camera.offset:+.4f} s"
    if camera.clock_rate != 1:
        clock += f", rate {camera.clock_rate:.6f}"
    recording = f"{camera.path.name} ({codec})"
    return recording, size, frames, clock, camera.calibration, camera.work


def _cost(estimate: Estimate) -> str:
    parts = [f"landmarks {_duration(estimate.predict_seconds)}"]
    if estimate.fit_seconds:
        parts.append(f"fit {_duration(estimate.fit_seconds)}")
    if estimate.overlay_seconds:
        parts.append(f"overlays {_duration(estimate.overlay_seconds)}")
    memory = f"{estimate.memory_mb / 1000:.1f} GB memory"
    return f"about {', '.join(parts)}; {memory}, landmarks {estimate.disk_mb:.0f} MB on disk"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
