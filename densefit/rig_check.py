"""The stage behind `densefit rig check`: figures and pictures of a rig, and what is wrong with it.

The geometry knows nothing of faces; with a take, landmarks become the points that cameras share.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration import Rig
from calibration.draw_rig import is_rig_html, write_rig_html, write_rig_png
from calibration.formats import ReadOptions, read_any
from calibration.geometry import describe, rig_geometry
from calibration.rig import unknown_camera
from calibration.suspicion import Residuals, Suspicion, explain, residuals, suspicions
from densefit.capture import Take, load_take, master_timeline
from densefit.errors import InputError, UsageError
from densefit.files import ensure_out_dir
from densefit.input_files import shared_recordings
from densefit.progress import info
from densefit.report.verdict import odd_cameras

# Moments of a take and landmarks of a face that are enough to judge a rig by.
_MOMENTS = 12
_LANDMARKS = 120
# A camera is told that has so many times the residual of the others. Points that are triangulated
# without a head lean towards the camera that is off: 2.6 times after a fit was 1.7 times here, so
# this is less than the report's limit. Residuals below the second, over the side of the face's
# square, are a good rig's in any camera.
_ODD_CAMERA, _GOOD_RESIDUAL = 1.5, 0.004
# The triangulated head may be this much larger or smaller than the average one.
_SIZE_TOLERANCE = 0.2
NOTHING = "nothing suspicious found"


@dataclass(frozen=True, eq=False)
class RigCheck:
    """What was found."""

    figures: list[str]
    suspicions: list[Suspicion]
    remarks: list[str]
    """What looks odd though no known mistake explains it."""
    residuals: Residuals | None
    """Of the take's landmarks; None without a take."""
    png: Path
    html: Path


def check_rig(
    rig_path: Path,
    take_path: Path | None,
    out: Path,
    options: ReadOptions | None = None,
    threads: int | None = None,
    device: str = "auto",
    source_format: str | None = None,
    overwrite: bool = False,
) -> RigCheck:
    """Measure, draw and judge a rig.

    Args:
        rig_path: rig.yaml or a file of another tool.
        take_path: take.yaml, whose recordings are judged against this rig.
        out: folder for rig.png and rig.html.
        options: what a file of another tool leaves open.
        source_format: of `rig_path`, where it is not to be recognized.
        overwrite: files of these names may be replaced that no earlier check made.
    Raises:
        InputError, CalibrationError: nothing that could be checked.
        UsageError: such files are there, and were not to be replaced.
    """
    png, html = out / "rig.png", out / "rig.html"
    _check_free(png, html, overwrite)
    rig = read_any(rig_path, options, source_format)
    found = suspicions(rig)
    figures = describe(rig_geometry(rig))
    fit = None
    remarks: list[str] = []
    if take_path is not None:
        take = _with_rig(load_take([take_path]), rig, rig_path)
        names, xy, sides = shared_landmarks(take, threads, device)
        cameras = {name: take.camera(name) for name in names}
        seen = Rig({**rig.cameras, **cameras}, rig.up)
        fit = residuals([cameras[name] for name in names], xy)
        figures += ["landmarks triangulated: median residual by camera"]
        figures += [f"{n:<16} {m:8.2f} px" for n, m in zip(fit.names, fit.median, strict=True)]
        explained = same_recording(take) or unshared(fit) or explain(seen, names, xy)
        # The take knows better than the cameras' arrangement what is wrong.
        found = explained or found
        if not explained:
            found = found + _wrong_size(fit)
            remarks = odd_residuals(fit, sides)
    ensure_out_dir(out)
    write_rig_png(png, rig)
    words = [f"suspicion: {s.text}" for s in found] + remarks or [NOTHING]
    write_rig_html(html, rig, [*figures, "", *words])
    return RigCheck(figures, found, remarks, fit, png, html)


def _check_free(png: Path, html: Path, overwrite: bool) -> None:
    """UsageError where a picture or page lies there that is not an earlier check's.

    The page tells by its beginning; a picture is a check's where such a page lies beside it.
    """
    foreign = [path for path in (png, html) if path.exists()]
    if foreign and not overwrite and not is_rig_html(html):
        raise UsageError(
            f"{foreign[0]}: was made by no earlier check; give another folder with -o, or have it "
            "replaced with --overwrite"
        )


def _with_rig(take: Take, rig: Rig, rig_path: Path) -> Take:
    """The take with the rig that is checked instead of its own."""
    for name in take.sources:
        if name not in rig.cameras:
            raise InputError(f"{rig_path}: {unknown_camera(name, rig)}; {take.name} has it")
    return replace(take, rig=rig)


