"""Fits a head model to points of a scan: metric, rigid motion plus identity plus expression.

Maximum a posteriori with the model's own prior: iteratively reweighted Gauss-Newton on
point-to-plane distances to the closest surface points (Amberg, Knothe and Vetter, "Expression
invariant 3D face recognition with a morphable model", FG 2008), coarse to fine, with weak landmark
terms that hold the correspondence. There is no scale: whoever wants one would let the head shrink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from densefit.head.model import BLINKS, EXPRESSION_INDEX, HeadModel
from densefit.head.rotation import rotation_matrix

Array = np.ndarray[Any, np.dtype[Any]]

# What a face that was asked to be neutral still does.
SLIGHT_EXPRESSIONS = tuple(
    EXPRESSION_INDEX[name]
    for name in (
        "jawOpen", "jawForward", "mouthClose", "mouthShrugUpper", "mouthShrugLower",
        "mouthSmileLeft", "mouthSmileRight", "mouthRollUpper", "mouthRollLower", "mouthPucker",
        "mouthFunnel", "eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight",
        "browDownLeft", "browDownRight", "browInnerUp",
    )
)  # fmt: skip
OUTSIDE = ("skin", "ears", "scalp", "neck")


@dataclass(frozen=True)
class Scan:
    """Points of a face surface with what is known about them; metres, any frame."""

    name: str
    points: Array
    """(N, 3)."""
    normals: Array
    """(N, 3) unit, outwards."""
    landmarks: Array
    """(68, 3) in iBUG order, NaN where unknown."""


@dataclass(frozen=True)
class ScanFitOptions:
    """Weights of the fit."""

    noise: float = 0.35e-3
    """Metres: deviation of the points from the model's surface at the end."""
    effective_points: int | None = 1500
    """Dense points are not independent: they weigh as this many. None: each counts."""
    landmark_noise: float = 4e-3
    """Metres."""
    expression_deviation: float = 0.1
    """Standard deviation of the expression coefficients of a face asked to be neutral; 0: none are
    fitted."""
    blink_deviation: float = 0.5
    """The same of the blinks: some people are scanned with their eyes shut."""
    iterations: int = 14
    coarse_noise: float = 3e-3
    """Metres: the noise of the first iteration."""


@dataclass(frozen=True)
class ScanFit:
    """The fitted head."""

    identity: Array
    """(K,) standard deviations."""
    expression: Array
    """(52,)."""
    vertices: Array
    """(V, 3) metres, head frame."""
    rotation: Array
    """(3, 3): head frame from scan frame."""
    translation: Array
    """(3,) metres."""

    def to_head(self, points: Array) -> Array:
        """Points (..., 3) of the scan's frame in the head frame."""
        return points @ self.rotation.T + self.translation


