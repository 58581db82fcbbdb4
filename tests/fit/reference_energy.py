"""The energy of the fit written down a second time, plainly, for autograd: what the solver must
minimise.

One vector per landmark, no planes, no collapse: residuals by the definition in docs and options.
"""

from __future__ import annotations

import torch

from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.priors import Priors
from densefit.head.model import GAZE_EXPRESSIONS, HeadModel


def rotation(vector: torch.Tensor) -> torch.Tensor:
    """(..., 3) to (..., 3, 3) by the matrix exponential."""
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    return torch.matrix_exp(
        torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*vector.shape, 3)
    )


class ReferenceEnergy:
    """E(identity, frames, cameras) in float64; frames (T, 44 + 3 + 3 + 3 + 4), rotation as
    axis-angle."""

    def __init__(
        self, head: HeadModel, base, cameras, xy, precision, priors: Priors, scale, correlation
    ):
        f8 = torch.float64
        rows = lambda a: torch.tensor(head.landmarks(a.astype("float64")), dtype=f8)  # noqa: E731
        self.template, self.identity_basis = rows(head.template), rows(head.identity_basis)
        self.expression_basis = rows(head.expression_basis)
        skin = torch.tensor(head.skinning[head.landmark_vertices], dtype=f8)
        self.skinning = (skin * torch.tensor(head.landmark_weights, dtype=f8)[..., None]).sum(1)
        self.centres = torch.tensor(head.joint_centres, dtype=f8)
        self.joint_basis = torch.tensor(head.joint_basis, dtype=f8)
        self.bias_basis = self.identity_basis[:0]
        self.limits = torch.tensor(head.lid_limits, dtype=f8)
        self.free = [i for i in range(52) if i not in GAZE_EXPRESSIONS]
        self.base, self.cameras = base, cameras
        self.xy, self.precision = xy, precision
        self.priors, self.scale, self.correlation = priors, scale, correlation

    def add_bias(self, model: LandmarkModel) -> None:
        """The model's modes of bias, which move landmarks and nothing else, in the frame that the
        neck turns but no eye."""
        columns = model.identity[len(model.identity) - model.bias :].double()
        self.bias_basis = columns.reshape(model.bias, 3, -1).mT

    def gaze(self, eyes: torch.Tensor) -> torch.Tensor:
        """(T, 8) in index order: Down, In, Out, Up of the left eye, then of the right eye."""
        out = []
        for x, y in ((eyes[:, 0], eyes[:, 1]), (eyes[:, 2], -eyes[:, 3])):
            v, h = -x / self.limits[0], y / self.limits[1]
            out += [-v, -h, h, v]
        return torch.stack(out, 1).clamp(0, 1)

    def world(self, identity: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """(T, L, 3)."""
        count = len(frames)
        free, turn, shift, neck, eyes = frames.split([len(self.free), 3, 3, 3, 4], 1)
        psi = torch.zeros(count, 52, dtype=frames.dtype)
        psi = psi.index_copy(1, torch.tensor(self.free), free)
        psi = psi.index_copy(1, torch.tensor(GAZE_EXPRESSIONS), self.gaze(eyes))
        identity, bias = identity.split([len(self.identity_basis), len(self.bias_basis)])
        beside = torch.einsum("k,klc->lc", bias, self.bias_basis)
        shape = self.template + torch.einsum("k,klc->lc", identity, self.identity_basis)
        shape = shape + torch.einsum("te,elc->tlc", psi, self.expression_basis)
        centres = self.centres + torch.einsum("k,kjc->jc", identity, self.joint_basis)
        zero = torch.zeros(count, 1, dtype=frames.dtype)
        joints = [
            neck,
            torch.zeros_like(neck),
            torch.cat([eyes[:, :2], zero], 1),
            torch.cat([eyes[:, 2:], zero], 1),
        ]
        head = 0
        for j, vector in enumerate(joints):
            turned = (shape - centres[j]) @ rotation(vector).mT + centres[j]
            turned = turned + (beside if j > 1 else beside @ rotation(vector).mT)
            head = head + self.skinning[:, j, None] * turned
        return head @ (self.base @ rotation(turn)).mT + shift[:, None]

    def landmarks(
        self, identity: torch.Tensor, frames: torch.Tensor, cameras: torch.Tensor
    ) -> torch.Tensor:
        """E_landmarks / correlation. cameras: step of the camera columns."""
        points = self.world(identity, frames)
        total = torch.zeros((), dtype=torch.float64)
        for c, (extrinsics, focal) in enumerate(self.cameras.columns()):
            local = points @ self.cameras.rotation[c].mT + self.cameras.translation[c]
            if extrinsics is not None:
                local = local @ rotation(cameras[extrinsics][:3]).mT + cameras[extrinsics][3:]
            log_focal = self.cameras.log_focal[c] + (cameras[focal] if focal is not None else 0)
            image = torch.exp(log_focal) * local[..., :2] / local[..., 2:]
            s = ((image - self.xy[:, c]) ** 2).sum(-1) * self.precision[:, c]
            total = total + (0.5 * self.scale**2 * s / (s + self.scale**2)).sum()
        return total / self.correlation

    def prior(
        self, identity: torch.Tensor, frames: torch.Tensor, cameras: torch.Tensor
    ) -> torch.Tensor:
        """Everything else."""
        p, n = self.priors, len(self.free)
        values = frames.clone()
        values[:, n : n + 6] = 0
        total = (
            0.5 * (values @ p.frame * values).sum() + 0.5 * p.identity_weight * identity @ identity
        )
        total = total + (values @ p.rest).sum()
        turns = self.base @ rotation(frames[:, n : n + 3])
        for t in range(len(frames) - 1):
            relative = turns[t].T @ turns[t + 1]
            skew = relative - relative.T
            sine = torch.stack([skew[2, 1], skew[0, 2], skew[1, 0]]) / 2
            size = (sine.square().sum() + 1e-30).sqrt()
            angle = torch.atan2(size, (relative.trace() - 1) / 2)
            change = frames[t + 1] - frames[t]
            change = torch.cat([change[:n], sine / size * angle, change[n + 3 :]])
            total = total + 0.5 * p.link_weights[t] * (change @ p.link @ change)
        known = p.cameras
        for c, (extrinsics, focal) in enumerate(self.cameras.columns()):
            if extrinsics is not None and known.rotation_sd[c] < float("inf"):
                turn = rotation(cameras[extrinsics][:3])
                apart = turn @ self.cameras.rotation[c] @ known.rotation[c].T
                angle = torch.acos((apart.trace() - 1) / 2)
                shift = turn @ self.cameras.translation[c] + cameras[extrinsics][3:]
                shift = shift - apart @ known.translation[c]
                total = total + 0.5 * (angle / known.rotation_sd[c]) ** 2
                total = total + 0.5 * shift @ shift / known.translation_sd[c] ** 2
            if focal is not None:
                away = self.cameras.log_focal[c] + cameras[focal] - known.focal_mean[c]
                total = total + 0.5 * (away / known.focal_sd[c]) ** 2
                total = total + known.focal_pull[c] * away
        if p.outward is not None:
            away = (frames[:, n + 3 : n + 6] - p.outward.viewpoint).norm(dim=1)
            total = total - (p.outward.share * away.log()).sum()
        return total

    def __call__(
        self, identity: torch.Tensor, frames: torch.Tensor, cameras: torch.Tensor
    ) -> torch.Tensor:
        return self.landmarks(identity, frames, cameras) + self.prior(identity, frames, cameras)
