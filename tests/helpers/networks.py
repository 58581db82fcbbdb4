"""Networks as after some training."""

from __future__ import annotations

import torch


def random_statistics(network: torch.nn.Module) -> None:
    """BatchNorm statistics and biases as after some training: there is something to fold."""
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.3)
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2.0)
