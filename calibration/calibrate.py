"""From board views to a calibrated rig."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from calibration.board_shape import refined_points
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
from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.extrinsics import (
    Link,
    candidate_poses,
    check_agreement,
    link_cameras,
    solve_tree,
    start_state,
)
from calibration.intrinsics import AUTO_LENSES, IntrinsicsFit, fit_intrinsics
from calibration.poses import board_tilts
from calibration.rig import Rig
from calibration.selection import select_views
from calibration.time_offsets import corner_velocities, offset_step, velocities_are_known
from calibration.views import CameraPictures, View, corners_of, views_of

Report = Callable[[str], None]
"""Told what is being done, one short phrase at a time."""

# Corners further off than this many standard deviations are wrong detections, not noise.
_OUTLIER = 5.0
# Fits between which the weights of the moments are taken anew.
_ROUNDS = 3
# With this many views the board's own shape, and cameras' time offsets, can be told apart from
# cameras and poses. They are found by turns with everything else, until points move less than this
# share of the board's size, and times less than this share of a moment.
FLEXIBLE_VIEWS = 40
_TURNS = 16
_STILL = 5e-6
_SAME_TIME = 0.003
# A focal length that is not known better than this share is no calibration, nor is one from boards
# that were nowhere tilted by so many degrees: its stated deviation means nothing.
_USELESS_FOCAL = 0.075
_PARALLEL = 4.0


@dataclass(frozen=True)
class CalibrateOptions:
    """How to calibrate."""

    lenses: tuple[str, ...] = AUTO_LENSES
    """Lens models to choose from, keys of `intrinsics.LENSES`, the simplest first."""
    views_per_camera: int = 40
    """Views of each camera that the intrinsics should rest on."""
    views_per_pair: int = 20
    """Moments that each two cameras should share."""
    flexible_board: bool | None = None
    """Estimate the board's true shape too; None: where there are FLEXIBLE_VIEWS views."""
    seconds_per_moment: float | None = None
    """For videos: estimate how far the cameras' clocks are apart. None: moments are no times."""
    intrinsics: dict[str, Camera] = field(default_factory=dict)
    """Cameras whose K, lens model and distortion are kept."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The rig and what speaks for and against it."""

    rig: Rig
    board: Board
    views: list[View]
    """Those used, in the order of `corners`."""
    corners: Corners
    points: np.ndarray
    """(P, 3) float64, metres: the board's points, as stated or as estimated."""
    residuals: np.ndarray
    """(N, 2) float64 px, predicted - observed."""
    outliers: np.ndarray
    """(N,) bool: corners that were left out of the last fit."""
    state: BundleState
    sigma: float
    """px: standard deviation of one coordinate of a corner."""
    fits: dict[str, IntrinsicsFit]
    """Of the cameras whose intrinsics were estimated."""
    links: list[Link]
    time_offsets: dict[str, float]
    """s by camera, t_master = t_camera + offset as in take.yaml; empty where not estimated."""
    std: dict[str, np.ndarray]
    """By camera (6 + 4 + D,): rotation (rad), translation (m), fx, fy, cx, cy, lens."""

    def camera_rms(self, name: str, with_outliers: bool = False) -> float:
        """px over the camera's corners."""
        rows = self.corners.camera == list(self.rig.cameras).index(name)
        return rms(self.residuals[rows if with_outliers else rows & ~self.outliers])

    @property
    def rms(self) -> float:
        """px over all corners that count."""
        return rms(self.residuals[~self.outliers])


