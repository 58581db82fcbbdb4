"""A small random head and takes of it: what the tests of the fit recover."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration import Camera
from densefit.fit import Observations
from densefit.head.model import EXPRESSION_NAMES, HeadModel
from densefit.head.rotation import axis_angle, rotation_matrix


def tiny_head(modes: int = 6, landmarks: int = 90, seed: int = 0) -> HeadModel:
    """An egg with two eyeballs and a neck; every landmark is a vertex's neighbourhood. Smooth
    random bases."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(landmarks - 20, 3))
    direction[:, 2] = np.abs(direction[:, 2]) * 1.2 - 0.3
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    skin = direction * [0.075, 0.11, 0.095] + [0, -0.03, -0.06]
    eyes = rng.normal(size=(20, 3))
    eyes[:, 2] = np.abs(eyes[:, 2])
    eyes = 0.012 * eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    left, right = np.array([0.031, 0, 0]), np.array([-0.031, 0, 0])
    eyes[:10] += left
    eyes[10:] += right
    points = np.concatenate([skin, eyes])
    # Each landmark is a triangle around its point, so that barycentric weights are used in earnest.
    corners = points[:, None] + rng.normal(size=(landmarks, 3, 3)) * 5e-4
    template = corners.reshape(-1, 3)
    count = len(template)

    def field(scale: float, number: int, rigid: np.ndarray) -> np.ndarray:
        waves = rng.normal(size=(number, 4, 3)) * 25
        phase = rng.uniform(0, 6.28, (number, 4))
        amplitude = rng.normal(size=(number, 4, 3)) * scale
        out = np.einsum(
            "nwc,nwv->nvc",
            amplitude,
            np.sin(np.einsum("nwc,vc->nwv", waves, template) + phase[..., None]),
        )
        return out * rigid[None, :, None]

    skin_only = np.r_[np.ones(3 * len(skin)), np.zeros(3 * len(eyes))]
    identity = field(1.5e-3, modes, skin_only)
    joint_basis = rng.normal(size=(modes, 4, 3)) * 5e-4
    identity[:, 3 * len(skin) : 3 * len(skin) + 30] = joint_basis[:, None, 2]
    identity[:, 3 * len(skin) + 30 :] = joint_basis[:, None, 3]
    skinning = np.zeros((count, 4))
    neck = np.clip((-0.05 - template[:, 1]) / 0.06, 0, 1) * skin_only
    skinning[:, 0] = neck
    skinning[3 * len(skin) : 3 * len(skin) + 30, 2] = 1
    skinning[3 * len(skin) + 30 :, 3] = 1
    skinning[:, 1] = 1 - skinning.sum(1)
    single = np.float32
    triangles = np.arange(count, dtype=np.int32).reshape(-1, 3)
    return HeadModel(
        name="tiny", sha256="0" * 64, template=template.astype(single), triangles=triangles,
        uv=np.zeros((1, 2), single), uv_triangles=np.zeros_like(triangles),
        triangle_part=np.zeros(len(triangles), np.uint8), part_names=("skin",),
        identity_basis=identity.astype(single),
        expression_basis=field(1.5e-3, len(EXPRESSION_NAMES), skin_only).astype(single),
        joint_centres=np.array([[0, -0.1, -0.07], [0, -0.06, -0.06], left, right], single),
        joint_basis=joint_basis.astype(single), skinning=skinning.astype(single),
        landmark_vertices=triangles,
        landmark_weights=rng.dirichlet([4, 4, 4], landmarks).astype(single),
        landmark_region=np.zeros(landmarks, np.uint8), region_names=("skin",),
        face320=np.arange(landmarks), ibug68=np.arange(68), landmarks_version="tiny",
        mirror_vertices=np.arange(count), mirror_landmarks=np.arange(landmarks),
        lid_limits=np.array([0.4, 0.6], single),
    )  # fmt: skip


def look_at_camera(
    azimuth: float,
    elevation: float,
    distance: float,
    focal: float,
    size: tuple[int, int],
    name: str,
) -> Camera:
    """A camera on a sphere about the origin, looking at it; y up is the world's up. Angles in
    rad."""
    a, e = azimuth, elevation
    centre = distance * np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    forward = -centre / distance
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation, -rotation @ centre
    width, height = size
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return Camera(
        name=name, width=width, height=height, model="opencv", K=intrinsics,
        dist=np.zeros(5), T_camera_world=transform, std=None,
    )  # fmt: skip


