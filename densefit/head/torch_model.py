"""The head model in torch: batched over people and frames, differentiable, on any device."""

from __future__ import annotations

from typing import Any

import torch

from densefit.head.lids import LID_FIELDS, Lids, settled
from densefit.head.model import BLINKS, EXPRESSION_INDEX, GAZE_EXPRESSIONS, HeadModel
from densefit.head.rotation import torch_rotation_matrix


class TorchHead:
    """Evaluates a HeadModel for batches of (identity, expression, joints)."""

    def __init__(
        self,
        model: HeadModel,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model
        self.device, self.dtype = torch.device(device), dtype

        def put(array: object) -> torch.Tensor:
            return torch.as_tensor(array).to(self.device, dtype)

        self.template = put(model.template)
        self.identity_basis = put(model.identity_basis).reshape(model.identity_count, -1)
        self.expression_basis = put(model.expression_basis).reshape(52, -1)
        self.joint_centres = put(model.joint_centres)
        self.joint_basis = put(model.joint_basis)
        self.skinning = put(model.skinning)
        self.lid_limits = put(model.lid_limits)
        self.landmark_weights = put(model.landmark_weights)
        self.landmark_vertices = torch.as_tensor(model.landmark_vertices).long().to(self.device)
        self.lids = self._put_lids()
        self.turning = {
            j: torch.as_tensor(model.skinning[:, j].nonzero()[0]).to(self.device) for j in (0, 2, 3)
        }

    def _put_lids(self) -> Lids | None:
        """The settling's arrays as tensors: indices as int64, the rest in the model's dtype."""
        if self.model.lids is None:
            return None
        arrays = {name: torch.as_tensor(getattr(self.model.lids, name)) for name in LID_FIELDS}
        kinds = {n: self.dtype if a.is_floating_point() else torch.long for n, a in arrays.items()}
        tensors: dict[str, Any] = {n: a.to(self.device, kinds[n]) for n, a in arrays.items()}
        return Lids(**tensors)

    def _settle(
        self, shape: torch.Tensor, identity: torch.Tensor, psi: torch.Tensor
    ) -> torch.Tensor:
        """Bring lids and lashes of shapes (B, V, 3) onto the eyeballs."""
        lids: Any = self.lids
        if lids is None:
            return shape
        shift = torch.einsum("bk,kjd->bjd", identity, self.joint_basis)[:, 2:][:, lids.side]
        centre = self.joint_centres[2:][lids.side] + shift
        basis = self.expression_basis.reshape(52, -1, 3)[list(BLINKS)]
        before = shape[:, lids.vertices]
        after = settled(
            before, self.template[lids.vertices], basis[lids.side, lids.vertices],
            psi[:, list(BLINKS)][:, lids.side], centre, shift, lids,
        )  # fmt: skip
        move = after - before
        carried = (move[:, lids.lash_anchors] * lids.lash_weights[..., None]).sum(2)
        return shape.index_add(1, lids.vertices, move).index_add(1, lids.lashes, carried)

    def with_gaze(self, expression: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
        """Expressions (B, 52) with the eyeLook entries that follow from the joints (B, 4, 3)."""
        columns = list(expression.unbind(1))
        for side, joint, outward in (("Left", 2, 1.0), ("Right", 3, -1.0)):
            vertical = -joints[:, joint, 0] / self.lid_limits[0]
            horizontal = outward * joints[:, joint, 1] / self.lid_limits[1]
            for name, value in (
                ("Up", vertical), ("Down", -vertical), ("Out", horizontal), ("In", -horizontal),
            ):  # fmt: skip
                columns[EXPRESSION_INDEX[f"eyeLook{name}{side}"]] = value.clamp(0, 1)
        assert len(GAZE_EXPRESSIONS) == 8
        return torch.stack(columns, 1)

    def vertices(
        self, identity: torch.Tensor, expression: torch.Tensor, joints: torch.Tensor
    ) -> torch.Tensor:
        """Vertices (B, V, 3) in the head frame of identity (B, K), expression (B, 52), joints."""
        psi = self.with_gaze(expression, joints)
        offset = identity @ self.identity_basis + psi @ self.expression_basis
        shape = self._settle(self.template + offset.reshape(len(offset), -1, 3), identity, psi)
        centres = self.joint_centres + torch.einsum("bk,kjd->bjd", identity, self.joint_basis)
        rotations = torch_rotation_matrix(joints)
        out = shape.clone()
        for j, touched in self.turning.items():
            arm = shape[:, touched] - centres[:, j, None]
            turned = arm @ rotations[:, j].transpose(1, 2)
            out[:, touched] += self.skinning[touched, j, None] * (turned - arm)
        return out

    def landmarks(self, vertices: torch.Tensor) -> torch.Tensor:
        """The 703 landmarks (B, 703, 3) of vertices (B, V, 3)."""
        corners = vertices[:, self.landmark_vertices]
        return (corners * self.landmark_weights[..., None]).sum(2)