def calibrate(
    views: list[View],
    board: Board,
    cameras: list[CameraPictures],
    options: CalibrateOptions | None = None,
    report: Report = lambda text: None,
    progress: Callable[[int, float], None] | None = None,
) -> Calibration:
    """Calibrate a rig, or a single camera, from views of a board.

    The first camera's frame becomes the world. A single camera gets no extrinsics.

    Args:
        views: all detections.
        cameras: every camera, also those that saw nothing.
        report: told what is being done.
        progress: told after every step of the bundle adjustment (step, rms in px).
    Raises:
        CalibrationError: names the camera and what to film again.
    """
    options = options or CalibrateOptions()
    _check_seen(views, cameras)
    used = select_views(views, board, cameras, options.views_per_camera, options.views_per_pair)
    names = [camera.name for camera in cameras]
    fits: dict[str, IntrinsicsFit] = {}
    lenses: dict[str, tuple[str, np.ndarray]] = {}
    for camera in cameras:
        given = options.intrinsics.get(camera.name)
        if given is not None:
            scaled = given.scaled_to(camera.width, camera.height)
            lenses[camera.name] = (scaled.model, intrinsics_vector(scaled))
            continue
        report(f"intrinsics of {camera.name}")
        own = views_of(used, camera.name)
        fits[camera.name] = fit_intrinsics(own, board, camera, options.lenses)
        lenses[camera.name] = (fits[camera.name].model, fits[camera.name].intrinsics)
    report("extrinsics")
    poses = candidate_poses(used, board, lenses)
    links = link_cameras(names, poses)
    check_agreement(links, used, board, cameras, lenses)
    T = solve_tree(names, links)
    corners, moments, ordered = corners_of(used, board.points(), names)
    state = start_state(names, lenses, T, poses, corners, moments)
    report("bundle adjustment")
    flexible = options.flexible_board
    if flexible is None:
        flexible = len(ordered) >= FLEXIBLE_VIEWS
    velocity = None
    period = options.seconds_per_moment
    if period is not None and len(ordered) >= FLEXIBLE_VIEWS and len(names) > 1:
        if velocities_are_known(views, period):
            velocity = corner_velocities(ordered, views)
    adjusted = adjust(
        corners, state, set(fits), names, board.points(), flexible, velocity, progress
    )
    result, corners = adjusted.result, adjusted.corners
    calibration = Calibration(
        rig=_rig(cameras, result, lenses, set(fits)),
        board=board,
        views=ordered,
        corners=corners,
        points=adjusted.points,
        residuals=residuals_of(corners, result.state),
        outliers=adjusted.outliers,
        state=result.state,
        sigma=result.sigma,
        fits=fits,
        links=links,
        time_offsets=_seconds(adjusted.offsets, names, options.seconds_per_moment),
        std=dict(zip(names, result.std, strict=True)),
    )
    _check_focal(calibration)
    return calibration


def tilts(calibration: Calibration, name: str) -> np.ndarray:
    """(V,) degrees between the board's plane and the picture's, for every view of a camera."""
    c = list(calibration.rig.cameras).index(name)
    rows = calibration.corners.camera == c
    moments = np.unique(calibration.corners.moment[rows])
    state = calibration.state
    return board_tilts(state.T_camera_world[c] @ state.T_world_board[moments])


def _check_focal(calibration: Calibration) -> None:
    """CalibrationError where the views do not tell a camera's focal length from its distance."""
    remedy = "film it tilted by 30 to 45 degrees to all sides, near and far"
    for name in calibration.fits:
        vector = calibration.state.intrinsics[list(calibration.rig.cameras).index(name)]
        share = float((calibration.std[name][6:8] / vector[:2]).max())
        if not share < _USELESS_FOCAL:
            raise CalibrationError(
                f"camera '{name}': these views of the board leave its focal length open "
                f"({vector[:2].mean():.0f} px, known to {share:.0%} only); {remedy}"
            )
    # Cameras of a rig tell one another the distance, so one that sees it tilted is enough.
    largest = max(float(tilts(calibration, name).max()) for name in calibration.rig.cameras)
    if calibration.fits and largest < _PARALLEL:
        raise CalibrationError(
            f"the board is nowhere tilted against the picture (by {largest:.1f} degrees at most), "
            f"so focal length and distance cannot be told apart; {remedy}"
        )


def intrinsics_vector(camera: Camera) -> np.ndarray:
    """(4 + D,) fx, fy, cx, cy, lens coefficients of a camera whose K is known."""
    if camera.K is None:
        raise CalibrationError(
            f"camera '{camera.name}': the given intrinsics hold no K; leave the camera out of them"
        )
    return np.array([camera.K[0, 0], camera.K[1, 1], *camera.K[:2, 2], *camera.dist])


@dataclass(frozen=True, eq=False)
class Adjusted:
    """What the rounds of bundle adjustment end with."""

    result: BundleResult
    """Of the last round, which left the outliers out."""
    corners: Corners
    """All corners, with the board's points as estimated and the moments' weights."""
    outliers: np.ndarray
    """(N,) bool."""
    points: np.ndarray
    """(P, 3) float64, metres."""
    offsets: np.ndarray | None
    """(C,) moments by which corners were moved along their velocities; None: not estimated."""