def shared_landmarks(
    take: Take, threads: int | None, device: str
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Landmarks of some moments of a take.

    Returns:
        Names of the cameras with K and extrinsics; (C, N, 2) px, NaN where a face is not seen or a
        landmark uncertain, N a whole number of faces of `_LANDMARKS` landmarks; and (C,) px, side
        of the face's square, median over the moments, NaN where there is none.
    Raises:
        InputError: fewer than two such cameras see a face at the same moment.
    """
    from densefit.landmarks.files import read_landmarks
    from densefit.landmarks.predictor import PredictOptions, predict

    names = [n for n in take.sources if _placed(take, n)]
    if len(names) < 2:
        raise InputError(
            f"{take.name}: fewer than two of its cameras have K and T_camera_world in the rig; it "
            "takes two that see one face: give a take.yaml that names a recording of each"
        )
    frames = max(take.sources[name].n_frames_estimate for name in names)
    options = PredictOptions(device=device, threads=threads, every=max(1, frames // _MOMENTS))
    with tempfile.TemporaryDirectory(prefix="densefit-check-") as folder:
        paths = predict(take, Path(folder), options)
        tracks = {name: read_landmarks(paths[name]) for name in names}
    line = master_timeline(take, {name: tracks[name].time for name in names})
    kept = np.linspace(0, tracks[names[0]].xy.shape[1] - 1, _LANDMARKS).astype(int)
    xy = np.full((len(names), len(line.time), _LANDMARKS, 2), np.nan)
    for c, name in enumerate(names):
        track = tracks[name]
        for m, row in enumerate(line.index[:, c]):
            if row >= 0 and track.valid[row]:
                sigma = track.sigma[row][kept]
                certain = sigma <= np.nanmedian(sigma)
                xy[c, m, certain] = track.xy[row][kept][certain]
    if not (np.isfinite(xy).all(axis=(3,)).sum(axis=0) >= 2).any():
        raise InputError(f"{take.name}: no two cameras see a face at the same moment")
    info(f"landmarks of {len(line.time)} moments in {len(names)} cameras")
    squares = [tracks[name].roi[tracks[name].valid, 2] for name in names]
    sides = np.array([np.median(s) if len(s) else np.nan for s in squares])
    return names, xy.reshape(len(names), -1, 2), sides


def odd_residuals(fit: Residuals, sides: np.ndarray) -> list[str]:
    """The cameras that are worse than the others, as the report of a fit tells them, too.

    Of two cameras, what they disagree by may fall on either.

    Args:
        sides: (C,) px, of the face's square in each camera.
    """
    shares = zip(fit.names, (fit.median / sides).tolist(), strict=True)
    relative = {name: share for name, share in shares if np.isfinite(share)}
    if len(relative) < 3:
        return []
    return [
        f"camera '{name}' has {times:.1f} times the residual of the others, for its size of face; "
        "no known mistake explains that: a face seen from the side, small or blurred, or glasses "
        "may do, or a calibration that is a little off"
        for name, times in odd_cameras(relative, _ODD_CAMERA).items()
        if relative[name] > _GOOD_RESIDUAL
    ]


def _placed(take: Take, name: str) -> bool:
    camera = take.camera(name)
    return camera.K is not None and camera.T_camera_world is not None


def same_recording(take: Take) -> list[Suspicion]:
    """Cameras that were given one and the same file: two views of it agree on nothing."""
    return [
        Suspicion(
            "same recording",
            f"cameras {one} and {two} have the same recording, {take.sources[two].path.name}; give "
            "each its own",
        )
        for one, two in shared_recordings(take)
    ]


def unshared(fit: Residuals) -> list[Suspicion]:
    """Cameras whose landmarks no other camera saw at the same moment."""
    return [
        Suspicion(
            "sync",
            f"camera {name} sees the face at no moment when another camera sees it; check sync, "
            "offsets and whether the face was in its picture",
        )
        for name, median in zip(fit.names, fit.median, strict=True)
        if not np.isfinite(median)
    ]


def _wrong_size(fit: Residuals) -> list[Suspicion]:
    """Whether the triangulated heads have the size of a head."""
    ratios = []
    for face in fit.points.reshape(-1, _LANDMARKS, 3):
        seen = np.isfinite(face).all(axis=1)
        if seen.sum() >= 30:
            template = _template_landmarks()[seen]
            ratios.append(_spread(face[seen]) / _spread(template))
    if not ratios:
        return []
    ratio = float(np.median(ratios))
    if abs(ratio - 1) <= _SIZE_TOLERANCE:
        return []
    for unit, factor in (("cm", 100.0), ("mm", 1000.0)):
        if abs(ratio / factor - 1) <= 0.3:
            text = f"translations seem to be in {unit}: write units: {unit}"
            break
    else:
        text = "check units, or the size of a square that the rig was calibrated with"
    return [Suspicion("units", f"the head comes out {ratio:.2f} times its usual size; {text}")]


def _spread(points: np.ndarray) -> float:
    """Median distance from the middle, robust against single wild points."""
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))


def _template_landmarks() -> np.ndarray:
    """(_LANDMARKS, 3) metres: the same landmarks of the average head."""
    from densefit.head import load_head

    head = load_head(None)
    landmarks = head.landmarks(head.template)
    return landmarks[np.linspace(0, len(landmarks) - 1, _LANDMARKS).astype(int)]
