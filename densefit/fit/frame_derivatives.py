"""First and second derivatives of the landmark term by the unknowns of a few frames, and by
identity."""

from __future__ import annotations

from functools import cached_property

import torch

from densefit.fit.geometry import (
    Posed,
    congruence,
    cross_columns,
    neck_planes,
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
        shape = (shape_planes if exact else shape_planes_rigid_eyes)(model, posed, planes)
        expression = (shape @ model.expression.T).double().mT
        neck = torque(posed.neck_arm, planes[..., model.neck])
        eyes = [
            torque(arm, planes[..., e.index])
            for e, arm in zip(model.eyes, posed.eye_arms, strict=True)
        ]
        pose = torch.cat([rigid_products(posed.head, planes), neck, *eyes], 1)
        return self._to_unknowns(expression, self.pose_jacobian.mT @ pose), shape

    def frame_blocks(self, out: Tensor) -> None:
        """Write the Gauss-Newton blocks (t, P, P), float64."""
        model = self.model
        free, size = model.free, len(model.free)
        pairs = self._expression_pairs()
        out[:, :size, :size] = _matrix(pairs, model.pair_places[free][:, free])
        # The lids follow the eyes: columns of the eyeLook shapes come in by their slopes.
        lids = self.gaze.mT
        drawn = lids @ _matrix(pairs, model.pair_places[model.gaze]).double()
        pose, mixed = self._pose_blocks()
        mixed[:, 9:] += drawn
        coupling = mixed[:, :, model.gaze] @ self.gaze
        coupling[:, 9:] -= 0.5 * drawn[:, :, model.gaze] @ self.gaze
        pose[:, :, 9:] += coupling
        pose[:, 9:] += coupling.mT
        rows = mixed[:, :, free]
        out[:, size:, :size], out[:, :size, size:] = rows, rows.mT
        out[:, size:, size:] = pose

    def _expression_pairs(self) -> Tensor:
        """Products (t, n + 1) of the pairs of expressions at work: zero, then by `pair_places`."""
        # Frames innermost: what is gathered then are rows, many times faster than columns.
        model, first = self.model, self.model.pair_rounds[0]
        rows = self.shape_information.flatten(1).T.contiguous().index_select(0, model.group_rows)
        products = rows.new_empty(sum(gram.shape[1] for gram in model.grams), rows.shape[1])
        out = rows.new_zeros(len(first) + 1, rows.shape[1])
        high, end = 0, 0
        for gram in model.grams:
            low, start = high, end
            high, end = low + len(gram), start + gram.shape[1]
            torch.mm(gram.T, rows[low:high], out=products[start:end])
        for places in model.pair_rounds:
            out[1 : len(places) + 1] += products.index_select(0, places)
        return out.T.contiguous()

    def _pose_blocks(self) -> tuple[Tensor, Tensor]:
        """Products of the 13 pose unknowns with one another and with the 52 expressions, float64,
        but for what the lids add."""
        model, posed = self.model, self.posed
        frames, expression = len(self.information), model.expression
        pose = self.information.new_zeros(frames, 15, 15, dtype=torch.float64)
        mixed = pose.new_empty(frames, 15, len(expression))
        pose[:, :6, :6] = rigid_products(posed.head, self._rigid_columns)
        mixed[:, :6] = self._on_rigid(expression)
        neck = self._neck_columns
        pose[:, :6, 6:9] = rigid_products(posed.head[..., model.neck], neck)
        pose[:, 6:9, :6] = pose[:, :6, 6:9].mT
        pose[:, 6:9, 6:9] = torque(posed.neck_arm, neck)
        mixed[:, 6:9] = self._on_neck(expression)
        for e, (eye, columns) in enumerate(zip(model.eyes, self._eye_columns, strict=True)):
            at = slice(9 + 3 * e, 12 + 3 * e)
            pose[:, at, at] = torque(posed.eye_arms[e], columns)
            pose[:, :6, at] = rigid_products(posed.head[..., eye.index], columns)
            own, bent = eye.shared
            pose[:, 6:9, at] = torque(posed.neck_arm[..., bent], columns[..., own])
            pose[:, at, :9] = pose[:, :9, at].mT
            mixed[:, at] = self._on_eye(columns, eye, expression)
        jacobian = self.pose_jacobian
        return jacobian.mT @ pose @ jacobian, jacobian.mT @ mixed

    def identity_cross(self, out: Tensor) -> None:
        """Write the cross blocks (t, P, K) with identity."""
        model, identity, size = self.model, self.model.identity, len(self.model.free)
        # Frames innermost, as in `_expression_pairs`.
        six = self.shape_information.permute(1, 2, 0).contiguous()
        drawn = out.new_empty(len(out), len(model.gaze), len(identity))
        place = dict(zip(model.free.tolist(), out[:, :size].unbind(1), strict=True))
        place |= dict(zip(model.gaze.tolist(), drawn.unbind(1), strict=True))
        for number, moved in enumerate(model.moved):
            rows = bent(moved.expression, six.index_select(1, moved.index))
            torch.mm(rows.flatten(0, 1).T, moved.identity, out=place[number])
        pairs = zip(model.eyes, self._eye_columns, strict=True)
        eyes = [self._on_eye(columns, eye, identity) for eye, columns in pairs]
        rows = torch.cat([self._on_rigid(identity), self._on_neck(identity), *eyes], 1)
        out[:, size:] = self.pose_jacobian.mT.to(out.dtype) @ rows
        out[:, size + 9 :] += self.gaze.mT.to(out.dtype) @ drawn

    @cached_property
    def shape_information(self) -> Tensor:
        """M^T H M (t, 6, L) with M = u I + w R_neck, u = 1 - w (see shape_planes_rigid_eyes)."""
        model, turn = self.model, self.posed.neck_rotation
        w = model.neck_weight[model.neck]
        information = self.information[..., model.neck]
        identity = torch.eye(3, dtype=turn.dtype, device=turn.device).expand_as(turn)
        both = congruence(turn)
        mixed = congruence(turn + identity) - both - congruence(identity)
        # M^T H M = H + w (mixed - 2 H) + w^2 (H - mixed + R^T H R)
        cross, turned = mixed @ information, both @ information
        out = self.information.clone()
        out[..., model.neck] = (
            information + w * (cross - 2 * information) + (w * w) * (information - cross + turned)
        )
        return out

    @cached_property
    def _rigid_columns(self) -> Tensor:
        """(t, 6, 3, L): information times the columns of rotation and shift."""
        information, head = self.information, self.posed.head
        out = information.new_empty(len(information), 6, 3, information.shape[2])
        for row in range(3):
            out[:, 3 + row] = information[:, SIX[row]]
        x, y, z = head[:, 0:1], head[:, 1:2], head[:, 2:3]
        a, b, c = out[:, 3:].unbind(1)
        for column, (p, q, arm, other) in enumerate(((c, b, y, z), (a, c, z, x), (b, a, x, y))):
            torch.mul(p, arm, out=out[:, column]).addcmul_(q, other, value=-1)
        return out

    def _on_rigid(self, basis: Tensor) -> Tensor:
        """Products (t, 6, m) of the rigid columns with the rows (m, 3 L) of a basis."""
        bent = self._rigid_columns[..., self.model.neck]
        change = (neck_planes(self.model, self.posed, bent) - bent).flatten(2)
        return self._rigid_columns.flatten(2) @ basis.T + change @ self._of_neck(basis)

    @cached_property
    def _neck_columns(self) -> Tensor:
        """(t, 3, 3, Ln)."""
        units = unit_columns(self.information[..., self.model.neck])
        return cross_columns(units, self.posed.neck_arm)

    def _on_neck(self, basis: Tensor) -> Tensor:
        """Products (t, 3, m) of the neck's columns with the rows (m, 3 L) of a basis."""
        model = self.model
        planes = neck_planes(model, self.posed, self._neck_columns).flatten(2)
        return planes @ self._of_neck(basis)

    def _of_neck(self, basis: Tensor) -> Tensor:
        """Rows (3 Ln, m) of a basis (m, 3 L) on the landmarks that the neck turns."""
        return basis.reshape(len(basis), 3, -1)[..., self.model.neck].flatten(1).T

    @cached_property
    def _eye_columns(self) -> list[Tensor]:
        pairs = zip(self.model.eyes, self.posed.eye_arms, strict=True)
        return [
            cross_columns(unit_columns(self.information[..., eye.index]), arm) for eye, arm in pairs
        ]

    def _on_eye(self, columns: Tensor, eye: Eye, basis: Tensor) -> Tensor:
        """Products (t, 3, m) of an eye's columns with the rows (m, 3 L) of a basis."""
        own, bent = eye.shared
        planes = columns.clone()
        turned = self.posed.neck_rotation.mT[:, None] @ planes[..., own]
        weight = self.model.neck_weight[self.model.neck[bent]]
        planes[..., own] += weight * (turned - planes[..., own])
        return planes.flatten(2) @ basis.reshape(len(basis), 3, -1)[..., eye.index].flatten(1).T

    def _to_unknowns(self, expression: Tensor, pose: Tensor) -> Tensor:
        """Rows of 52 expressions and 13 pose unknowns to rows of P unknowns: the lids follow the
        eyes."""
        pose = pose.clone()
        pose[:, 9:] += self.gaze.mT.to(pose.dtype) @ expression[:, self.model.gaze]
        return torch.cat([expression[:, self.model.free], pose], 1)


def _matrix(pairs: Tensor, places: Tensor) -> Tensor:
    """Products (t, n + 1) laid out as matrices (t, *places.shape)."""
    return pairs.index_select(1, places.reshape(-1)).reshape(len(pairs), *places.shape)


def bent(basis: Tensor, six: Tensor) -> Tensor:
    """G e: basis (3, L, m) and six planes of G (6, L, n) to (3, L, m or n), one of which is 1."""
    wide = basis if basis.shape[2] > 1 else six  # torch.broadcast_shapes takes as long as the rest
    out = six.new_empty(3, *wide.shape[1:])
    for b in range(3):
        row = torch.mul(six[SIX[0][b]], basis[0], out=out[b])
        row.addcmul_(six[SIX[1][b]], basis[1]).addcmul_(six[SIX[2][b]], basis[2])
    return out