class ScanFitter:
    """One head model, prepared once for many scans."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        eyeballs = head.part_triangles("eyes", "iris", "pupil")
        outside = head.part_triangles(*OUTSIDE)
        self.triangles = head.triangles[np.concatenate([outside, eyeballs])]
        self.is_skin = np.arange(len(self.triangles)) < len(outside)
        self.modes = head.identity_count
        expression = head.expression_basis[list(SLIGHT_EXPRESSIONS)]
        basis = np.concatenate([head.identity_basis, expression])
        self.basis = np.ascontiguousarray(np.moveaxis(basis, 0, 2), np.float32)
        """(V, 3, K + E)."""

    def fit(self, scan: Scan, options: ScanFitOptions | None = None) -> ScanFit:
        """Fit identity, expression and rigid motion."""
        from densefit.head.build.mesh import similarity

        options = options or ScanFitOptions()
        deviation = np.ones(self.basis.shape[2])
        deviation[self.modes :] = max(options.expression_deviation, 1e-6)
        if options.expression_deviation:
            blinks = np.isin(SLIGHT_EXPRESSIONS, BLINKS)
            deviation[self.modes :][blinks] = options.blink_deviation
        state = _State(np.zeros(len(deviation)), np.eye(3), np.zeros(3))
        known = np.isfinite(scan.landmarks[:, 0])
        vertices = self.head.template.astype(np.float64)
        marks = self.head.landmarks(vertices)[self.head.ibug68]
        if known.sum() >= 3:
            _, state.rotation, _ = similarity(scan.landmarks[known], marks[known])
            middle = scan.landmarks[known].mean(0)
            state.translation = marks[known].mean(0) - state.rotation @ middle
        for number in range(options.iterations):
            # Both the tolerance and the hold of the prior go from coarse to fine.
            late = min(1.0, number / max(1, options.iterations - 3))
            noise = options.coarse_noise ** (1 - late) * options.noise**late
            prior = 20.0 ** max(0.0, 1 - 1.6 * late)
            reach = 25e-3 * (1 - late) + 5e-3 * late
            system = self._points(scan, state, vertices, noise, reach, options.effective_points)
            self._add_landmarks(system, scan.landmarks, known, state, vertices, options)
            vertices = self._step(system, state, deviation, prior)
        expression = np.zeros(52)
        expression[list(SLIGHT_EXPRESSIONS)] = state.coefficients[self.modes :]
        identity = state.coefficients[: self.modes]
        final = self.head.shapes(identity, expression[None])[0]
        return ScanFit(identity, expression, final, state.rotation, state.translation)

    def _points(
        self, scan: Scan, state: _State, vertices: Array, noise: float, reach: float,
        effective: int | None,
    ) -> _System:  # fmt: skip
        """Point-to-plane terms, and a thirtieth of their weight for sliding along the surface."""
        near = closest_on(vertices, self.triangles, state.to_head(scan.points))
        gap = state.to_head(scan.points) - near.points
        distance = np.linalg.norm(gap, axis=1)
        facing = (near.normals * (scan.normals @ state.rotation.T)).sum(1)
        use = self.is_skin[near.triangle] & (facing > 0.5) & (distance < reach)
        weight = np.sqrt(use / np.maximum(1, distance / (2 * noise))) / noise
        if effective is not None:
            weight *= np.sqrt(effective / len(scan.points))
        chosen = np.flatnonzero(use)
        corners, bary = self.triangles[near.triangle[chosen]], near.weights[chosen]
        rows = np.einsum("nc,nckm->nkm", bary.astype(np.float32), self.basis[corners])
        points = state.to_head(scan.points)[chosen]
        system = _System(self.basis.shape[2])
        normal = near.normals[chosen]
        system.add(
            np.einsum("nk,nkm->nm", normal.astype(np.float32), rows), normal, points,
            (normal * gap[chosen]).sum(1), weight[chosen],
        )  # fmt: skip
        some = slice(None, None, 5)
        for axis in range(3):
            along = np.zeros_like(normal)
            along[:, axis] = 1
            system.add(
                rows[some, axis], along[some], points[some], gap[chosen][some, axis],
                weight[chosen][some] * np.sqrt(5 * 0.03),
            )  # fmt: skip
        return system

    def _add_landmarks(
        self, system: _System, landmarks: Array, known: Array, state: _State, vertices: Array,
        options: ScanFitOptions,
    ) -> None:  # fmt: skip
        head, at = self.head, self.head.ibug68[known]
        rows = np.einsum(
            "lc,lckm->lkm", head.landmark_weights[at], self.basis[head.landmark_vertices[at]]
        )
        target = state.to_head(landmarks[known])
        gap = target - head.landmarks(vertices)[at]
        weight = np.full(len(at), 1 / options.landmark_noise)
        for axis in range(3):
            along = np.zeros_like(target)
            along[:, axis] = 1
            system.add(rows[:, axis], along, target, gap[:, axis], weight)

    def _step(self, system: _System, state: _State, deviation: Array, prior: float) -> Array:
        """One Gauss-Newton step; returns the new vertices (V, 3)."""
        count = len(deviation)
        hessian, gradient = system.hessian.copy(), system.gradient.copy()
        hold = prior / deviation**2
        hessian[np.arange(count), np.arange(count)] += hold
        hessian[np.arange(count, count + 6), np.arange(count, count + 6)] += 1e-6
        gradient[:count] -= hold * state.coefficients
        step = np.linalg.solve(hessian, gradient)
        state.coefficients = state.coefficients + step[:count]
        turn = rotation_matrix(step[count : count + 3])
        state.rotation = turn @ state.rotation
        state.translation = turn @ state.translation + step[count + 3 :]
        moved = self.basis.reshape(-1, count) @ state.coefficients.astype(np.float32)
        return self.head.template.astype(np.float64) + moved.reshape(-1, 3)


@dataclass
class _State:
    coefficients: Array
    rotation: Array
    translation: Array

    def to_head(self, points: Array) -> Array:
        return points @ self.rotation.T + self.translation


class _System:
    """Normal equations over coefficients, a small rotation and a translation of the scan."""

    def __init__(self, coefficients: int) -> None:
        self.hessian = np.zeros((coefficients + 6, coefficients + 6))
        self.gradient = np.zeros(coefficients + 6)

    def add(self, rows: Array, along: Array, points: Array, residual: Array, weight: Array) -> None:
        """Terms weight * (rows . step - along . (rotation x points + translation) - residual).

        Args:
            rows: (N, K) derivative of the model along `along`.
            along: (N, 3) unit.
            points: (N, 3) of the scan in the head frame.
            residual: (N,) how far the model lies behind the scan.
            weight: (N,) one over the deviation.
        """
        turning = -np.cross(points, along)
        jacobian = np.concatenate([rows, turning, -along], 1).astype(np.float32)
        jacobian *= weight[:, None].astype(np.float32)
        self.hessian += (jacobian.T @ jacobian).astype(np.float64)
        self.gradient += jacobian.T.astype(np.float64) @ (residual * weight)


@dataclass(frozen=True)
class Closest:
    """Closest surface points: (N, 3) positions, (N,) triangles, weights and normals (N, 3)."""

    points: Array
    triangle: Array
    weights: Array
    normals: Array


def closest_on(vertices: Array, triangles: Array, points: Array) -> Closest:
    """Closest points of a surface to points (N, 3), with interpolated unit normals."""
    from densefit.head.build.mesh import closest, raycaster, vertex_normals

    position, triangle, weights = closest(raycaster(vertices, triangles), points)
    normal = (vertex_normals(vertices, triangles)[triangles[triangle]] * weights[..., None]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    return Closest(position, triangle, weights, normal)


def surface_distance(fitter: ScanFitter, fit: ScanFit, scan: Scan) -> Array:
    """Distances (N,) in metres of the scan's points to the fitted skin; NaN where none counts.

    Points whose closest surface is an eyeball or lies within 1.5 mm of one, or that faces the other
    way (an interior), do not count.
    """
    points = fit.to_head(scan.points)
    near = closest_on(fit.vertices.astype(np.float64), fitter.triangles, points)
    distance = np.linalg.norm(points - near.points, axis=1)
    facing = (near.normals * (scan.normals @ fit.rotation.T)).sum(1) > 0
    eyes = fitter.head.joint_positions(fit.identity)[2:]
    off_eye = np.min([np.linalg.norm(points - eye, axis=1) for eye in eyes], axis=0) > 13.5e-3
    return np.where(fitter.is_skin[near.triangle] & facing & off_eye, distance, np.nan)
