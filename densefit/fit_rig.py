"""The stage `fit-rig`: a take becomes fit.npz, meta.json, rig.yaml, the neutral mesh and overlays.

Each output is written whole. A second run with the same inputs keeps the fit and makes only what is
missing, and a fit that was killed goes on after its last finished step; with other inputs it
refuses, unless told to overwrite.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration import Rig, write_rig
from densefit import __version__
from densefit.errors import InputError
from densefit.files import ensure_out_dir, read_json
from densefit.fit_file import FitFile, read_fit, write_fit
from densefit.fit_folder import (
    PARTS,
    check_fit_folder,
    remove_outputs,
    warn_of_earlier_exports,
)
from densefit.fit_inputs import (
    FitInputs,
    changed_inputs,
    changed_recordings,
    check_landmarks,
    gather,
    input_hashes,
    recordings_hash,
    with_unseen_cameras,
)
from densefit.fit_meta import fit_meta, identity_source, plain, write_sync
from densefit.fit_outputs import (
    Clock,
    FitRigReport,
    OverlayInputs,
    chosen_frames,
    summarize,
    write_meshes,
    write_mosaic_of,
    write_overlays,
    write_page,
)
from densefit.footage import write_footage
from densefit.model_file import open_head
from densefit.progress import info, progress, warn
from densefit.refine_sync import check_refine_sync, refine_sync
from densefit.rig_units import check_units

if TYPE_CHECKING:
    from densefit.capture import MasterTimeline, Take
    from densefit.fit.checkpoints import Checkpoints
    from densefit.fit.options import FitOptions
    from densefit.fit.result import FitResult
    from densefit.head.model import HeadModel
    from densefit.landmarks.files import LandmarkTrack
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
    refine_sync: bool = False
    """Correct the cameras' time offsets (and clock rates of long takes) by the head's motion."""
    overwrite: bool = False
    """Replace a fit made from other inputs, and single files with the names of its results; else
    that is an error."""
    meshes: bool = False
    """Also write meshes/frame_%06d.ply."""
    overlay: bool = True
    """Draw the head over the footage."""
    report: bool = True
    """Write report.html."""


@dataclass(frozen=True)
class Prepared:
    """A take with its landmarks, ready to be fitted."""

    take: Take
    out: Path
    head: HeadModel
    options: FitRigOptions
    recordings: str
    """Hash of what the landmarks come from."""
    tracks: dict[str, LandmarkTrack]
    timeline: MasterTimeline
    inputs: FitInputs
    identity_source: dict[str, Any] | None
    """What meta.json says of a given identity."""
    clock: Clock

    @property
    def report(self) -> FitRigReport:
        """Paths of the results; nothing is there yet."""
        out = self.out
        return FitRigReport(out / "fit.npz", out / "rig.yaml", out / "meshes" / "neutral.ply")


def run_fit_rig(take: Take, out: Path, options: FitRigOptions) -> FitRigReport:
    """Predict landmarks where they are missing, fit all cameras and frames together, write `out`.

    Args:
        take: sources with their rig and timing.
        out: output folder; made if need be.
    Raises:
        InputError: no usable frame (in the chosen range), folder not writable, `out` holds a fit of
            something else, or files that are nobody's to replace (`check_fit_folder`).
    """
    check_fit_folder(take, out, options.overwrite)
    _check_take(take, options)
    ready = prepare(take, out, options)
    hashes, stated = _hashes(ready, {})
    if not _is_kept(ready, hashes):
        _store(ready, _solve(ready, hashes), hashes, stated)
        return _finish(ready, kept=False)
    return _finish(ready, kept=True)


def run_same_person(takes: list[Take], out: Path, options: FitRigOptions) -> list[FitRigReport]:
    """Fit several takes of one person with one identity; each gets its own folder in `out`.

    Raises:
        InputError: as `run_fit_rig`, or two takes of one name.
    """
    from densefit.fit import TakeLandmarks, fit_same_person

    names = [take.name for take in takes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two takes are called {twice[0]}: rename one, each gets its own folder")
    for take in takes:  # all of them before any work
        check_fit_folder(take, out / take.name, options.overwrite)
        _check_take(take, options)
    ready = []
    for take in takes:
        info(f"take {take.name}")
        ready.append(prepare(take, out / take.name, options))
    everyone = {name: _hashes(r, {})[0]["landmarks"] for name, r in zip(names, ready, strict=True)}
    hashes = [_hashes(r, {"takes of the same person": _joined(everyone)}) for r in ready]
    # One take that is new or gone changes the identity of all.
    kept = [_is_kept(r, h) for r, (h, _) in zip(ready, hashes, strict=True)]
    if not all(kept):
        landmarks = [
            TakeLandmarks(
                r.inputs.cameras, r.inputs.observations, r.take.independent_frames,
                _checkpoints(r, own),
            )
            for r, (own, _) in zip(ready, hashes, strict=True)
        ]  # fmt: skip
        with progress(100, f"fit {len(takes)} takes of one person", unit="%") as bar:
            results = fit_same_person(
                ready[0].head, landmarks, ready[0].options.fit, _percent(bar.advance)
            )
        for r, result, (own, stated) in zip(ready, results, hashes, strict=True):
            _store(r, result, own, stated)
    reports = []
    for r in ready:
        info(f"take {r.take.name}")
        reports.append(_finish(r, kept=all(kept)))
    return reports


def _check_take(take: Take, options: FitRigOptions) -> None:
    """InputError where a recording has no frame in the chosen range, or clocks that are to be
    refined cannot be."""
    from densefit.capture import check_range

    for source in take.sources.values():
        check_range(source, options.predict.start, options.predict.end)
    if options.refine_sync:
        check_refine_sync(take)


def prepare(take: Take, out: Path, options: FitRigOptions) -> Prepared:
    """Landmarks of all cameras on one timeline, predicted where they are missing."""
    from densefit.capture import master_timeline
    from densefit.landmarks.predictor import predict
    from densefit.landmarks.slices import open_landmarks

    out = ensure_out_dir(out)
    clock = Clock()
    head = open_head(options.predict.model)
    earlier = None if options.identity is None else read_fit(options.identity, head)
    options = _with_identity(take, earlier, options)
    recordings = recordings_hash(take, options.predict)
    if not options.overwrite:
        _refuse_changed(take, out, {"recordings": recordings}, options.predict)
    cameras = {name: take.camera(name) for name in take.sources}
    paths = predict(take, out, options.predict)
    tracks = {name: open_landmarks(paths[name]) for name in take.sources}
    check_landmarks(tracks, head)
    clock.lap("predict")
    sizes = _photo_sizes(take, options)
    times = {name: track.time for name, track in tracks.items()}

    def inputs_of(timed: Take) -> FitInputs:
        return gather(tracks, master_timeline(timed, times), cameras, sizes)

    if options.refine_sync:
        take = refine_sync(take, head, options.fit, inputs_of)
    timeline = master_timeline(take, times)
    inputs = gather(tracks, timeline, cameras, sizes)
    check_units(inputs, head, take.rig)
    source = None if earlier is None else identity_source(earlier)
    return Prepared(take, out, head, options, recordings, tracks, timeline, inputs, source, clock)


def _finish(ready: Prepared, kept: bool) -> FitRigReport:
    """Meshes, overlays and the report of a stored fit."""
    report, options = ready.report, ready.options
    report.kept = kept
    if kept:
        info(f"{report.fit}: kept, nothing has changed")
    shutil.rmtree(ready.out / PARTS, ignore_errors=True)
    times = {name: track.time for name, track in ready.tracks.items()}
    # Only now: a run that refuses to replace a fit must leave what belongs to that fit alone.
    write_footage(ready.out, ready.take, ready.timeline, times, options.predict)
    ready.clock.lap("fit")
    fit = read_fit(ready.out, ready.head)
    write_meshes(fit, ready.head, report, sequence=options.meshes)
    ready.clock.lap("meshes")
    if options.overlay:
        overlay = OverlayInputs(ready.take, fit, ready.head, ready.timeline, options.predict)
        write_overlays(overlay, report)
        write_mosaic_of(overlay, ready.tracks, report)
        ready.clock.lap("overlay")
    if options.report:
        report.page = ready.out / "report.html"
        if not report.page.is_file():
            write_page(ready.out, options.predict.model)
        ready.clock.lap("report")
    return summarize(report, fit, ready.clock)


def _photo_sizes(take: Take, options: FitRigOptions) -> dict[str, list[tuple[int, int]]]:
    """(width, height) of each photo, for the cameras whose pictures may differ in size."""
    return {
        name: [(f.image.shape[1], f.image.shape[0]) for f in chosen_frames(source, options.predict)]
        for name, source in take.sources.items()
        if source.kind == "photos"
    }


def _with_identity(take: Take, earlier: FitFile | None, options: FitRigOptions) -> FitRigOptions:
    known = options.fit.identity if earlier is None else earlier.identity
    fit = replace(options.fit, identity=known, independent_frames=take.independent_frames)
    return replace(options, fit=fit)


def _hashes(ready: Prepared, more: dict[str, str]) -> tuple[dict[str, str], dict[str, object]]:
    """What the fit depends on, by what a person would call it, and the options as stated."""
    options = ready.options.fit
    stated = {f.name: plain(getattr(options, f.name)) for f in fields(options)}
    decisive = {k: v for k, v in stated.items() if k not in NOT_PART_OF_THE_RESULT}
    up = ready.take.rig.up if ready.take.rig else None
    inputs = input_hashes(ready.inputs, ready.head, decisive, up)
    return {"recordings": ready.recordings, **inputs, **more}, stated


def _joined(hashes: dict[str, str]) -> str:
    return " ".join(f"{name}:{value[:16]}" for name, value in sorted(hashes.items()))


def _is_kept(ready: Prepared, hashes: dict[str, str]) -> bool:
    """Whether the folder holds the fit of just these inputs; InputError if of others."""
    if not ready.report.fit.is_file() or ready.options.overwrite:
        return False
    _refuse_changed(ready.take, ready.out, hashes, ready.options.predict)
    return True


def _store(
    ready: Prepared, result: FitResult, hashes: dict[str, str], stated: dict[str, object]
) -> None:
    """Write rig.yaml, sync.yaml, meta.json and fit.npz."""
    from densefit.landmarks.jobs import earlier_precisions

    take, inputs = ready.take, ready.inputs
    remove_outputs(ready.out, take.sources)
    rig = _fitted_rig(take, inputs, result)
    for camera in result.cameras:
        if camera.T_camera_world is None:
            warn(
                f"camera {camera.name}: never shows the head together with another camera, so its "
                "place cannot be found; it takes no part in the fit"
            )
    residual = with_unseen_cameras(result.residual_px, inputs, list(take.sources))
    write_rig(ready.report.rig, rig)
    write_sync(take, ready.out)
    meta = fit_meta(take, ready.head, result, residual, rig)
    if ready.identity_source is not None:
        meta["identity_source"] = ready.identity_source
    computed = {"landmarks_precision": earlier_precisions(ready.out, take.sources)}
    write_fit(
        ready.out, replace(result, residual_px=residual),
        meta | computed | {"options": stated, "inputs": hashes},
    )  # fmt: skip
    warn_of_earlier_exports(ready.out)


def _refuse_changed(take: Take, out: Path, hashes: dict[str, str], predict: PredictOptions) -> None:
    """Raise InputError if `out` holds a fit made from other things than these."""
    if not (out / "fit.npz").is_file():
        return
    meta = out / "meta.json"
    stated = read_json(meta) if meta.is_file() else None
    earlier = stated.get("inputs") if isinstance(stated, dict) else None
    changed = changed_inputs(earlier, hashes)
    if "recordings" in changed and isinstance(earlier, dict):
        known = changed_recordings(take, out, predict, str(earlier.get("recordings")))
        changed = [*known, *(name for name in changed if name != "recordings")]
    if changed:
        raise InputError(
            f"{out / 'fit.npz'}: made from other {', '.join(changed)}; choose another folder with "
            "-o, or replace it with --overwrite"
        )


def _solve(ready: Prepared, hashes: dict[str, str]) -> FitResult:
    from densefit.fit import fit

    inputs, checkpoints = ready.inputs, _checkpoints(ready, hashes)
    title = f"fit {len(inputs.observations.time)} frames, {len(inputs.cameras)} cameras"
    with progress(100, title, unit="%") as bar:
        return fit(
            ready.head, inputs.cameras, inputs.observations, ready.options.fit,
            _percent(bar.advance), checkpoints,
        )  # fmt: skip


def _checkpoints(ready: Prepared, hashes: dict[str, str]) -> Checkpoints:
    """Finished steps of an interrupted fit of just these inputs; of others they do not count."""
    from densefit.fit.checkpoints import Checkpoints

    parts = ready.out / PARTS
    ensure_out_dir(parts)
    key = hashlib.sha256(repr((__version__, sorted(hashes.items()))).encode()).hexdigest()[:16]
    checkpoints = Checkpoints.of(parts, key)
    if checkpoints.finished:
        info(f"{ready.out}: the fit goes on after {checkpoints.finished} finished steps")
    return checkpoints


def _percent(advance: Callable[[int], None]) -> Callable[[float], None]:
    """Fractions of the work to whole steps of a bar."""
    done = 0

    def report(fraction: float) -> None:
        nonlocal done
        now = max(done, int(100 * fraction))
        advance(now - done)
        done = now

    return report


def _fitted_rig(take: Take, inputs: FitInputs, result: FitResult) -> Rig:
    """All cameras of the take in its order, as fitted."""
    fitted = {camera.name: camera for camera in (*result.cameras, *inputs.unseen)}
    return Rig({name: fitted[name] for name in take.sources}, take.rig.up if take.rig else None)
