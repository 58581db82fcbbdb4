"""Where the camera stands: head pose, distance, focal length and the square that is cut out.

A picture is a square cut from a larger, undistorted photograph, so its principal point may lie far
outside the middle: heads at the edge of a wide-angle picture are stretched as they are in reality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.head.rotation import torch_rotation_matrix
from densefit.synth.sampling import Dice


@dataclass(frozen=True)
class Views:
    """Head pose in front of an OpenCV camera, pixels of the final picture.

    rotation: (B, 3, 3) head to camera; translation: (B, 3) metres; K: (B, 3, 3) px.
    """

    rotation: Tensor
    translation: Tensor
    K: Tensor


@dataclass(frozen=True)
class Poses:
    """Head poses before the cut-out is known: rotation (B, 3, 3) and translation (B, 3) metres,
    and how the cut-out is placed: margin (B,) times the landmark box, shift (B, 2) boxes."""

    rotation: Tensor
    translation: Tensor
    margin: Tensor
    shift: Tensor


def sample_poses(dice: Dice, margin: tuple[float, float], jitter: float) -> Poses:
    """Poses from portrait telephoto to a phone at arm's length.

    Args:
        margin: lowest and highest side of the square over the side of the landmark box.
        jitter: largest shift of the square's centre, in boxes.
    """
    profile = dice.chance(0.3)
    yaw = torch.where(profile, dice.uniform(-1.66, 1.66), dice.normal() * 0.45)
    pitch = torch.where(dice.chance(0.3), dice.uniform(-0.62, 0.62), dice.normal() * 0.2)
    roll = torch.where(dice.chance(0.3), dice.uniform(-0.44, 0.44), dice.normal() * 0.12)
    distance = dice.log_uniform(0.32, 3.0)
    across = torch.stack([dice.uniform(-0.3, 0.3), dice.uniform(-0.2, 0.2)], 1)
    ray = torch.cat([across, torch.ones(dice.count, 1)], 1)
    ray = ray / ray.norm(dim=1, keepdim=True)
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    rotation = (
        _towards(ray) @ facing @ _about(2, roll) @ _about(0, pitch.clamp(-0.65, 0.65))
        @ _about(1, yaw)
    )  # fmt: skip
    scale = dice.uniform(margin[0], margin[1])
    shift = dice.uniform(-jitter, jitter, 2)
    return Poses(rotation, ray * distance[:, None], scale, shift)


def cut_out(poses: Poses, landmarks: Tensor, size: int) -> Views:
    """The square around the landmarks (B, N, 3) of the head frame, `size` pixels a side."""
    points = landmarks @ poses.rotation.transpose(1, 2) + poses.translation[:, None]
    flat = points[..., :2] / points[..., 2:].clamp_min(0.02)
    low, high = flat.amin(1), flat.amax(1)
    box = (high - low).amax(1)
    centre = (low + high) / 2 + poses.shift * box[:, None]
    focal = size / (poses.margin * box)
    K = torch.zeros(len(box), 3, 3, device=box.device)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = (size - 1) / 2 - centre * focal[:, None]
    K[:, 2, 2] = 1
    return Views(poses.rotation, poses.translation, K)


def camera_points(views: Views, points: Tensor) -> Tensor:
    """Points (B, N, 3) of the head frame in camera coordinates, metres."""
    return points @ views.rotation.transpose(1, 2) + views.translation[:, None]


def project(points: Tensor, K: Tensor) -> Tensor:
    """(B, N, 3): x px, y px and 1/z of points (B, N, 3) in camera coordinates."""
    inverse = 1 / points[..., 2:]
    plane = points[..., :2] * inverse
    x = plane[..., :1] * K[:, None, :1, 0] + K[:, None, :1, 2]
    y = plane[..., 1:] * K[:, None, 1:2, 1] + K[:, None, 1:2, 2]
    return torch.cat([x, y, inverse], -1)


def supersampled(K: Tensor, factor: float) -> Tensor:
    """K of a picture `factor` times as large; pixel centres stay at integers in both."""
    out = K * factor
    out[:, :2, 2] = (K[:, :2, 2] + 0.5) * factor - 0.5
    out[:, 2, 2] = 1
    return out


def _about(axis: int, angle: Tensor) -> Tensor:
    vector = torch.zeros(len(angle), 3)
    vector[:, axis] = angle
    return torch_rotation_matrix(vector)


def _towards(ray: Tensor) -> Tensor:
    """The smallest rotation that turns the optical axis to the ray (B, 3)."""
    axis = torch.zeros_like(ray)
    axis[:, 2] = 1
    normal = torch.linalg.cross(axis, ray)
    length = normal.norm(dim=1, keepdim=True)
    angle = torch.atan2(length, ray[:, 2:])
    return torch_rotation_matrix(normal / length.clamp_min(1e-9) * angle)
