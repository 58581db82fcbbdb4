"""First extrinsics: relative poses of camera pairs from shared views, chained along a tree."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from calibration.boards import Board
from calibration.bundle import BundleState, Corners
from calibration.errors import CalibrationError
from calibration.poses import board_poses
from calibration.projection import project_with_derivatives
from calibration.rotations import angle_between, invert
from calibration.views import CameraPictures, View, by_moment

# Two estimates of a relative pose agree within this angle and this share of the distance between
# camera and board.
_SAME_ANGLE = np.radians(4)
_SAME_SHARE = 0.08
# At least this share of the shared views must agree, or something is wrong with them.
_AGREEMENT = 0.5
# A second pose of the flat board is kept as a candidate up to this ratio of the errors.
_AMBIGUOUS = 4.0

Poses = dict[tuple[str, int], list[tuple[np.ndarray, float]]]
"""(camera, moment) -> candidates: (4, 4) T_camera_board, rms px."""


@dataclass(frozen=True, eq=False)
class Link:
    """How two cameras are tied together."""

    first: str
    second: str
    shared: int
    """Moments at which both see the board."""
    agreeing: int
    """Of these, how many agree on the relative pose."""
    T_first_second: np.ndarray
    """(4, 4) float64, metres: the second camera's frame to the first's."""


def candidate_poses(
    views: list[View], board: Board, lenses: dict[str, tuple[str, np.ndarray]]
) -> Poses:
    """Board poses of every view; `lenses` gives (model, intrinsics) by camera."""
    poses: Poses = {}
    for view in views:
        found = board_poses(view, board, *lenses[view.camera])
        if found:
            limit = max(_AMBIGUOUS * found[0][1], 0.5)
            poses[view.camera, view.moment] = [pose for pose in found if pose[1] <= limit]
    return poses


def link_cameras(cameras: list[str], poses: Poses) -> list[Link]:
    """The relative pose of every pair that shares a view."""
    moments: dict[str, set[int]] = {name: set() for name in cameras}
    for camera, moment in poses:
        moments[camera].add(moment)
    links = []
    for a, b in itertools.combinations(cameras, 2):
        shared = sorted(moments[a] & moments[b])
        if shared:
            links.append(_link(a, b, shared, poses))
    return links


def _link(a: str, b: str, shared: list[int], poses: Poses) -> Link:
    """The candidate that most moments agree with (a medoid: no mean over wrong ones)."""
    sample = shared[:: max(1, len(shared) // 80)]
    candidates, owner, distance = [], [], []
    for i, moment in enumerate(sample):
        for (Ta, _), (Tb, _) in itertools.product(poses[a, moment], poses[b, moment]):
            candidates.append(Ta @ invert(Tb))
            owner.append(i)
            distance.append(np.linalg.norm(Ta[:3, 3]) + np.linalg.norm(Tb[:3, 3]))
    T, who = np.stack(candidates), np.array(owner)
    angle = angle_between(T[:, None, :3, :3], T[None, :, :3, :3]) / _SAME_ANGLE
    shift = np.linalg.norm(T[:, None, :3, 3] - T[None, :, :3, 3], axis=-1)
    apart = np.maximum(angle, shift / (_SAME_SHARE * np.array(distance)))
    per_moment = np.full((len(T), len(sample)), np.inf)
    for i in range(len(sample)):
        per_moment[:, i] = apart[:, who == i].min(axis=1)
    # Truncated distances rank candidates with equal support by how close it is.
    best = int(np.minimum(per_moment, 1.0).sum(axis=1).argmin())
    agreeing = float((per_moment[best] < 1).mean()) * len(shared)
    return Link(a, b, len(shared), round(agreeing), T[best])


def solve_tree(cameras: list[str], links: list[Link]) -> np.ndarray:
    """Poses of all cameras in the first one's frame, along the best-supported tree.

    Returns:
        (C, 4, 4) T_camera_world, metres.
    Raises:
        CalibrationError: cameras that no shared view ties to the rest.
    """
    pose = {cameras[0]: np.eye(4)}
    while len(pose) < len(cameras):
        open_links = [
            link
            for link in links
            if link.agreeing > 0 and (link.first in pose) != (link.second in pose)
        ]
        if not open_links:
            rest = [name for name in cameras if name not in pose]
            raise CalibrationError(
                f"cameras {', '.join(rest)} never see the board together with "
                f"{', '.join(pose)}; film it again where cameras of both groups see it at the same "
                "time (and check that their clocks agree)"
            )
        link = max(open_links, key=lambda link: (link.agreeing, link.agreeing / link.shared))
        if link.first in pose:
            pose[link.second] = invert(link.T_first_second) @ pose[link.first]
        else:
            pose[link.first] = link.T_first_second @ pose[link.second]
    return np.stack([pose[name] for name in cameras])


def start_state(
    cameras: list[str],
    lenses: dict[str, tuple[str, np.ndarray]],
    T_camera_world: np.ndarray,
    poses: Poses,
    corners: Corners,
    moments: list[int],
) -> BundleState:
    """Cameras from the tree; of each moment the candidate board pose that suits all cameras."""
    T_board = np.tile(np.eye(4), (len(moments), 1, 1))
    bounds = np.searchsorted(corners.moment, np.arange(len(moments) + 1))
    index = {name: c for c, name in enumerate(cameras)}
    per_moment: dict[int, list[np.ndarray]] = {}
    for (camera, moment), found in poses.items():
        to_world = invert(T_camera_world[index[camera]])
        per_moment.setdefault(moment, []).extend(to_world @ T for T, _ in found)
    for m, moment in enumerate(moments):
        rows = slice(bounds[m], bounds[m + 1])
        candidates = per_moment.get(moment, [])
        if not candidates:
            T_board[m, 2, 3] = 1.0
            continue
        errors = [
            _moment_error(T, rows, cameras, lenses, T_camera_world, corners) for T in candidates
        ]
        T_board[m] = candidates[int(np.argmin(errors))]
    models = tuple(lenses[name][0] for name in cameras)
    intrinsics = tuple(np.array(lenses[name][1], float) for name in cameras)
    return BundleState(T_camera_world, models, intrinsics, T_board)


def _moment_error(
    T: np.ndarray,
    rows: slice,
    cameras: list[str],
    lenses: dict[str, tuple[str, np.ndarray]],
    T_camera_world: np.ndarray,
    corners: Corners,
) -> float:
    """px: mean distance of one moment's corners, each at most 50."""
    total, count = 0.0, 0
    world = corners.points[rows] @ T[:3, :3].T + T[:3, 3]
    for c in np.unique(corners.camera[rows]):
        own = corners.camera[rows] == c
        Tc = T_camera_world[c]
        model, intrinsics = lenses[cameras[c]]
        predicted, _, _ = project_with_derivatives(
            model, intrinsics, world[own] @ Tc[:3, :3].T + Tc[:3, 3]
        )
        distance = np.linalg.norm(predicted - corners.xy[rows][own], axis=1)
        total += float(np.minimum(np.nan_to_num(distance, nan=50.0), 50.0).sum())
        count += int(own.sum())
    return total / max(count, 1)


