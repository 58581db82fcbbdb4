"""Landmarks of a posed head, and products of planes with the derivatives of their positions.

Everything here lives in the head frame. A landmark's displacement there is

    d X = w x X + d  +  n x (neck arm)  +  e x (eye arm)  +  M (E psi + B beta)

for a small rotation w and shift d of the head, n of the neck joint and e of an eye joint, with
arm = weight * R_j (S - c_j) and M = sum_j weight_j R_j. Moments of planes with the arms give all
products with the rotation columns: no column is ever written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from densefit.fit import so3
from densefit.fit.landmark_model import PAIRS, SIX, LandmarkModel
from densefit.fit.state import Motion

Tensor = torch.Tensor


@dataclass(frozen=True)
class Rotations:
    """Joint rotations and their derivatives, float64."""

    neck: Tensor
    """(T, 3, 3)."""
    eyes: tuple[Tensor, Tensor]
    """(T, 3, 3) of the left and the right eye."""
    pose_jacobian: Tensor
    """(T, 15, 13): head-frame rotation, shift, neck, left eye, right eye by the pose unknowns."""

    def take(self, part: slice) -> Rotations:
        """Some of the frames."""
        return Rotations(
            self.neck[part], (self.eyes[0][part], self.eyes[1][part]), self.pose_jacobian[part]
        )


def rotations(motion: Motion) -> Rotations:
    """Rotation matrices of the joints and the derivative of the pose."""
    frames = len(motion)
    zero = torch.zeros_like(motion.eyes[:, :1])
    vectors = [torch.cat([motion.eyes[:, 2 * e : 2 * e + 2], zero], 1) for e in (0, 1)]
    jacobian = torch.zeros(frames, 15, 13, dtype=torch.float64, device=zero.device)
    jacobian[:, :3, :3] = torch.eye(3, dtype=torch.float64, device=zero.device)
    jacobian[:, 3:6, 3:6] = motion.rotation.mT
    jacobian[:, 6:9, 6:9] = so3.left_jacobian(motion.neck)
    for e, vector in enumerate(vectors):
        jacobian[:, 9 + 3 * e : 12 + 3 * e, 9 + 2 * e : 11 + 2 * e] = so3.left_jacobian(vector)[
            ..., :2
        ]
    return Rotations(so3.exp(motion.neck), (so3.exp(vectors[0]), so3.exp(vectors[1])), jacobian)


@dataclass(frozen=True)
class Posed:
    """Landmarks of t frames: planes (t, 3, L)."""

    head: Tensor
    """Head frame."""
    neck_arm: Tensor
    """(t, 3, Ln) on the landmarks that the neck turns."""
    eye_arms: tuple[Tensor, Tensor]
    """(t, 3, Le) on the landmarks of each eye."""
    neck_rotation: Tensor
    """(t, 3, 3) in the planes' dtype."""
    eye_rotations: tuple[Tensor, Tensor]
    head_rotation: Tensor
    head_translation: Tensor
    """(t, 3)."""

    @cached_property
    def world(self) -> Tensor:
        """The landmarks in the world."""
        return torch.baddbmm(self.head_translation[..., None], self.head_rotation, self.head)


def neutral_planes(model: LandmarkModel, identity: Tensor) -> Tensor:
    """Landmarks (3, L) of a person at rest."""
    return model.template + (identity.to(model.dtype) @ model.identity).reshape(3, -1)


@dataclass(frozen=True)
class Person:
    """A head at rest, in the planes' dtype."""

    planes: Tensor
    """(3, L)."""
    neck: Tensor
    """(3, 1): the neck joint."""
    eyes: tuple[Tensor, Tensor]
    """(3, Le): what the landmarks of each eye turn about."""


def person(model: LandmarkModel, identity: Tensor) -> Person:
    """The head that an identity (K,) makes."""
    own = identity.to(model.dtype)
    left, right = (eye.centre + (own @ eye.basis).reshape(3, -1) for eye in model.eyes)
    neck = (model.neck_centre + identity @ model.neck_basis).to(model.dtype)
    return Person(neutral_planes(model, identity), neck[:, None], (left, right))


def pose_landmarks(model: LandmarkModel, whose: Person, motion: Motion, turns: Rotations) -> Posed:
    """Pose the landmarks of t frames of a person."""
    dtype = model.dtype
    shape = torch.addmm(whose.planes.reshape(-1), motion.expression.to(dtype), model.expression)
    shape = shape.reshape(len(motion), 3, -1)
    neck = turns.neck.to(dtype)
    bent, weight = model.neck, model.neck_weight[model.neck]
    neck_arm = weight * (neck @ (shape[..., bent] - whose.neck))
    head = shape * model.still_weight
    head.index_add_(2, bent, neck_arm + weight * whose.neck)
    arms, eye_rotations = [], []
    for eye, centre, rotation in zip(model.eyes, whose.eyes, turns.eyes, strict=True):
        turn = rotation.to(dtype)
        arm = eye.weight * (turn @ (shape[..., eye.index] - centre))
        head.index_add_(2, eye.index, arm + eye.weight * centre)
        arms.append(arm)
        eye_rotations.append(turn)
    return Posed(
        head=head,
        neck_arm=neck_arm,
        eye_arms=(arms[0], arms[1]),
        neck_rotation=neck,
        eye_rotations=(eye_rotations[0], eye_rotations[1]),
        head_rotation=motion.rotation.to(dtype),
        head_translation=motion.translation.to(dtype),
    )


