"""First and second derivatives of the landmark term by the unknowns of a few frames, and by
identity."""

from __future__ import annotations

from functools import cached_property

import torch

from densefit.fit.geometry import (
    Posed,
    congruence,
    cross_columns,
    rigid_products,
    shape_planes,
    shape_planes_rigid_eyes,
    torque,
    unit_columns,
)
from densefit.fit.landmark_model import SIX, Eye, LandmarkModel

Tensor = torch.Tensor


class FrameDerivatives:
    """t frames at their posed landmarks.

    Rows are first those of 52 expressions, 9 rigid unknowns in the head frame (rotation, shift,
    neck) and 6 of the eyes; then the P unknowns of FrameLayout, to which a fixed small Jacobian
    leads.
    """

    def __init__(
        self,
        model: LandmarkModel,
        posed: Posed,
        pose_jacobian: Tensor,
        gaze: Tensor,
        information: Tensor,
    ) -> None:
        """pose_jacobian (t, 15, 13), gaze (t, 8, 4): d eyeLook / d eyes, information (t, 6, L),
        head frame."""
        self.model, self.posed = model, posed
        self.pose_jacobian, self.gaze = pose_jacobian, gaze
        self.information = information

    def pull_back(self, planes: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
        """Products (t, P, m) of planes (t, m, 3, L) with every frame unknown, and their shape
        planes.

        Gradients are exact. Second derivatives all use the same approximate Jacobian (see
        shape_planes_rigid_eyes): mixed with the exact one, the matrix would not be positive
        definite.
        """
        model, posed = self.model, self.posed
        if exact:
            shape = shape_planes(model, posed, planes)
        else:
            shape = shape_planes_rigid_eyes(model.neck_weight, posed, planes)
        expression = (shape @ model.expression.T).double().mT
        eyes = [
            torque(arm, planes[..., e.index])
            for e, arm in zip(model.eyes, posed.eye_arms, strict=True)
        ]
        pose = torch.cat([rigid_products(posed.arms, planes), *eyes], 1)
        return self._to_unknowns(expression, self.pose_jacobian.mT @ pose), shape

    def frame_blocks(self) -> Tensor:
        """Gauss-Newton blocks (t, P, P)."""
        model, posed = self.model, self.posed
        frames, count = len(self.information), len(model.expression)
        pose = torch.zeros(frames, 15, 15, dtype=torch.float64, device=self.information.device)
        pose[:, :9, :9] = rigid_products(posed.arms, self._rigid_columns)
        mixed = torch.empty(frames, 15, count, dtype=torch.float64, device=self.information.device)
        mixed[:, :9] = (self._rigid_shapes @ model.expression.T).double()
        for e, (eye, columns) in enumerate(zip(model.eyes, self._eye_columns, strict=True)):
            at = slice(9 + 3 * e, 12 + 3 * e)
            pose[:, at, at] = torque(posed.eye_arms[e], columns)
            coupling = rigid_products(posed.arms[..., eye.index], columns)
            pose[:, :9, at], pose[:, at, :9] = coupling, coupling.mT
            mixed[:, at] = self._on_eye(columns, eye, model.expression).double()
        moving = self.shape_information[..., model.moving].reshape(frames, -1)
        products = moving @ model.expression_gram
        expression = (
            products.index_select(1, model.gram_index).reshape(frames, count, count).double()
        )
        jacobian = self.pose_jacobian
        return self._assemble(expression, jacobian.mT @ mixed, jacobian.mT @ pose @ jacobian)

    def identity_cross(self) -> Tensor:
        """Cross blocks (t, P, K) with identity, in the planes' dtype."""
        model = self.model
        frames, basis = len(self.information), model.moving_expression
        moving = self.shape_information[..., model.moving]
        rows = torch.empty(frames, *basis.shape, dtype=model.dtype, device=basis.device)
        for b in range(3):
            rows[:, :, b] = symmetric_row(basis, moving, b)
        expression = rows.reshape(frames * len(basis), -1) @ model.moving_identity.T
        expression = expression.reshape(frames, len(basis), -1)
        rigid = self._rigid_shapes @ model.identity.T
        pairs = zip(model.eyes, self._eye_columns, strict=True)
        eyes = [self._on_eye(columns, eye, model.identity) for eye, columns in pairs]
        pose = self.pose_jacobian.mT.to(model.dtype) @ torch.cat([rigid, *eyes], 1)
        return self._to_unknowns(expression, pose)

    @cached_property
    def shape_information(self) -> Tensor:
        """M^T H M (t, 6, L) with M = u I + w R_neck, u = 1 - w (see shape_planes_rigid_eyes)."""
        information, w = self.information, self.model.neck_weight
        turn = self.posed.neck_rotation
        identity = torch.eye(3, dtype=turn.dtype, device=turn.device).expand_as(turn)
        both = congruence(turn)
        mixed = congruence(turn + identity) - both - congruence(identity)
        # M^T H M = H + w (mixed - 2 H) + w^2 (H - mixed + R^T H R)
        bent = torch.cat([mixed, both], 1) @ information
        cross, turned = bent[:, :6], bent[:, 6:]
        return (
            information + w * (cross - 2 * information) + (w * w) * (information - cross + turned)
        )

    @cached_property
    def _rigid_columns(self) -> Tensor:
        units = unit_columns(self.information)
        arms = (
            cross_columns(units, self.posed.head),
            units,
            cross_columns(units, self.posed.neck_arm),
        )
        return torch.cat(arms, 1)

    @cached_property
    def _rigid_shapes(self) -> Tensor:
        return shape_planes_rigid_eyes(self.model.neck_weight, self.posed, self._rigid_columns)

    @cached_property
    def _eye_columns(self) -> list[Tensor]:
        pairs = zip(self.model.eyes, self.posed.eye_arms, strict=True)
        return [
            cross_columns(unit_columns(self.information[..., eye.index]), arm) for eye, arm in pairs
        ]

    def _on_eye(self, columns: Tensor, eye: Eye, basis: Tensor) -> Tensor:
        """Products (t, 3, m) of an eye's columns with the rows (m, 3 L) of a basis."""
        planes = shape_planes_rigid_eyes(self.model.neck_weight[eye.index], self.posed, columns)
        return planes @ basis.reshape(len(basis), 3, -1)[..., eye.index].reshape(len(basis), -1).T

    def _to_unknowns(self, expression: Tensor, pose: Tensor) -> Tensor:
        """Rows of 52 expressions and 13 pose unknowns to rows of P unknowns: the lids follow the
        eyes."""
        pose = pose.clone()
        pose[:, 9:] += self.gaze.mT.to(pose.dtype) @ expression[:, self.model.gaze]
        return torch.cat([expression[:, self.model.free], pose], 1)

    def _assemble(self, expression: Tensor, mixed: Tensor, pose: Tensor) -> Tensor:
        free, gaze, lids = self.model.free, self.model.gaze, self.gaze
        coupling = mixed[:, :, gaze] @ lids
        pose[:, :, 9:] += coupling
        pose[:, 9:, :] += coupling.mT
        pose[:, 9:, 9:] += lids.mT @ expression[:, gaze][:, :, gaze] @ lids
        rows = mixed[:, :, free]
        rows[:, 9:] += lids.mT @ expression[:, gaze][:, :, free]
        top = torch.cat([expression[:, free][:, :, free], rows.mT], 2)
        return torch.cat([top, torch.cat([rows, pose], 2)], 1)


def symmetric_row(basis: Tensor, six: Tensor, b: int) -> Tensor:
    """Row b of G basis: basis (m, 3, L), six planes of G (t, 6, L) to (t, m, L)."""
    out = basis[:, 0] * six[:, None, SIX[0][b]]
    out.addcmul_(basis[:, 1], six[:, None, SIX[1][b]])
    return out.addcmul_(basis[:, 2], six[:, None, SIX[2][b]])
