"""Intrinsics of one camera from views of a board, the lens model chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.boards import Board
from calibration.bundle import (
    BundleResult,
    BundleState,
    Corners,
    Freedom,
    bundle_adjust,
    residuals_of,
    rms,
    robust_sigma,
)
from calibration.errors import CalibrationError
from calibration.poses import board_poses, board_tilts
from calibration.views import CameraPictures, View, corners_of

MIN_VIEWS = 3
# Name -> model and number of coefficients; opencv4 is OpenCV's with k3 held at 0.
LENSES = {
    "opencv0": ("opencv", 0),
    "opencv4": ("opencv", 4),
    "opencv5": ("opencv", 5),
    "fisheye": ("opencv_fisheye", 4),
    "opencv8": ("opencv", 8),
}
# Those that are tried unless one is asked for, in the order of their freedom: a later one must be
# better by _WORTH of the held-out error to be taken. One that is not better by _PLAINLY must agree
# with the simpler one about the focal length, within so many deviations: else it may have traded
# one for the other.
AUTO_LENSES = ("opencv5", "fisheye", "opencv8")
_WORTH, _PLAINLY, _AGREED = 0.02, 0.2, 3.0
# Numerator and denominator of a rational lens that differ by less than this share of themselves
# cancel: the lens needs neither, and outside the corners it is anything.
_CANCELLED = 0.1
# Views in which the board must be tilted by so many degrees before focal length and lens can be
# told apart.
TILT, LEAST_TILTED = 20.0, 3
_FOLDS = 4
# Focal lengths that are tried, as shares of the longer side: 12 mm to 300 mm lenses.
_FOCAL_SHARES = np.geomspace(0.3, 6, 14)


@dataclass(frozen=True, eq=False)
class IntrinsicsFit:
    """One lens model fitted to one camera."""

    lens: str
    """Key of LENSES."""
    model: str
    intrinsics: np.ndarray
    """(4 + D,) float64: fx, fy, cx, cy, lens coefficients."""
    rms: float
    """px over all corners used."""
    held_out: dict[str, float]
    """Median error in px on views left out, by lens model; empty where there was no choice."""


def fit_intrinsics(
    views: list[View], board: Board, camera: CameraPictures, choices: tuple[str, ...]
) -> IntrinsicsFit:
    """Calibrate one camera.

    Args:
        views: of this camera only.
        choices: keys of LENSES, the simplest first; with several, that with the least error on
            held-out views wins, unless the views cannot tell its freedom from the focal length.
    Raises:
        CalibrationError: too few views, or none that a camera can explain.
    """
    if len(views) < MIN_VIEWS:
        raise CalibrationError(
            f"camera '{camera.name}': the board is seen in {len(views)} usable pictures, "
            f"{MIN_VIEWS} are the least and 20 are good; film it again, held still at many places "
            "and angles"
        )
    start = _start(views, board, camera)
    fits = {lens: _fit(lens, start, views, board, camera) for lens in choices}
    held_out: dict[str, float] = {}
    lens = choices[0]
    if len(choices) > 1 and len(views) >= 2 * _FOLDS:
        held_out = {
            lens: _cross_validate(lens, fit.state.intrinsics[0], views, board)
            for lens, fit in fits.items()
        }
        for other in choices[1:]:
            gain = 1 - held_out[other] / held_out[lens]
            if gain > _WORTH and _is_founded(fits[other], fits[lens], board, gain > _PLAINLY):
                lens = other
    intrinsics, residuals = fits[lens].state.intrinsics[0], fits[lens].residuals
    return IntrinsicsFit(lens, LENSES[lens][0], intrinsics, rms(residuals), held_out)


def _is_founded(freer: BundleResult, simpler: BundleResult, board: Board, plainly: bool) -> bool:
    """Whether a freer lens that explains held-out views better rests on the views.

    A board that is parallel to the picture says nothing of the focal length; with it any lens
    explains the views as well as any other.

    Args:
        plainly: the simpler lens is so much worse that it is wrong, its focal length too.
    """
    if (board_tilts(freer.state.T_world_board) > TILT).sum() < LEAST_TILTED:
        return False
    if plainly:
        return True
    ours, theirs = freer.state.intrinsics[0], simpler.state.intrinsics[0]
    apart = np.abs(ours[:2] - theirs[:2])
    deviation = np.hypot(freer.std[0][6:8], simpler.std[0][6:8])
    return bool((apart < _AGREED * deviation).all()) and not _cancels(freer, board)


def _cancels(fit: BundleResult, board: Board) -> bool:
    """Whether numerator and denominator of a rational lens are nearly the same polynomial."""
    dist = fit.state.intrinsics[0][4:]
    if fit.state.models[0] != "opencv" or len(dist) < 8:
        return False
    points = np.einsum("mij,pj->mpi", fit.state.T_world_board[:, :3, :3], board.points())
    points += fit.state.T_world_board[:, None, :3, 3]
    r2 = (points[..., :2] ** 2).sum(axis=-1) / np.maximum(points[..., 2], 1e-9) ** 2
    powers = np.percentile(r2, 90) ** np.array([1, 2, 3])
    upper, lower = dist[[0, 1, 4]] * powers, dist[5:8] * powers
    largest = max(np.linalg.norm(upper), np.linalg.norm(lower))
    return bool(np.linalg.norm(upper - lower) < _CANCELLED * largest)


def _start(views: list[View], board: Board, camera: CameraPictures) -> dict[str, float]:
    """The focal length, by model, that explains the views best without distortion; px."""
    centre = [(camera.width - 1) / 2, (camera.height - 1) / 2]
    best = {}
    sample = views[:: max(1, len(views) // 10)]
    for model in ("opencv", "opencv_fisheye"):
        errors = []
        for focal in _FOCAL_SHARES * max(camera.width, camera.height):
            intrinsics = np.array([focal, focal, *centre])
            found = [board_poses(view, board, model, intrinsics) for view in sample]
            # A view that this focal length cannot explain at all speaks against it.
            errors.append(np.mean([poses[0][1] if poses else 1e3 for poses in found]))
        best[model] = float(_FOCAL_SHARES[int(np.argmin(errors))]) * max(
            camera.width, camera.height
        )
    return best


def _fit(
    lens: str,
    start: dict[str, float],
    views: list[View],
    board: Board,
    camera: CameraPictures,
) -> BundleResult:
    """First focal length and the first radial term, then everything."""
    model, terms = LENSES[lens]
    focal = start[model]
    centre = [(camera.width - 1) / 2, (camera.height - 1) / 2]
    intrinsics = np.array([focal, focal, *centre, *np.zeros(terms)])
    state, corners = single_camera_state(views, board, model, intrinsics)
    few = np.zeros(4 + terms, bool)
    few[:2] = few[4:5] = True
    some = few.copy()
    some[2:4] = True
    result = None
    for mask, iterations in ((few, 15), (some, 15), (np.ones_like(few), 60)):
        free = Freedom(np.array([False]), (mask,))
        result = bundle_adjust(corners, state, free, iterations, 1e-8)
        state = result.state
    assert result is not None
    return result


def single_camera_state(
    views: list[View], board: Board, model: str, intrinsics: np.ndarray
) -> tuple[BundleState, Corners]:
    """A camera at the world's origin and the boards where it sees them.

    Views that no pose explains keep an upright board a few board sizes away; the robust loss
    decides about them.
    """
    corners, _, ordered = corners_of(views, board.points(), [views[0].camera])
    fallback = np.eye(4)
    fallback[:3, 3] = [0, 0, 3 * max(board.size)]
    poses = []
    for view in ordered:
        found = board_poses(view, board, model, intrinsics)
        poses.append(found[0][0] if found else fallback)
    state = BundleState(np.eye(4)[None], (model,), (intrinsics,), np.stack(poses))
    return state, corners


def _cross_validate(lens: str, start: np.ndarray, views: list[View], board: Board) -> float:
    """px: robust sigma over views that the fit has not seen.

    Each fold's fit starts from that to all views, which saves time and does not change where it
    ends. A held-out view's board pose comes from every other of its corners; the rest are the test.
    """
    model = LENSES[lens][0]
    free = Freedom(np.array([False]), (np.ones(len(start), bool),))
    errors = []
    for fold in range(_FOLDS):
        train = [v for i, v in enumerate(views) if i % _FOLDS != fold]
        test = [v for i, v in enumerate(views) if i % _FOLDS == fold]
        state, corners = single_camera_state(train, board, model, start)
        fitted = bundle_adjust(corners, state, free, 30, 1e-6).state
        errors.append(held_out_residuals(test, board, model, fitted.intrinsics[0]))
    residuals = np.concatenate(errors)
    finite = residuals[np.isfinite(residuals).all(axis=1)]
    return robust_sigma(finite) if len(finite) else np.inf


def held_out_residuals(
    views: list[View], board: Board, model: str, intrinsics: np.ndarray
) -> np.ndarray:
    """(N, 2) px: residuals of the odd corners when the even ones give the board's pose, and the
    other way round."""
    state, corners = single_camera_state(views, board, model, intrinsics)
    held = Freedom(np.array([False]), (np.zeros(len(intrinsics), bool),))
    out = np.full((len(corners.xy), 2), np.nan)
    parity = np.arange(len(corners.xy)) % 2
    for side in (0, 1):
        fitted = bundle_adjust(corners.subset(parity == side), state, held, 20, 1e-6).state
        rest = parity != side
        out[rest] = residuals_of(corners.subset(rest), fitted)
    return out
