"""What is probably wrong with a rig file, and why: from the cameras alone, and from points that
several cameras see."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.camera import Camera
from calibration.geometry import RigGeometry, placed_cameras, rig_geometry
from calibration.rig import Rig
from calibration.rotations import angle_between, invert
from calibration.triangulation import reprojection_errors, triangulate

# Axes of a rig for heads meet: a target this far off the axes, or behind a camera, is no target.
_OFF_AXIS = 35.0
# Metres between camera and head that can be.
_NEAR, _FAR = 0.15, 12.0
# Another reading of the file must be so much better to be named.
_BETTER = 0.5
# Cameras that miss their common point by more than the first share of _OFF_AXIS are doubted where
# another reading misses it by less than the second share of that.
_DOUBTS = ((0.4, 0.3), (0.1, 0.05))
_ALIKE = 0.02
# Residuals (px at 1000 px of focal length) that calibrated cameras and good landmarks stay below.
_FINE = 6.0
# A camera that is worse than the rest by so much has moved.
_WORSE = 2.5
# Focal lengths, as multiples of the picture's longer side, of lenses that film heads: a fisheye
# that sees half the world has a third of it, and at the upper limit a head fills the picture from
# 12 m.
_SHORTEST, _LONGEST = 0.1, 50.0

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Suspicion:
    """Something that is wrong, with its probable cause and remedy."""

    cause: str
    """inverted, opengl, inverted opengl, mirrored, units, picture size, focal length, swapped,
    moved, sync, same recording or unknown; several with "or" between them where nothing tells them
    apart."""
    text: str


def readings(rig: Rig) -> dict[str, Rig]:
    """The rig as it would be had the file been misread in the usual ways."""
    changes = {
        "inverted": lambda T: invert(T),
        "opengl": lambda T: _OPENGL @ T,
        "inverted opengl": lambda T: invert(T @ _OPENGL),
        # The world's or the cameras' x axis reversed: handedness stays only if both are.
        "mirrored": lambda T: np.diag([-1.0, 1, 1, 1]) @ T @ np.diag([-1.0, 1, 1, 1]),
    }
    out = {}
    for name, change in changes.items():
        cameras = {
            n: c
            if c.T_camera_world is None
            else replace(c, T_camera_world=change(c.T_camera_world))
            for n, c in rig.cameras.items()
        }
        out[name] = Rig(cameras)
    return out


REMEDIES = {
    "inverted": "T_camera_world seems to be the camera's pose in the world (camera to world): "
    "invert each matrix",
    "opengl": "the cameras seem to have OpenGL's axes (+y up, +z backwards): reverse the second "
    "and third row of each T_camera_world",
    "inverted opengl": "T_camera_world seems to be camera to world with OpenGL's axes (+y up, +z "
    "backwards), as nerfstudio and Blender have it: reverse the second and third column and invert",
    "mirrored": "the x axis seems to be reversed (a left-handed program, or mirrored pictures): "
    "reverse the first row and the first column of each T_camera_world",
}


def suspicions(rig: Rig) -> list[Suspicion]:
    """What the cameras alone show: inverted extrinsics, wrong axes, wrong units, wrong K."""
    found = [
        suspicion
        for camera in rig.cameras.values()
        for suspicion in (*_wrong_picture(camera), *_wrong_focal(camera))
    ]
    cameras = placed_cameras(rig)
    if len(cameras) < 2:
        return found
    geometry = rig_geometry(rig)
    trouble = _trouble(geometry)
    # Two readings that mirror the whole rig look as good as it does; only points tell them apart.
    others = {n: _trouble(rig_geometry(r)) for n, r in readings(rig).items() if n != "mirrored"}
    best = min(others, key=lambda name: others[name])
    if any(trouble > least and others[best] < share * trouble for least, share in _DOUBTS):
        # Symmetric rigs look well in several readings; then all of them are named.
        alike = [n for n, other in others.items() if other < others[best] + _ALIKE]
        remedy = "; or ".join(REMEDIES[name] for name in alike)
        text = f"the cameras do not look at one point; {remedy}"
        found.append(Suspicion(" or ".join(alike), text))
    elif trouble > 1:
        found.append(
            Suspicion(
                "unknown",
                "the cameras do not look at one point in front of all of them (off axis by "
                f"{geometry.off_axis.max():.0f} degrees); check T_camera_world of "
                f"{geometry.names[int(geometry.off_axis.argmax())]}",
            )
        )
    if trouble <= 1:
        found += _wrong_units(geometry)
    return found


def _trouble(geometry: RigGeometry) -> float:
    """1 and below: the cameras look at something in common; grows with the disagreement."""
    if geometry.angle.max() < 8:
        # Almost parallel cameras side by side meet far away or nowhere; that is no fault.
        behind = (geometry.depth < 0).mean()
        side = _sideways(geometry)
        return 0.5 + 2 * behind * (1 - side)
    return float(np.mean(np.minimum(geometry.off_axis, 180.0)) / _OFF_AXIS)


def _sideways(geometry: RigGeometry) -> float:
    """1: cameras stand side by side as seen along their axes; 0: one behind the other."""
    shift = geometry.positions - geometry.positions.mean(axis=0)
    along = np.abs((shift * geometry.forward.mean(axis=0)).sum(axis=1)).max()
    return float(1 - along / max(float(np.linalg.norm(shift, axis=1).max()), 1e-12))


def _wrong_units(geometry: RigGeometry) -> list[Suspicion]:
    distance = float(np.median(np.linalg.norm(geometry.positions - geometry.target, axis=1)))
    if geometry.angle.max() < 8:
        distance = 4 * float(geometry.baseline.max())
    if _NEAR <= distance <= _FAR:
        return []
    fits = [unit for unit, m in (("cm", 0.01), ("mm", 0.001)) if 0.25 <= distance * m <= 5]
    if fits:
        remedy = f"translations seem to be in {' or '.join(fits)}: write units: {fits[0]}"
    elif distance < _NEAR:
        remedy = "translations seem to be in another unit than the file states; check units"
    else:
        remedy = "check units, or the size of a square that the rig was calibrated with"
    text = f"the cameras stand {distance:.4g} m from what they look at; {remedy}"
    return [Suspicion("units", text)]


def _wrong_picture(camera: Camera) -> list[Suspicion]:
    """K that belongs to a picture of another size."""
    if camera.K is None:
        return []
    off = camera.K[:2, 2] / [camera.width, camera.height] - 0.5
    if np.abs(off).max() < 0.25:
        return []
    swapped = camera.K[:2, 2] / [camera.height, camera.width] - 0.5
    remedy = (
        "width and height may be exchanged"
        if np.abs(swapped).max() < 0.15
        else (
            "K seems to belong to a picture of about "
            f"{2 * camera.K[0, 2]:.0f}x{2 * camera.K[1, 2]:.0f}"
        )
    )
    text = (
        f"camera '{camera.name}': its principal point ({camera.K[0, 2]:.0f}, {camera.K[1, 2]:.0f}) "
        f"is far from the middle of {camera.width}x{camera.height}; {remedy}"
    )
    return [Suspicion("picture size", text)]


def _wrong_focal(camera: Camera) -> list[Suspicion]:
    """A focal length that no lens for filming heads has."""
    if camera.K is None:
        return []
    side = max(camera.width, camera.height)
    odd = [f for f in (camera.K[0, 0], camera.K[1, 1]) if not _SHORTEST <= f / side <= _LONGEST]
    if not odd:
        return []
    text = (
        f"camera '{camera.name}': a focal length of {odd[0]:.4g} px is no lens's for pictures of "
        f"{camera.width}x{camera.height}; K must be in pixels of that size"
    )
    return [Suspicion("focal length", text)]


@dataclass(frozen=True, eq=False)
class Residuals:
    """How points that several cameras see fit the rig."""

    names: tuple[str, ...]
    median: np.ndarray
    """(C,) px: median reprojection error of the triangulated points."""
    points: np.ndarray
    """(N, 3) metres, world."""

    @property
    def overall(self) -> float:
        """px: mean of the cameras' medians."""
        return float(np.nanmean(self.median))


