"""The reference energy with its links in time as one product: what a peer of the solver
minimises."""

from __future__ import annotations

import torch

from tests.fit.reference_energy import ReferenceEnergy, rotation


class BatchedEnergy(ReferenceEnergy):
    """As ReferenceEnergy without unknown cameras, with no loop over frames."""

    def prior(
        self, identity: torch.Tensor, frames: torch.Tensor, cameras: torch.Tensor
    ) -> torch.Tensor:
        """Everything but the landmarks."""
        p, n = self.priors, len(self.free)
        values = torch.cat([frames[:, :n], torch.zeros_like(frames[:, :6]), frames[:, n + 6 :]], 1)
        total = 0.5 * ((values @ p.frame) * values).sum() + (values @ p.rest).sum()
        total = total + 0.5 * p.identity_weight * identity @ identity
        turns = self.base @ rotation(frames[:, n : n + 3])
        relative = turns[:-1].mT @ turns[1:]
        skew = relative - relative.mT
        sine = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1) / 2
        size = (sine.square().sum(1, keepdim=True) + 1e-30).sqrt()
        trace = relative.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
        angle = torch.atan2(size, (trace - 1) / 2)
        change = frames[1:] - frames[:-1]
        change = torch.cat([change[:, :n], sine / size * angle, change[:, n + 3 :]], 1)
        return total + 0.5 * (p.link_weights * ((change @ p.link) * change).sum(1)).sum()
