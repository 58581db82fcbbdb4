"""The head model in torch: batched over people and frames, differentiable, on any device."""

from __future__ import annotations

import torch

from densefit.head.model import EXPRESSION_INDEX, GAZE_EXPRESSIONS, HeadModel
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
        self.turning = {
            j: torch.as_tensor(model.skinning[:, j].nonzero()[0]).to(self.device) for j in (0, 2, 3)
        }

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
        shape = self.template + offset.reshape(len(offset), -1, 3)
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
