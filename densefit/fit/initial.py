"""First poses without luck: triangulation and Procrustes with several cameras, PnP with one.

Every start is refined on the robust energy with the mean head, all cameras together; per frame the
best one is kept. Frames where none is good take the pose of their neighbours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from densefit.fit import so3
from densefit.fit.geometry import cross_columns, rigid_products, unit_columns
from densefit.fit.landmark_term import collapse, head_projection, project, robust_residual
from densefit.fit.linearization import Planes
from densefit.fit.pnp import START_TURNS, pnp_start, turned_starts
from densefit.fit.state import CameraState

Tensor = torch.Tensor

REFINE_SCALES = (100.0, 30.0, 10.0)
REFINE_STEPS = 3
REFINED = 3e-3
"""Relative decrease of every pose's cost below which no more steps are taken at a scale."""
START_LANDMARKS = 240
"""First poses need no more than so many landmarks of one camera, half as many of several."""
GOOD_SCORE = 0.35
"""Mean of 1 - w at the last scale of a trustworthy pose: most landmarks lie within a few sigma, for
a mean head."""
BATCH = 128


def triangulate(planes: Planes, matrices: Tensor, cameras: list[int]) -> tuple[Tensor, Tensor]:
    """World points (T, 3, L) float64 from cameras (C, 3, 4), and the number (T, L) of cameras each
    rests on.

    Linear triangulation (Hartley and Zisserman, 12.2), each row divided by sigma times depth,
    twice.
    """
    xy, precision = planes.xy[:, :, cameras].double(), planes.precision[:, cameras].double()
    p = matrices[cameras]
    frames, _, count, landmarks = xy.shape
    # Rows p0 - u p2 and p1 - v p2: their products are linear in w, w u, w v, w (u^2 + v^2).
    outer = [torch.einsum("ca,cb->cab", p[:, i], p[:, j]) for i, j in ((0, 2), (1, 2))]
    parts = [
        torch.einsum("cia,cib->cab", p[:, :2], p[:, :2]),
        *(-(product + product.mT) for product in outer),
        torch.einsum("ca,cb->cab", p[:, 2], p[:, 2]),
    ]
    products = torch.stack(parts).reshape(4 * count, 16).T.contiguous()
    u, v = xy.unbind(1)
    monomials = torch.stack([torch.ones_like(u), u, v, u * u + v * v], 1)
    weight = precision
    points = torch.zeros(frames, 3, landmarks, dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    for _ in range(2):
        sums = products @ (monomials * weight[:, None]).reshape(frames, 4 * count, landmarks)
        full = sums.reshape(frames, 4, 4, landmarks).permute(0, 3, 1, 2)
        normal, right = full[..., :3, :3], -full[..., :3, 3]
        size = normal.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        ridge = 1e-9 * size + 1e-12
        points = torch.linalg.solve(normal + ridge * eye, right).mT
        depth = p[:, 2, :3] @ points + p[:, 2, 3, None]
        weight = precision / depth.square().clamp_min(1e-4)
    return points.contiguous(), (precision > 0).sum(1)


def procrustes(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (T, 3, 3), shifts (T, 3) with target = R source + t, robust: source (3, L), target
    (T, 3, L).

    Kabsch's solution, reweighted by Geman-McClure at twice the median residual.
    """
    base = weight
    rotation = torch.eye(3, dtype=torch.float64)
    shift = torch.zeros(3, dtype=torch.float64)
    for _ in range(6):
        total = weight.sum(1).clamp_min(1e-12)[:, None]
        mean_source = torch.einsum("cl,tl->tc", source, weight) / total
        mean_target = torch.einsum("tcl,tl->tc", target, weight) / total
        covariance = torch.einsum(
            "tal,tbl,tl->tab",
            target - mean_target[..., None],
            source - mean_source[..., None],
            weight,
        )
        u, _, vh = torch.linalg.svd(covariance)
        sign = torch.ones_like(mean_source)
        sign[:, 2] = torch.linalg.det(u @ vh)
        rotation = (u * sign[:, None]) @ vh
        shift = mean_target - (rotation @ mean_source[..., None])[..., 0]
        distance = (rotation @ source + shift[..., None] - target).square().sum(1)
        scale = (
            torch.where(base > 0, distance, torch.nan)
            .nanmedian(1, keepdim=True)
            .values.clamp_min(1e-10)
        )
        weight = base * (4 * scale / (4 * scale + distance)).square()
    return rotation, shift


def pose_system(
    points: Tensor,
    cameras: CameraState,
    planes: Planes,
    rotation: Tensor,
    shift: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cost (t,), gradient (t, 6), Gauss-Newton matrix (t, 6, 6) of rigid poses, and score (t,) in
    [0, 1]."""
    view = head_projection(cameras.matrices, rotation, shift, points.dtype)
    arm = points.expand(len(rotation), -1, -1)
    residual = robust_residual(project(view, arm), planes.xy, planes.precision, scale)
    information, pull = collapse(view, residual)
    units = unit_columns(information)
    columns = torch.cat([cross_columns(units, arm), units], 1)
    seen = planes.precision > 0
    cost = residual.cost.sum(1)
    score = cost / (0.5 * scale * scale * seen.sum((1, 2)).clamp_min(1))
    gradient = rigid_products(arm, pull[:, None])[..., 0]
    return cost, gradient, rigid_products(arm, columns), score


def refine_poses(
    points: Tensor,
    cameras: CameraState,
    planes: Planes,
    rotation: Tensor,
    shift: Tensor,
    scales: tuple[float, ...] = REFINE_SCALES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Levenberg-Marquardt of each frame's rigid pose by itself. Returns rotation, shift, score
    (t,).

    Args:
        scales: of the robust loss, one after the other; the last one is that of the score.
    """
    damping = torch.full((len(rotation),), 1e-3, dtype=torch.float64)
    eye = torch.eye(6, dtype=torch.float64)
    score = torch.zeros(len(rotation), dtype=torch.float64)
    for scale in scales:
        cost, gradient, matrix, score = pose_system(points, cameras, planes, rotation, shift, scale)
        for _ in range(REFINE_STEPS):
            size = matrix.diagonal(dim1=1, dim2=2)
            damped = (
                matrix
                + torch.diag_embed(damping[:, None] * size + 1e-9 * size.mean(1, keepdim=True))
                + 1e-12 * eye
            )
            step = -torch.linalg.solve(damped, gradient)
            turned = rotation @ so3.exp(step[:, :3])
            shifted = shift + (rotation @ step[:, 3:, None])[..., 0]
            trial = pose_system(points, cameras, planes, turned, shifted, scale)
            better = (trial[0] < cost) & torch.isfinite(trial[0])
            moved = bool((~better | (cost - trial[0] > REFINED * cost)).any())
            keep = better[:, None]
            rotation = torch.where(keep[..., None], turned, rotation)
            shift = torch.where(keep, shifted, shift)
            cost = torch.where(better, trial[0], cost)
            gradient = torch.where(keep, trial[1], gradient)
            matrix = torch.where(keep[..., None], trial[2], matrix)
            score = torch.where(better, trial[3], score)
            damping = torch.where(better, damping / 10, damping * 10).clamp(1e-6, 1e6)
            if not moved:
                break
    return rotation, shift, score


def initial_poses(
    points: Tensor, cameras: CameraState, planes: Planes, known: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Poses of T frames (T, 3, 3), (T, 3) and their scores (T,), nan where no known camera sees the
    head.

    Args:
        points: (3, L) mean head. known: cameras whose extrinsics are known.
    """
    parts = []
    enough = START_LANDMARKS if len(known) == 1 else START_LANDMARKS // 2
    thin = slice(None, None, max(1, -(-points.shape[1] // enough)))
    points, planes = points[:, thin], Planes(planes.xy[..., thin], planes.precision[..., thin])
    for start in range(0, len(planes.xy), BATCH):
        part = slice(start, start + BATCH)
        batch = Planes(planes.xy[part][:, :, known], planes.precision[part][:, known])
        parts.append(_batch_poses(points, select_cameras(cameras, known), batch))
    rotation, shift, score = (torch.cat(p) for p in zip(*parts, strict=True))
    return fill_poses(rotation, shift, score)


def _batch_poses(
    points: Tensor, cameras: CameraState, planes: Planes
) -> tuple[Tensor, Tensor, Tensor]:
    frames = len(planes.xy)
    seen = (planes.precision > 0).any(2)
    best_rotation = torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1)
    best_shift = torch.zeros(frames, 3, dtype=torch.float64)
    best_score = torch.full((frames,), torch.nan, dtype=torch.float64)

    def consider(
        index: Tensor, rotation: Tensor, shift: Tensor, scales: tuple[float, ...] = REFINE_SCALES
    ) -> None:
        part = Planes(planes.xy[index], planes.precision[index])
        rotation, shift, score = refine_poses(points, cameras, part, rotation, shift, scales)
        good = torch.isnan(best_score[index]) | (score < best_score[index])
        at = index[good]
        best_rotation[at], best_shift[at], best_score[at] = rotation[good], shift[good], score[good]

    several = torch.nonzero(seen.sum(1) >= 2).flatten()
    if len(several):
        part = Planes(planes.xy[several], planes.precision[several])
        target, rests_on = triangulate(part, cameras.matrices, list(range(planes.xy.shape[2])))
        weight = torch.where(rests_on >= 2, part.precision.double().sum(1), 0.0).sqrt()
        # Already a robust estimate: only the end of the schedule is needed.
        consider(several, *procrustes(points.double(), target, weight), scales=REFINE_SCALES[-1:])

    def poor() -> Tensor:
        return torch.nonzero(seen.any(1) & ~(best_score < GOOD_SCORE)).flatten()

    mass = planes.precision.double().sum(2)
    found = []
    for t in poor().tolist():
        pose = pnp_start(*_picture(points, cameras, planes, t, int(mass[t].argmax())))
        if pose is not None:
            found.append((t, *_in_world(cameras, int(mass[t].argmax()), *pose)))
    if found:
        frames_found, turns, offsets = zip(*found, strict=True)
        consider(torch.tensor(frames_found), torch.stack(turns), torch.stack(offsets))
    left = poor()
    starts = []
    for t in left.tolist():
        c = int(mass[t].argmax())
        starts.append(
            _in_world(cameras, c, *turned_starts(*_picture(points, cameras, planes, t, c)))
        )
    for n in range(len(START_TURNS) if starts else 0):
        consider(
            left, torch.stack([r[n] for r, _ in starts]), torch.stack([s[n] for _, s in starts])
        )
        if bool((best_score[left] < GOOD_SCORE).all()):
            break
    good = torch.nonzero(best_score < GOOD_SCORE).flatten()
    left = poor()
    if len(good) and len(left):
        nearest = good[(left[:, None] - good).abs().argmin(1)]
        consider(left, best_rotation[nearest], best_shift[nearest])
    return best_rotation, best_shift, best_score


def _picture(
    points: Tensor, cameras: CameraState, planes: Planes, t: int, c: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `pnp_start` for frame t in camera c."""
    xy = planes.xy[t, :, c].double().T.numpy() * float(torch.exp(-cameras.log_focal[c]))
    return points.double().T.numpy(), xy, planes.precision[t, c].double().numpy()


def _in_world(
    cameras: CameraState, c: int, rotation: np.ndarray, shift: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Poses (..., 3, 3), (..., 3) in camera c as poses in the world."""
    back = cameras.rotation[c].T
    return back @ torch.from_numpy(rotation), (
        torch.from_numpy(shift) - cameras.translation[c]
    ) @ back.T


def fill_poses(rotation: Tensor, shift: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames without a good pose take that of the nearest frame with one."""
    limit = score_limit(score)
    good = torch.nonzero(score <= limit).flatten()
    if len(good):
        frames = torch.arange(len(score))
        after = torch.searchsorted(good, frames).clamp(max=len(good) - 1)
        before = (after - 1).clamp(min=0)
        nearest = torch.where(
            (frames - good[before]).abs() < (good[after] - frames).abs(), before, after
        )
        bad = ~(score <= limit)
        rotation = torch.where(bad[:, None, None], rotation[good[nearest]], rotation)
        shift = torch.where(bad[:, None], shift[good[nearest]], shift)
    return rotation, shift, score


def score_limit(score: Tensor) -> float:
    """Worst score of a pose to trust, in a take of which some heads fit worse than others."""
    finite = bool(torch.isfinite(score).any())
    return max(GOOD_SCORE, 2 * float(score.nanmedian())) if finite else GOOD_SCORE


def select_cameras(cameras: CameraState, index: list[int]) -> CameraState:
    """Some of the cameras."""
    return CameraState(
        cameras.rotation[index], cameras.translation[index], cameras.log_focal[index],
        tuple(cameras.free_focal[i] for i in index),
        tuple(cameras.free_extrinsics[i] for i in index),
    )  # fmt: skip


def initial_extrinsics(
    points: Tensor,
    cameras: CameraState,
    planes: Planes,
    camera: int,
    rotation: Tensor,
    shift: Tensor,
    usable: Tensor,
) -> tuple[CameraState, bool]:
    """Place an unknown camera from the head's poses: it sees the same head in the frames (T,) bool
    usable.

    Each common frame votes with T_camera_head T_head_world; the vote closest to all others wins.
    Returns the cameras and whether there was any common frame.
    """
    alone = replace(
        select_cameras(cameras, [camera]),
        rotation=torch.eye(3, dtype=torch.float64)[None],
        translation=torch.zeros(1, 3, dtype=torch.float64),
    )  # fmt: skip
    index = torch.nonzero(usable & (planes.precision[:, camera] > 0).any(1)).flatten()
    if not len(index):
        return cameras, False
    index = index[torch.linspace(0, len(index) - 1, min(len(index), 60)).round().long().unique()]
    part = Planes(planes.xy[index][:, :, [camera]], planes.precision[index][:, [camera]])
    own_rotation, own_shift, score = _batch_poses(points, alone, part)
    votes = own_rotation @ rotation[index].mT
    offsets = own_shift - (votes @ shift[index][..., None])[..., 0]
    apart = (votes[:, None] - votes).square().sum((2, 3)) + (
        offsets[:, None] - offsets
    ).square().sum(2)
    best = int((apart.sqrt().median(1).values + 0.05 * score).argmin())
    turned, moved = cameras.rotation.clone(), cameras.translation.clone()
    turned[camera], moved[camera] = votes[best], offsets[best]
    return replace(cameras, rotation=turned, translation=moved), True