def residuals(cameras: Sequence[Camera], xy: np.ndarray) -> Residuals:
    """Triangulate and project back.

    Args:
        xy: (C, N, 2) px, NaN where unseen.
    """
    points = triangulate(cameras, xy)
    errors = reprojection_errors(cameras, points, xy)
    # A point behind a camera that sees it is as wrong as can be.
    seen = np.isfinite(xy).all(axis=2) & np.isfinite(points).all(axis=1)
    errors = np.where(seen & ~np.isfinite(errors), 1e4, errors)
    median = np.array(
        [np.median(e[s]) if s.any() else np.nan for e, s in zip(errors, seen, strict=True)]
    )
    return Residuals(tuple(c.name for c in cameras), median, points)


def explain(rig: Rig, names: Sequence[str], xy: np.ndarray) -> list[Suspicion]:
    """Why points do not fit: swapped recordings, misread extrinsics, mirrored axes, a moved camera.

    Args:
        names: (C,) cameras of the rig, in the order of `xy`.
        xy: (C, N, 2) px, NaN where unseen.
    Returns:
        Nothing where they fit.
    """
    cameras = [rig.cameras[name] for name in names]
    now = residuals(cameras, xy)
    limit = _FINE * float(np.median([c.K[0, 0] for c in cameras])) / 1000  # type: ignore[index]
    # The mean would hide one bad camera among good ones.
    if len(cameras) < 2 or np.nanmax(now.median) <= limit:
        return []
    trials: dict[str, tuple[float, Suspicion]] = {}
    for i, j in itertools.combinations(range(len(cameras)), 2):
        order = list(range(len(cameras)))
        order[i], order[j] = j, i
        score = residuals(cameras, xy[order]).overall
        text = f"the recordings of '{names[i]}' and '{names[j]}' seem to be exchanged"
        trials[f"swap {i} {j}"] = (
            score,
            Suspicion("swapped", f"{text}; exchange them in the take"),
        )
    for cause, other in readings(rig).items():
        changed = [other.cameras[name] for name in names]
        trials[cause] = (residuals(changed, xy).overall, Suspicion(cause, REMEDIES[cause]))
    moved = _moved(cameras, xy)
    if moved is not None:
        trials["moved"] = moved
    best = min(trials, key=lambda key: trials[key][0])
    score, suspicion = trials[best]
    if score < _BETTER * now.overall:
        text = f"points miss by {now.overall:.1f} px, by {score:.1f} px if so: {suspicion.text}"
        return [Suspicion(suspicion.cause, text)]
    worst = int(np.nanargmax(now.median))
    return [
        Suspicion(
            "unknown",
            f"points miss by {now.overall:.1f} px, most in '{names[worst]}' "
            f"({now.median[worst]:.1f} px), and no usual mistake explains it; check "
            "synchronization, or calibrate again",
        )
    ]