def adjust(
    corners: Corners,
    state: BundleState,
    free_intrinsics: set[str],
    names: list[str],
    nominal: np.ndarray,
    flexible: bool = False,
    velocity: np.ndarray | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Adjusted:
    """Bundle adjustment: poses alone, everything with moments weighted, and less the outliers.

    Args:
        free_intrinsics: cameras whose intrinsics are estimated.
        nominal: (P, 3) float64, metres: the board's points as stated.
        flexible: estimate them too, by turns with everything else.
        velocity: (N, 2) float64, px per moment: estimate the cameras' time offsets too.
    """
    poses_free = np.arange(len(names)) > 0
    held = tuple(np.zeros(len(v), bool) for v in state.intrinsics)
    masks = tuple(
        np.full(len(v), name in free_intrinsics)
        for name, v in zip(names, state.intrinsics, strict=True)
    )
    state = bundle_adjust(corners, state, Freedom(poses_free, held), 30, 1e-5, progress).state
    free, points, observed = Freedom(poses_free, masks), nominal, corners.xy
    offsets = None if velocity is None else np.zeros(len(names))
    by_turns = flexible or offsets is not None
    for turn in range(_TURNS if by_turns else _ROUNDS):
        result = bundle_adjust(corners, state, free, 30, 1e-6, progress)
        state, change = result.state, 0.0
        corners = replace(corners, weight=moment_weights(corners, result.residuals))
        if flexible and turn > 0:
            moved = refined_points(corners, state, nominal, points)
            change = float(np.abs(moved - points).max() / np.ptp(nominal, axis=0).max()) / _STILL
            points = moved
            corners = replace(corners, points=points[corners.ids])
        if offsets is not None and velocity is not None and turn > 0:
            step = offset_step(corners, velocity, residuals_of(corners, state), len(names))
            change = max(change, float(np.abs(step).max()) / _SAME_TIME)
            offsets = offsets + step
            corners = replace(corners, xy=observed + velocity * offsets[corners.camera, None])
        if by_turns and turn > 0 and change < 1:
            break
    residuals = corners.whitened(residuals_of(corners, state))
    outliers = np.linalg.norm(residuals, axis=1) > _OUTLIER * robust_sigma(residuals)
    result = bundle_adjust(corners.subset(~outliers), state, free, 60, 1e-9, progress)
    return Adjusted(result, corners, outliers, points, offsets)


def _seconds(
    offsets: np.ndarray | None, names: list[str], seconds_per_moment: float | None
) -> dict[str, float]:
    """Offsets as take.yaml has them: corners that had to be moved on were taken too early, so
    their camera's clock is ahead."""
    if offsets is None or seconds_per_moment is None:
        return {}
    return {n: -float(o) * seconds_per_moment for n, o in zip(names, offsets, strict=True)}


def moment_weights(corners: Corners, residuals: np.ndarray) -> np.ndarray:
    """(N,) weights by moment: a board that moved while cameras were not quite synchronous, or that
    was bent, makes all corners of a moment worse than those of the usual moment."""
    count = int(corners.moment.max()) + 1
    sigma = np.full(count, np.nan)
    bounds = np.searchsorted(corners.moment, np.arange(count + 1))
    for m in range(count):
        if bounds[m + 1] > bounds[m]:
            sigma[m] = robust_sigma(residuals[bounds[m] : bounds[m + 1]])
    usual = float(np.nanmedian(sigma))
    return np.minimum(1.0, (usual / np.nan_to_num(sigma, nan=usual)) ** 2)[corners.moment]


def _check_seen(views: list[View], cameras: list[CameraPictures]) -> None:
    seen = {view.camera for view in views}
    missing = [camera.name for camera in cameras if camera.name not in seen]
    if missing and len(missing) == len(cameras):
        raise CalibrationError("the board was found in no picture of any camera")
    if missing:
        raise CalibrationError(
            f"camera {', '.join(repr(n) for n in missing)} never sees the board; film it again so "
            "that every camera sees all of it, larger and in good light, or leave the camera out"
        )


def _rig(
    cameras: list[CameraPictures],
    result: BundleResult,
    lenses: dict[str, tuple[str, np.ndarray]],
    estimated: set[str],
) -> Rig:
    out = {}
    for c, camera in enumerate(cameras):
        vector = result.state.intrinsics[c]
        std = result.std[c]
        deviations = {}
        if camera.name in estimated:
            deviations = {"focal": _root_mean(std[6:8]), "center": _root_mean(std[8:10])}
        if len(cameras) > 1:
            deviations["rotation"] = _root_mean(std[:3])
            deviations["translation"] = _root_mean(std[3:6])
        out[camera.name] = Camera(
            name=camera.name,
            width=camera.width,
            height=camera.height,
            model=lenses[camera.name][0],
            K=np.array([[vector[0], 0, vector[2]], [0, vector[1], vector[3]], [0, 0, 1]]),
            dist=vector[4:],
            T_camera_world=result.state.T_camera_world[c] if len(cameras) > 1 else None,
            std=deviations if all(np.isfinite(v) for v in deviations.values()) else None,
        )
    return Rig(out)


def _root_mean(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
