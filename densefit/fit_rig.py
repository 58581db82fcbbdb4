"""The stage `fit-rig`: a take becomes fit.npz, meta.json, rig.yaml, the neutral mesh and overlays.

Each output is written whole. A second run with the same inputs keeps the fit and makes only what is
missing; with other inputs it refuses, unless told to overwrite.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibration import Rig, write_rig
from densefit.errors import InputError
from densefit.files import ensure_out_dir, read_json
from densefit.fit_file import open_head, read_fit, write_fit
from densefit.fit_inputs import (
    FitInputs,
    changed_inputs,
    check_landmarks,
    gather,
    input_hashes,
    recordings_hash,
    with_unseen_cameras,
)
from densefit.fit_meta import fit_meta, plain, write_sync
from densefit.fit_outputs import (
    Clock,
    FitRigReport,
    OverlayInputs,
    chosen_frames,
    remove_outputs,
    summarize,
    write_meshes,
    write_overlays,
)
from densefit.progress import info, progress
from densefit.rig_units import check_units

if TYPE_CHECKING:
    from densefit.capture import Take
    from densefit.fit.options import FitOptions
    from densefit.fit.result import FitResult
    from densefit.head.model import HeadModel
    from densefit.landmarks.predictor import PredictOptions

# How a fit is computed, not what it is.
NOT_PART_OF_THE_RESULT = ("threads", "device")


@dataclass(frozen=True)
class FitRigOptions:
    """Choices of the stage."""

    predict: PredictOptions
    fit: FitOptions
    identity: Path | None = None
    """fit.npz (or its folder) of the same person's earlier take, whose identity is kept."""
    overwrite: bool = False
    """Replace a fit made from other inputs; else that is an error."""
    meshes: bool = False
    """Also write meshes/frame_%06d.ply."""
    overlay: bool = True
    """Draw the head over the footage."""


def run_fit_rig(take: Take, out: Path, options: FitRigOptions) -> FitRigReport:
    """Predict landmarks where they are missing, fit all cameras and frames together, write `out`.

    Args:
        take: sources with their rig and timing.
        out: output folder; made if need be.
    Raises:
        InputError: no usable frame, folder not writable, or `out` holds a fit of something else.
    """
    from densefit.capture import master_timeline
    from densefit.landmarks.predictor import predict
    from densefit.landmarks.slices import open_landmarks

    out = ensure_out_dir(out)
    clock = Clock()
    head = open_head(options.predict.model)
    options = _with_identity(take, head, options)
    recordings = recordings_hash(take, options.predict)
    if not options.overwrite:
        _refuse_changed(out, {"recordings": recordings})
    cameras = {name: take.camera(name) for name in take.sources}
    paths = predict(take, out, options.predict)
    tracks = {name: open_landmarks(paths[name]) for name in take.sources}
    check_landmarks(tracks, head)
    clock.lap("predict")
    timeline = master_timeline(take, {name: track.time for name, track in tracks.items()})
    inputs = gather(tracks, timeline, cameras, _photo_sizes(take, options))
    check_units(inputs, head)
    report = _fit_or_keep(take, out, head, inputs, options, recordings)
    clock.lap("fit")
    fit = read_fit(out, head)
    write_meshes(fit, head, report, sequence=options.meshes)
    clock.lap("meshes")
    if options.overlay:
        overlay = OverlayInputs(take, fit, head, timeline, options.predict)
        write_overlays(overlay, report)
        clock.lap("overlay")
    return summarize(report, fit, clock)


def _photo_sizes(take: Take, options: FitRigOptions) -> dict[str, list[tuple[int, int]]]:
    """(width, height) of each photo, for the cameras whose pictures may differ in size."""
    return {
        name: [(f.image.shape[1], f.image.shape[0]) for f in chosen_frames(source, options.predict)]
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
    take: Take,
    out: Path,
    head: HeadModel,
    inputs: FitInputs,
    options: FitRigOptions,
    recordings: str,
) -> FitRigReport:
    """Fit, unless `out` holds the fit of just these inputs."""
    report = FitRigReport(out / "fit.npz", out / "rig.yaml", out / "meshes" / "neutral.ply")
    stated = {f.name: plain(getattr(options.fit, f.name)) for f in fields(options.fit)}
    decisive = {k: v for k, v in stated.items() if k not in NOT_PART_OF_THE_RESULT}
    hashes = {"recordings": recordings, **input_hashes(inputs, head, decisive)}
    if report.fit.is_file() and not options.overwrite:
        _refuse_changed(out, hashes)
        info(f"{report.fit}: kept, nothing has changed")
        report.kept = True
        return report
    remove_outputs(out)
    result = _solve(head, inputs, options.fit)
    rig = _fitted_rig(take, inputs, result)
    residual = with_unseen_cameras(result.residual_px, inputs, list(take.sources))
    write_rig(report.rig, rig)
    write_sync(take, out)
    meta = fit_meta(take, head, result, residual, rig) | {"options": stated, "inputs": hashes}
    write_fit(out, replace(result, residual_px=residual), meta)
    return report


def _refuse_changed(out: Path, hashes: dict[str, str]) -> None:
    """Raise InputError if `out` holds a fit made from other things than these."""
    if not (out / "fit.npz").is_file():
        return
    meta = out / "meta.json"
    earlier = read_json(meta).get("inputs") if meta.is_file() else None
    changed = changed_inputs(earlier, hashes)
    if changed:
        raise InputError(
            f"{out / 'fit.npz'}: made from other {', '.join(changed)}; choose another folder with "
            "-o, or replace it with --overwrite"
        )


def _solve(head: HeadModel, inputs: FitInputs, options: FitOptions) -> FitResult:
    from densefit.fit import fit

    frames = len(inputs.observations.time)
    with progress(100, f"fit {frames} frames, {len(inputs.cameras)} cameras", unit="%") as bar:
        done = 0

        def advance(fraction: float) -> None:
            nonlocal done
            bar.advance(int(100 * fraction) - done)
            done = max(done, int(100 * fraction))

        return fit(head, inputs.cameras, inputs.observations, options, advance)


def _fitted_rig(take: Take, inputs: FitInputs, result: FitResult) -> Rig:
    """All cameras of the take in its order, as fitted."""
    fitted = {camera.name: camera for camera in (*result.cameras, *inputs.unseen)}
    return Rig({name: fitted[name] for name in take.sources}, take.rig.up if take.rig else None)
