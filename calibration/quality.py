"""What is weak about a calibration, in words that say what to film again."""

from __future__ import annotations

import numpy as np

from calibration.calibrate import Calibration, tilts
from calibration.camera import Camera
from calibration.intrinsics import LEAST_TILTED, TILT
from calibration.rotations import invert

# Grid over the picture for coverage.
CELLS = (6, 4)
_FEW_VIEWS = 10
_FEW_SHARED = 8
_LEAST_COVERED = 0.6
_FOCAL_STD = 0.005
# Shares of the picture's longer side: how well its centre should be known, and how far off the
# middle lenses are mounted at most.
_CENTRE_STD, _OFF_CENTRE = 0.01, 0.08
_ASPECT = 0.02
_MANY_OUTLIERS = 0.03
_LARGE_RMS = 1.0


def covered_cells(calibration: Calibration, name: str) -> np.ndarray:
    """(rows, columns) int64: corners that fell into each cell of the picture."""
    camera = calibration.rig.cameras[name]
    xy = camera_xy(calibration, name)
    columns, rows = CELLS
    cell = np.floor((xy + 0.5) / [camera.width / columns, camera.height / rows]).astype(int)
    cell = cell.clip(0, [columns - 1, rows - 1])
    counts = np.zeros((rows, columns), np.int64)
    np.add.at(counts, (cell[:, 1], cell[:, 0]), 1)
    return counts


def camera_xy(calibration: Calibration, name: str) -> np.ndarray:
    """(N, 2) px: the camera's corners that count."""
    rows = calibration.corners.camera == list(calibration.rig.cameras).index(name)
    return calibration.corners.xy[rows & ~calibration.outliers]


def weaknesses(calibration: Calibration) -> list[str]:
    """Warnings, each with its remedy; empty when nothing is weak."""
    found = []
    for name, camera in calibration.rig.cameras.items():
        if name in calibration.fits:
            found += _weak_intrinsics(calibration, name, camera)
        rows = calibration.corners.camera == list(calibration.rig.cameras).index(name)
        share = float(calibration.outliers[rows].mean())
        if share > _MANY_OUTLIERS:
            found.append(
                f"camera '{name}': {share:.0%} of its corners do not fit and were left out; look "
                "for motion blur, reflections and a bent board"
            )
        if calibration.camera_rms(name) > _LARGE_RMS:
            found.append(
                f"camera '{name}': corners miss by {calibration.camera_rms(name):.2f} px; cameras "
                "that are not synchronous, a moving board with a rolling shutter, or a bent board "
                "do this: film again, holding the board still"
            )
    return found + _weak_links(calibration)


def _weak_intrinsics(calibration: Calibration, name: str, camera: Camera) -> list[str]:
    found = []
    degrees = tilts(calibration, name)
    if len(degrees) < _FEW_VIEWS:
        found.append(
            f"camera '{name}': only {len(degrees)} views; 20 to 40 at different places and angles "
            "are better"
        )
    tilted = int((degrees > TILT).sum())
    if tilted < LEAST_TILTED:
        found.append(
            f"camera '{name}': the board is tilted by more than {TILT:.0f} degrees in {tilted} "
            "views only, so focal length and distance are hard to tell apart; film it tilted by 30 "
            "to 45 degrees to all sides"
        )
    counts = covered_cells(calibration, name)
    corners = {
        "top left": counts[0, 0],
        "top right": counts[0, -1],
        "bottom left": counts[-1, 0],
        "bottom right": counts[-1, -1],
    }
    empty = [where for where, count in corners.items() if count == 0]
    if empty or (counts > 0).mean() < _LEAST_COVERED:
        where = f"; none in the corners {', '.join(empty)}" if empty else ""
        found.append(
            f"camera '{name}': the board covers {(counts > 0).mean():.0%} of the picture{where}; "
            "the lens is extrapolated there: bring the board into the corners too"
        )
    std = calibration.std[name]
    vector = calibration.state.intrinsics[list(calibration.rig.cameras).index(name)]
    share = float((std[6:8] / vector[:2]).max())
    if not np.isfinite(share) or share > _FOCAL_STD:
        found.append(
            f"camera '{name}': focal length known to {share:.1%} only; film the board nearer, "
            "filling the picture, and tilted"
        )
    return found + _weak_centre(name, camera, vector, std)