def check_agreement(
    links: list[Link],
    views: list[View],
    board: Board,
    cameras: list[CameraPictures],
    lenses: dict[str, tuple[str, np.ndarray]],
) -> None:
    """Find out why cameras do not agree, before a solver averages over it.

    Raises:
        CalibrationError: a mirrored recording, or pictures that were not taken together.
    """
    names = [camera.name for camera in cameras]
    best: dict[str, float] = {}
    for link in links:
        share = link.agreeing / link.shared
        for name in (link.first, link.second):
            best[name] = max(best.get(name, 0.0), share if link.shared > 2 else 1.0)
    bad = [name for name, share in best.items() if share < _AGREEMENT]
    if not bad or len(names) < 2:
        return
    for camera in cameras:
        if board.kind in ("chessboard", "circles") and camera.name in {
            n
            for link in links
            if link.agreeing < _AGREEMENT * link.shared
            for n in (link.first, link.second)
        }:
            flipped = [
                mirrored(v, board, camera.width) if v.camera == camera.name else v for v in views
            ]
            lens = dict(lenses)
            model, intrinsics = lens[camera.name]
            turned = intrinsics.copy()
            turned[2] = camera.width - 1 - intrinsics[2]
            lens[camera.name] = (model, turned)
            again = link_cameras(names, candidate_poses(flipped, board, lens))
            own = [k for k in again if camera.name in (k.first, k.second) and k.shared > 2]
            # All its links must agree then: with one other camera that is mirrored too, one would.
            if own and min(k.agreeing / k.shared for k in own) > 0.8:
                others = [n for n in names if n != camera.name]
                whom = camera.name if len(others) > 1 else f"{camera.name} (or {others[0]})"
                raise CalibrationError(
                    f"camera '{whom}': its pictures are mirrored; export the recording "
                    "again without mirroring (a selfie camera's preview, a video filter)"
                )
    worst = min(links, key=lambda link: link.agreeing / link.shared)
    raise CalibrationError(
        f"cameras '{worst.first}' and '{worst.second}' contradict each other in "
        f"{worst.shared - worst.agreeing} of {worst.shared} shared pictures of the board: they "
        "were not taken at the same time, or recordings are swapped; check --sync, or film again, "
        "holding the board still"
    )


def mirrored(view: View, board: Board, width: int) -> View:
    """The view as it would be in the mirrored picture; boards without markers only."""
    columns, rows = board.grid
    xy = view.detection.xy.copy()
    xy[:, 0] = width - 1 - xy[:, 0]
    grid = xy.reshape(rows, columns, 2)
    # The reversal that keeps the colours of a chessboard.
    grid = grid[::-1] if rows % 2 == 0 or columns % 2 == 1 else grid[:, ::-1]
    return replace(view, detection=replace(view.detection, xy=grid.reshape(-1, 2)))


def moments_shared(views: list[View], camera: str) -> int:
    """Moments at which a camera sees the board together with another."""
    return sum(len(group) > 1 and camera in group for group in by_moment(views).values())
