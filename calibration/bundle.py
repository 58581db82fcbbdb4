"""Robust bundle adjustment of cameras and board poses.

Unknowns: per camera its pose and intrinsics (each may be held), per moment the pose of the board.
Energy: sum over corners of rho(|predicted - observed|^2), rho being Huber's function. Solved by
Levenberg-Marquardt with analytic derivatives. Each moment's board pose meets only the cameras, so
the 6x6 blocks of the poses are eliminated first (Schur complement; Triggs et al., Bundle
Adjustment: A Modern Synthesis, 2000, section 6): what is left to factor has the size of the
cameras alone, whatever the number of moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration.normal_equations import NormalEquations
from calibration.projection import project_with_derivatives
from calibration.rotations import matrix_from_vector, skew

# The Huber threshold in standard deviations of the residuals, and their floor in px: below it
# differences are rounding, not outliers.
_HUBER = 3.0
_LEAST_SIGMA = 0.02
# Median of a Rayleigh distribution with unit sigma.
_RAYLEIGH_MEDIAN = 1.17741

Progress = Callable[[int, float], None]
"""Called after every step with its number and the present rms in px."""


@dataclass(frozen=True, eq=False)
class Corners:
    """All observed corners, sorted by moment and then by camera."""

    camera: np.ndarray
    """(N,) int64, index of the camera."""
    moment: np.ndarray
    """(N,) int64, index of the moment."""
    points: np.ndarray
    """(N, 3) float64, metres, board frame."""
    xy: np.ndarray
    """(N, 2) float64, px."""
    ids: np.ndarray
    """(N,) int64, index of the board point."""
    weight: np.ndarray | None = None
    """(N,) float64: inverse variances, 1 being usual; None: all alike."""

    def subset(self, keep: np.ndarray) -> Corners:
        """Those where `keep`, (N,) bool, is true."""
        weight = None if self.weight is None else self.weight[keep]
        return Corners(
            self.camera[keep],
            self.moment[keep],
            self.points[keep],
            self.xy[keep],
            self.ids[keep],
            weight,
        )

    def whitened(self, residuals: np.ndarray) -> np.ndarray:
        """(N, 2) residuals in units of each corner's usual deviation."""
        return residuals if self.weight is None else residuals * np.sqrt(self.weight)[:, None]


@dataclass(frozen=True, eq=False)
class BundleState:
    """Everything that is solved for."""

    T_camera_world: np.ndarray
    """(C, 4, 4) float64, metres."""
    models: tuple[str, ...]
    """(C,) lens models."""
    intrinsics: tuple[np.ndarray, ...]
    """(C,) vectors (4 + D,): fx, fy, cx, cy, lens coefficients."""
    T_world_board: np.ndarray
    """(M, 4, 4) float64, metres."""


@dataclass(frozen=True, eq=False)
class Freedom:
    """What may move."""

    poses: np.ndarray
    """(C,) bool: the camera's pose. At least one must be held, or the world floats."""
    intrinsics: tuple[np.ndarray, ...]
    """(C,) masks (4 + D,) bool."""


@dataclass(frozen=True, eq=False)
class BundleResult:
    """The optimum."""

    state: BundleState
    residuals: np.ndarray
    """(N, 2) float64 px, predicted - observed."""
    sigma: float
    """px: standard deviation of one coordinate of a corner, from the residuals."""
    std: tuple[np.ndarray, ...]
    """(C,) vectors (6 + 4 + D,): rotation (rad), translation (m), intrinsics; 0 where held."""
    iterations: int


def residuals_of(corners: Corners, state: BundleState) -> np.ndarray:
    """(N, 2) float64 px, predicted - observed."""
    out = np.empty((len(corners.xy), 2))
    for c, model in enumerate(state.models):
        rows = np.flatnonzero(corners.camera == c)
        if len(rows):
            _, points_camera = _points(corners, state, c, rows)
            out[rows] = project_with_derivatives(model, state.intrinsics[c], points_camera)[0]
    return out - corners.xy


def rms(residuals: np.ndarray) -> float:
    """Root of the mean squared distance of (N, 2) residuals, as OpenCV reports it; px."""
    return float(np.sqrt((residuals**2).sum(axis=1).mean())) if len(residuals) else float("nan")


def robust_sigma(residuals: np.ndarray) -> float:
    """px: standard deviation per axis from the median distance, blind to outliers."""
    median = float(np.median(np.linalg.norm(residuals, axis=1)))
    return max(median / _RAYLEIGH_MEDIAN, _LEAST_SIGMA)