def _weak_centre(name: str, camera: Camera, vector: np.ndarray, std: np.ndarray) -> list[str]:
    """A principal point or an aspect that lenses hardly have, or that is not known."""
    found = []
    remedy = "bring the board into all corners of the picture, tilted to all sides"
    side = max(camera.width, camera.height)
    uncertain = float(std[8:10].max())
    if not uncertain < _CENTRE_STD * side:
        found.append(
            f"camera '{name}': its principal point is known to {uncertain:.0f} px only; {remedy}"
        )
    middle = np.array([camera.width - 1, camera.height - 1]) / 2
    off = float(np.linalg.norm(vector[2:4] - middle))
    if off > _OFF_CENTRE * side:
        found.append(
            f"camera '{name}': its principal point ({vector[2]:.0f}, {vector[3]:.0f}) lies "
            f"{off:.0f} px off the picture's middle, which few lenses do unless the picture was "
            f"cropped; {remedy}"
        )
    if abs(vector[0] / vector[1] - 1) > _ASPECT:
        found.append(
            f"camera '{name}': fx and fy differ by {abs(vector[0] / vector[1] - 1):.1%}, as though "
            f"pixels were not square; unless the picture was stretched, {remedy}"
        )
    return found


def _weak_links(calibration: Calibration) -> list[str]:
    """Cameras that hang on few shared views."""
    found: list[str] = []
    names = list(calibration.rig.cameras)
    if len(names) < 2:
        return found
    for name in names:
        shared = sum(
            link.agreeing for link in calibration.links if name in (link.first, link.second)
        )
        if shared < _FEW_SHARED:
            found.append(
                f"camera '{name}': only {shared} views tie it to the other cameras; hold the board "
                "where it and a neighbour see it, at ten or more places"
            )
    for link in calibration.links:
        if link.shared >= 4 and link.agreeing < 0.8 * link.shared:
            found.append(
                f"cameras '{link.first}' and '{link.second}' disagree in "
                f"{link.shared - link.agreeing} of {link.shared} shared views; check their "
                "synchronization"
            )
    return found


def baseline(calibration: Calibration, first: str, second: str) -> float:
    """m between two cameras' centres."""
    a, b = (calibration.rig.cameras[name].T_camera_world for name in (first, second))
    assert a is not None and b is not None
    return float(np.linalg.norm(invert(a)[:3, 3] - invert(b)[:3, 3]))


def summary(calibration: Calibration) -> list[str]:
    """The calibration as a table of text lines, one a camera, and one for all."""
    lines = [
        "camera            views corners  rms px  lens      focal px (std)      centre px (std)"
    ]
    for c, (name, camera) in enumerate(calibration.rig.cameras.items()):
        rows = calibration.corners.camera == c
        views = len(np.unique(calibration.corners.moment[rows]))
        fit = calibration.fits.get(name)
        std = calibration.std[name]
        assert camera.K is not None
        focal = f"{camera.K[0, 0]:.1f}, {camera.K[1, 1]:.1f}"
        centre = f"{camera.K[0, 2]:.1f}, {camera.K[1, 2]:.1f}"
        if fit is not None:
            focal += f" ({std[6:8].max():.1f})"
            centre += f" ({std[8:10].max():.1f})"
        lens = fit.lens if fit is not None else "given"
        count = int((rows & ~calibration.outliers).sum())
        lines.append(
            f"{name:<16} {views:>6} {count:>7} {calibration.camera_rms(name):>7.3f}  {lens:<8} "
            f" {focal:<19} {centre}"
        )
    lines.append(
        f"all: rms {calibration.rms:.3f} px, {int(calibration.outliers.sum())} of "
        f"{len(calibration.outliers)} corners left out"
    )
    return lines