def _moved(cameras: Sequence[Camera], xy: np.ndarray) -> tuple[float, Suspicion] | None:
    """The camera without which the others agree, solved anew from what they see."""
    import cv2

    if len(cameras) < 3:
        return None
    best: tuple[float, Suspicion] | None = None
    for i, camera in enumerate(cameras):
        rest = [c for k, c in enumerate(cameras) if k != i]
        points = residuals(rest, np.delete(xy, i, axis=0)).points
        rays = camera.normalize(xy[i])
        good = np.isfinite(points).all(axis=1) & np.isfinite(rays).all(axis=1)
        if good.sum() < 8:
            continue
        ok, r, t, _ = cv2.solvePnPRansac(
            points[good],
            rays[good],
            np.eye(3),
            None,
            reprojectionError=8 / float(camera.K[0, 0]),  # type: ignore[index]
        )
        if not ok:
            continue
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = cv2.Rodrigues(r)[0], t.ravel()
        again = replace(camera, T_camera_world=T)
        score = residuals([*rest[:i], again, *rest[i:]], xy).overall
        shift = float(np.linalg.norm(again.position - camera.position))
        assert camera.T_camera_world is not None
        turn = float(np.degrees(angle_between(T[:3, :3], camera.T_camera_world[:3, :3])))
        text = (
            f"camera '{camera.name}' seems to have moved since the calibration, by "
            f"{shift * 1e3:.0f} mm and {turn:.1f} degrees; calibrate again, or leave out its "
            "T_camera_world to have it solved from the others"
        )
        if best is None or score < best[0]:
            best = (score, Suspicion("moved", text))
    return best