def congruence(a: Tensor) -> Tensor:
    """(t, 6, 6) with six(A^T H A) = congruence(A) @ six(H) for symmetric H in PAIRS order; A (t, 3,
    3)."""
    i, j = torch.tensor(PAIRS, device=a.device).T
    flat = a.flatten(1)
    # Rows (i, j), columns (p, q): A_pi A_qj, and A_qi A_pj where p is not q.
    pi, qj, qi, pj = (3 * r + c[:, None] for r, c in ((i, i), (j, j), (j, i), (i, j)))
    return flat[:, pi] * flat[:, qj] + (i != j) * flat[:, qi] * flat[:, pj]


def unit_columns(information: Tensor) -> Tensor:
    """H [unit columns]: (t, 6, N) to (t, 3 columns, 3, N)."""
    return information[:, [a for row in SIX for a in row]].reshape(len(information), 3, 3, -1)


def cross_columns(units: Tensor, arm: Tensor) -> Tensor:
    """H [columns e_i x arm] from H's unit columns (t, 3, 3, N) and arm (t, 3, N): (t, 3 columns, 3,
    N)."""
    x, y, z = arm[:, 0:1], arm[:, 1:2], arm[:, 2:3]
    a, b, c = units.unbind(1)
    return torch.stack([c * y - b * z, a * z - c * x, b * x - a * y], 1)


def torque(arm: Tensor, planes: Tensor) -> Tensor:
    """sum over landmarks of arm x plane: (t, 3, N) and (t, m, 3, N) to (t, 3, m) float64."""
    frames, m = planes.shape[:2]
    moments = (arm @ planes.reshape(frames, 3 * m, -1).mT).double().reshape(frames, 3, m, 3)
    return _cross(moments)


def rigid_products(arm: Tensor, planes: Tensor) -> Tensor:
    """Products with the rotations about the head's axes and its shifts: arm (t, 3, N), planes (t,
    m, 3, N) to (t, 6, m) float64."""
    frames, m = planes.shape[:2]
    arms = torch.cat([arm, torch.ones_like(arm[:, :1])], 1)
    moments = (arms @ planes.reshape(frames, 3 * m, -1).mT).double().reshape(frames, 4, m, 3)
    return torch.cat([_cross(moments[:, :3]), moments[:, 3].mT], 1)


def _cross(moments: Tensor) -> Tensor:
    """moments (t, 3 arm, m, 3 plane) to (t, 3, m)."""
    twisted = moments - moments.transpose(1, 3)
    return torch.stack([twisted[:, 1, :, 2], twisted[:, 2, :, 0], twisted[:, 0, :, 1]], 1)


def shape_planes(model: LandmarkModel, posed: Posed, planes: Tensor) -> Tensor:
    """M^T planes, exact: (t, m, 3, L) to (t, m, 3 L)."""
    out = planes * model.still_weight
    out.index_add_(
        3, model.neck,
        model.neck_weight[model.neck] * (posed.neck_rotation.mT[:, None] @ planes[..., model.neck]),
    )  # fmt: skip
    for eye, turn in zip(model.eyes, posed.eye_rotations, strict=True):
        out.index_add_(3, eye.index, eye.weight * (turn.mT[:, None] @ planes[..., eye.index]))
    return out.flatten(2)


def shape_planes_rigid_eyes(model: LandmarkModel, posed: Posed, planes: Tensor) -> Tensor:
    """M^T planes (t, m, 3, L) with eyes that follow identity without turning, for second
    derivatives.

    An eyeball's landmarks move with what they turn about when identity or the network's bias
    changes, whatever its rotation: for them M = I is next to the true derivative, and the turned
    basis is not.
    """
    out = planes.clone()
    out[..., model.neck] = neck_planes(model, posed, planes[..., model.neck])
    return out.flatten(2)


def neck_planes(model: LandmarkModel, posed: Posed, planes: Tensor) -> Tensor:
    """M^T planes (t, m, 3, Ln) on the landmarks that the neck turns."""
    turned = posed.neck_rotation.mT[:, None] @ planes
    return torch.addcmul(planes, model.neck_weight[model.neck], turned - planes)