def camera_ring(count: int, focal: float = 1500.0) -> list[Camera]:
    """Cameras from -40 to 40 degrees about a head that faces +z at the origin."""
    angles = np.deg2rad(np.linspace(-40, 40, count)) if count > 1 else [0.15]
    return [
        look_at_camera(a, 0.1 * (-1) ** i, 0.9, focal, (1280, 960), f"cam{i}")
        for i, a in enumerate(angles)
    ]


@dataclass(frozen=True)
class Truth:
    """Parameters that landmarks were made from."""

    identity: np.ndarray
    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    joints: np.ndarray
    time: np.ndarray

    def world_landmarks(self, head: HeadModel) -> np.ndarray:
        """(T, L, 3)."""
        return world_landmarks(
            head, self.identity, self.expression, self.rotation, self.translation, self.joints
        )


def world_landmarks(head, identity, expression, rotation, translation, joints) -> np.ndarray:
    """Landmarks (T, L, 3) in the world."""
    local = head.landmarks(head.vertices(identity, expression, joints)).astype(np.float64)
    return (
        np.einsum("tij,tkj->tki", rotation_matrix(np.asarray(rotation, float)), local)
        + translation[:, None]
    )


def sample_truth(
    head: HeadModel, frames: int, seed: int = 0, fps: float = 30.0, turn: float = 0.35
) -> Truth:
    """Smooth motion of a random person."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / fps

    def wave(count: int, low: float = 0.1, high: float = 0.6) -> np.ndarray:
        return np.sin(
            6.28 * (rng.uniform(size=count) + rng.uniform(low, high, count) * time[:, None])
        )

    used = rng.uniform(size=52) < 0.4
    used[EXPRESSION_NAMES.index("tongueOut")] = False  # five landmarks that hide: two minima
    expression = np.clip(used * rng.uniform(0.1, 0.6, 52) * (wave(52) * 0.9 + 0.1), 0, 1)
    joints = np.zeros((frames, 4, 3))
    joints[:, 0] = 0.1 * wave(3)
    gaze = 0.2 * wave(2)
    joints[:, 2, :2], joints[:, 3, :2] = gaze + [0, -0.02], gaze + [0, 0.02]
    return Truth(
        identity=rng.normal(size=head.identity_count),
        expression=head.with_gaze(expression, joints),
        rotation=turn * wave(3) * [0.5, 1, 0.4],
        translation=0.03 * wave(3),
        joints=joints,
        time=time,
    )


def observe(
    head: HeadModel,
    cameras: list[Camera],
    truth: Truth,
    noise_px: float = 1.0,
    outliers: float = 0.0,
    seed: int = 1,
) -> Observations:
    """Landmarks as a perfect network with independent errors would see them."""
    rng = np.random.default_rng(seed)
    points = truth.world_landmarks(head)
    frames, count = points.shape[:2]
    xy = np.stack([c.project(points.reshape(-1, 3)).reshape(frames, count, 2) for c in cameras], 1)
    sigma = noise_px * rng.uniform(0.5, 1.5, xy.shape[:3])
    xy = xy + rng.normal(size=xy.shape) * sigma[..., None]
    wrong = rng.uniform(size=xy.shape[:3]) < outliers
    xy[wrong] += rng.normal(size=(int(wrong.sum()), 2)) * 60
    return Observations(
        xy.astype(np.float32),
        np.maximum(sigma, 1e-3).astype(np.float32),
        np.ones(xy.shape[:2], bool),
        truth.time,
    )


def hide(observations: Observations, seen: np.ndarray) -> Observations:
    """The same with pictures marked as not seen: seen (T, C) bool."""
    xy, sigma = observations.xy.copy(), observations.sigma.copy()
    xy[~seen], sigma[~seen] = np.nan, np.nan
    return replace(observations, xy=xy, sigma=sigma, valid=observations.valid & seen)


def turned(truth: Truth, rotation: np.ndarray, translation: np.ndarray) -> Truth:
    """The truth in another world: X' = rotation X + translation."""
    matrices = rotation @ rotation_matrix(truth.rotation)
    return replace(
        truth,
        rotation=axis_angle(matrices),
        translation=truth.translation @ rotation.T + translation,
    )
