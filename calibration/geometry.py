"""How a rig stands: baselines, angles, fields of view, what the cameras look at and share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.rig import Rig

# Half the side of the cube around the common point in which overlap is measured, as a share of the
# cameras' distance to it.
_OVERLAP_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class RigGeometry:
    """Figures of a rig, metres and degrees."""

    names: tuple[str, ...]
    positions: np.ndarray
    """(C, 3) centres of projection."""
    forward: np.ndarray
    """(C, 3) unit viewing directions."""
    field_of_view: np.ndarray
    """(C, 2) degrees across and down the picture, through its middle."""
    target: np.ndarray
    """(3,) the point nearest to all optical axes: where the head is expected."""
    off_axis: np.ndarray
    """(C,) degrees between each optical axis and the direction to the target."""
    depth: np.ndarray
    """(C,) metres from each camera to the target along its axis; negative: behind it."""
    baseline: np.ndarray
    """(C, C) metres between centres."""
    angle: np.ndarray
    """(C, C) degrees between optical axes."""
    overlap: np.ndarray
    """(C, C) share of the space around the target seen by camera i that camera j sees too."""
    up: np.ndarray
    """(3,) unit, world: as stated, or the mean camera's -y."""


def placed_cameras(rig: Rig) -> list[Camera]:
    """The cameras with K and extrinsics; CalibrationError where there are none."""
    placed = [c for c in rig.cameras.values() if c.K is not None and c.T_camera_world is not None]
    if not placed:
        raise CalibrationError("no camera has both K and T_camera_world; calibrate the rig first")
    return placed


def rig_geometry(rig: Rig) -> RigGeometry:
    """All figures; cameras without K or extrinsics are left out."""
    cameras = placed_cameras(rig)
    positions = np.stack([camera.position for camera in cameras])
    rotations = np.stack([c.T_camera_world[:3, :3] for c in cameras])  # type: ignore[index]
    forward = rotations[:, 2]
    target = common_point(positions, forward)
    to_target = target - positions
    depth = (to_target * forward).sum(axis=1)
    distance = np.maximum(np.linalg.norm(to_target, axis=1), 1e-12)
    up = rig.up if rig.up is not None else -rotations[:, 1].mean(axis=0)
    return RigGeometry(
        names=tuple(camera.name for camera in cameras),
        positions=positions,
        forward=forward,
        field_of_view=np.stack([field_of_view(camera) for camera in cameras]),
        target=target,
        off_axis=np.degrees(np.arccos(np.clip(depth / distance, -1, 1))),
        depth=depth,
        baseline=np.linalg.norm(positions[:, None] - positions[None], axis=2),
        angle=np.degrees(np.arccos(np.clip(forward @ forward.T, -1, 1))),
        overlap=_overlap(cameras, target, float(np.median(distance))),
        up=np.asarray(up) / max(float(np.linalg.norm(up)), 1e-12),
    )


def common_point(positions: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """(3,) the point with the least sum of squared distances to all axes.

    A single camera, or parallel ones, meet nowhere: then a point 0.6 m ahead, or as far ahead as
    four times the largest baseline.
    """
    projector = np.eye(3) - np.einsum("ci,cj->cij", forward, forward)
    normal = projector.sum(axis=0)
    spread = np.linalg.eigvalsh(normal)
    if spread[0] > 1e-3 * len(positions):
        return np.linalg.solve(normal, np.einsum("cij,cj->i", projector, positions))
    reach = 4 * float(np.linalg.norm(positions - positions[0], axis=1).max()) or 0.6
    return positions.mean(axis=0) + reach * forward.mean(axis=0)


def field_of_view(camera: Camera) -> np.ndarray:
    """(2,) degrees across and down; the lens is taken into account where it has an inverse."""
    assert camera.K is not None
    cx, cy = camera.K[:2, 2]
    edges = np.array([[-0.5, cy], [camera.width - 0.5, cy], [cx, -0.5], [cx, camera.height - 0.5]])
    rays = camera.normalize(edges)
    straight = (edges - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]]
    rays = np.where(np.isfinite(rays), rays, straight)
    angles = np.degrees(np.arctan([rays[0, 0], rays[1, 0], rays[2, 1], rays[3, 1]]))
    return np.array([angles[1] - angles[0], angles[3] - angles[2]])


def _overlap(cameras: Sequence[Camera], target: np.ndarray, distance: float) -> np.ndarray:
    side = _OVERLAP_SHARE * distance * np.linspace(-1, 1, 7)
    grid = np.array(list(itertools.product(side, side, side))) + target
    seen = []
    for camera in cameras:
        xy = camera.project(grid)
        limit = np.array([camera.width - 0.5, camera.height - 0.5])
        with np.errstate(invalid="ignore"):
            seen.append(((xy >= -0.5) & (xy <= limit)).all(axis=1))
    visible = np.array(seen, float)
    return (visible @ visible.T) / np.maximum(visible.sum(axis=1), 1)[:, None]


def describe(geometry: RigGeometry) -> list[str]:
    """The figures as lines of text."""
    lines = ["camera           field of view  to the target  off axis  position (m)"]
    for i, name in enumerate(geometry.names):
        across, down = geometry.field_of_view[i]
        x, y, z = geometry.positions[i]
        lines.append(
            f"{name:<16} {across:5.1f} x {down:5.1f}  {geometry.depth[i]:9.3f} m "
            f" {geometry.off_axis[i]:7.1f}   {x:.3f} {y:.3f} {z:.3f}"
        )
    if len(geometry.names) > 1:
        lines.append("pair                              baseline   angle  overlap")
    for i, j in itertools.combinations(range(len(geometry.names)), 2):
        pair = f"{geometry.names[i]} - {geometry.names[j]}"
        shared = min(geometry.overlap[i, j], geometry.overlap[j, i])
        lines.append(
            f"{pair:<32} {geometry.baseline[i, j]:8.4f} m {geometry.angle[i, j]:6.1f} "
            f" {shared:6.0%}"
        )
    return lines