def bundle_adjust(
    corners: Corners,
    state: BundleState,
    free: Freedom,
    max_iterations: int = 100,
    tolerance: float = 1e-9,
    progress: Progress | None = None,
) -> BundleResult:
    """Minimise the energy.

    Args:
        corners: observations; every camera and moment index must be valid in `state`.
        state: the start.
        free: what may move; the board poses always may.
        max_iterations: of Levenberg-Marquardt.
        tolerance: relative decrease of the energy at which it has converged.
        progress: told after every step.
    """
    layout = _Layout.of(corners, state, free)
    damping, residuals, iteration = 1e-4, residuals_of(corners, state), 0
    delta = _HUBER * robust_sigma(corners.whitened(residuals))
    energy = _energy(corners.whitened(residuals), delta)
    while iteration < max_iterations:
        iteration += 1
        equations = _equations(corners, state, layout, residuals, delta)
        accepted = False
        while not accepted and damping < 1e12:
            step = equations.solve(damping)
            candidate = _moved(state, layout, *step)
            new = residuals_of(corners, candidate)
            new_energy = _energy(corners.whitened(new), delta)
            accepted = bool(new_energy < energy)
            damping = max(damping / 5, 1e-12) if accepted else damping * 8
        if not accepted:
            break
        decrease = (energy - new_energy) / max(energy, 1e-300)
        state, residuals, energy = candidate, new, new_energy
        if progress is not None:
            progress(iteration, rms(residuals))
        # The threshold follows the residuals down; a real change starts the comparison anew.
        threshold = _HUBER * robust_sigma(corners.whitened(residuals))
        if abs(threshold - delta) > 0.02 * delta:
            delta = threshold
            energy = _energy(corners.whitened(residuals), delta)
        elif decrease < tolerance:
            break
    return _result(corners, state, layout, residuals, delta, iteration)


def _energy(residuals: np.ndarray, delta: float) -> float:
    """Huber's function of the distances: quadratic up to delta, linear beyond."""
    distance = np.linalg.norm(residuals, axis=1)
    energy = np.where(distance <= delta, distance**2, delta * (2 * distance - delta)).sum()
    return float(energy) if np.isfinite(energy) else np.inf


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where each camera's unknowns stand in the reduced system, and the corners' segments."""

    columns: tuple[np.ndarray, ...]
    """(C,) indices into the (6 + 4 + D) derivatives of the free ones."""
    places: tuple[np.ndarray, ...]
    """(C,) their places in the reduced vector."""
    size: int
    starts: np.ndarray
    """(S,) first row of each run of corners of one camera at one moment."""
    ends: np.ndarray

    @staticmethod
    def of(corners: Corners, state: BundleState, free: Freedom) -> _Layout:
        columns, places, size = [], [], 0
        for c in range(len(state.models)):
            mask = np.concatenate([np.full(6, bool(free.poses[c])), free.intrinsics[c]])
            columns.append(np.flatnonzero(mask))
            places.append(np.arange(size, size + mask.sum()))
            size += int(mask.sum())
        key = corners.moment * len(state.models) + corners.camera
        assert (np.diff(key) >= 0).all(), "corners must be sorted by moment and camera"
        starts = np.flatnonzero(np.r_[True, np.diff(key) > 0])
        return _Layout(
            tuple(columns), tuple(places), size, starts, np.r_[starts[1:], len(key)].astype(int)
        )


def _weights(corners: Corners, residuals: np.ndarray, delta: float) -> np.ndarray:
    """(N,) the corner's own weight times Huber's."""
    distance = np.linalg.norm(corners.whitened(residuals), axis=1)
    robust = np.minimum(1.0, delta / np.maximum(distance, 1e-300))
    return robust if corners.weight is None else robust * corners.weight


def _points(
    corners: Corners, state: BundleState, c: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of camera c turned into world axes about the board's origin, and in its frame."""
    pose = state.T_world_board[corners.moment[rows]]
    turned = np.einsum("nij,nj->ni", pose[:, :3, :3], corners.points[rows])
    T = state.T_camera_world[c]
    return turned, (turned + pose[:, :3, 3]) @ T[:3, :3].T + T[:3, 3]


def _jacobian(
    corners: Corners, state: BundleState, c: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2, 6 + 4 + D) by the camera, (n, 2, 6) by the board pose.

    Rotations step on the left, R <- exp(w) R, and translations by themselves.
    """
    turned, points_camera = _points(corners, state, c, rows)
    R, t = state.T_camera_world[c, :3, :3], state.T_camera_world[c, :3, 3]
    _, by_point, by_intrinsics = project_with_derivatives(
        state.models[c], state.intrinsics[c], points_camera
    )
    by_camera = np.concatenate([-by_point @ skew(points_camera - t), by_point, by_intrinsics], 2)
    by_world = by_point @ R
    return by_camera, np.concatenate([-by_world @ skew(turned), by_world], axis=2)


def _equations(
    corners: Corners, state: BundleState, layout: _Layout, residuals: np.ndarray, delta: float
) -> NormalEquations:
    """Accumulate the normal equations with Huber's weights."""
    root_weight = np.sqrt(_weights(corners, residuals, delta))
    M, P = len(state.T_world_board), layout.size
    U, g = np.zeros((P, P)), np.zeros(P)
    V, W, h = np.zeros((M, 6, 6)), np.zeros((M, P, 6)), np.zeros((M, 6))
    for c in range(len(state.models)):
        rows = np.flatnonzero(corners.camera == c)
        if not len(rows):
            continue
        by_camera, by_board = _jacobian(corners, state, c, rows)
        columns = [by_camera[:, :, layout.columns[c]], by_board, residuals[rows, :, None]]
        stacked = np.concatenate(columns, axis=2) * root_weight[rows, None, None]
        place, n = layout.places[c], len(layout.places[c])
        own = corners.camera[layout.starts] == c
        first = np.searchsorted(rows, layout.starts[own])
        last = first + layout.ends[own] - layout.starts[own]
        for m, begin, end in zip(corners.moment[layout.starts[own]], first, last, strict=True):
            a = stacked[begin:end].reshape(-1, n + 7)
            product = a.T @ a
            U[place[:, None], place] += product[:n, :n]
            g[place] += product[:n, -1]
            V[m] += product[n:-1, n:-1]
            W[m, place] += product[:n, n:-1]
            h[m] += product[n:-1, -1]
    return NormalEquations(U, V, W, g, h)


def _moved(
    state: BundleState, layout: _Layout, camera_step: np.ndarray, board_step: np.ndarray
) -> BundleState:
    T_camera = state.T_camera_world.copy()
    intrinsics = []
    for c, vector in enumerate(state.intrinsics):
        full = np.zeros(6 + len(vector))
        full[layout.columns[c]] = camera_step[layout.places[c]]
        T_camera[c, :3, :3] = matrix_from_vector(full[:3]) @ T_camera[c, :3, :3]
        T_camera[c, :3, 3] += full[3:6]
        intrinsics.append(vector + full[6:])
    T_board = state.T_world_board.copy()
    T_board[:, :3, :3] = matrix_from_vector(board_step[:, :3]) @ T_board[:, :3, :3]
    T_board[:, :3, 3] += board_step[:, 3:]
    return replace(
        state, T_camera_world=T_camera, intrinsics=tuple(intrinsics), T_world_board=T_board
    )


def _result(
    corners: Corners,
    state: BundleState,
    layout: _Layout,
    residuals: np.ndarray,
    delta: float,
    iterations: int,
) -> BundleResult:
    """Standard deviations from the undamped reduced system at the optimum."""
    freedom = 2 * len(residuals) - layout.size - 6 * len(state.T_world_board)
    weight = _weights(corners, residuals, delta)
    squares = float((weight[:, None] * residuals**2).sum())
    sigma = np.sqrt(squares / freedom) if freedom > 0 else float("nan")
    variance = np.zeros(layout.size)
    if layout.size:
        S, _, _ = _equations(corners, state, layout, residuals, delta).reduced(0.0)
        scale = 1 / np.sqrt(np.maximum(np.diag(S), 1e-300))
        inverse = np.linalg.pinv(S * scale[:, None] * scale, rcond=1e-14, hermitian=True)
        variance = np.maximum(np.diag(inverse), 0) * scale**2
    std = []
    for c, vector in enumerate(state.intrinsics):
        full = np.zeros(6 + len(vector))
        full[layout.columns[c]] = sigma * np.sqrt(variance[layout.places[c]])
        std.append(full)
    return BundleResult(state, residuals, float(sigma), tuple(std), iterations)
