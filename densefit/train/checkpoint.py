"""Checkpoints that hold everything a run needs to go on, as safetensors (no pickle)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from densefit.train.random import Draws


class Average:
    """Exponential moving average of a network's parameters and buffers."""

    def __init__(self, network: nn.Module, decay: float = 0.998) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follow the network; quicker at the beginning, when there is nothing worth keeping."""
        decay = min(self.decay, 1 - 10 / (step + 20))
        smooth: list[tuple[Tensor, Tensor]] = []
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                smooth.append((self.state[name], value))
            else:
                self.state[name].copy_(value)
        averages, values = (list(side) for side in zip(*smooth, strict=True))
        get_ema_multi_avg_fn(decay)(averages, values, step)


def save_checkpoint(
    path: Path,
    network: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    draws: Draws,
    counters: dict[str, Any],
) -> None:
    """Write network, average, optimizer, random generator and counters, whole or not at all.

    counters: JSON values; they come back from `load_checkpoint`.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {"rng": draws.generator.get_state()}
    tensors |= {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    temporary = path.with_name(f".{path.name}.part")
    save_file(tensors, str(temporary), {"counters": json.dumps(counters)})
    os.replace(temporary, path)


def load_checkpoint(
    path: Path,
    network: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    draws: Draws,
) -> dict[str, Any]:
    """Put everything back as it was; returns the counters."""
    from safetensors import safe_open

    groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    with safe_open(str(path), "pt") as file:
        counters = json.loads(file.metadata()["counters"])
        draws.generator.set_state(file.get_tensor("rng"))
        for key in file.keys():
            group, _, name = key.partition(".")
            if group in groups:
                groups[group][name] = file.get_tensor(key)
    network.load_state_dict(groups["network"])
    for name, value in groups["average"].items():
        average.state[name].copy_(value)
    state = optimizer.state_dict()
    state["state"] = {}
    for key, value in groups["optimizer"].items():
        index, _, name = key.partition(".")
        state["state"].setdefault(int(index), {})[name] = value
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, moments in state["state"].items():
        # Fused optimizers walk through memory: moments must lie there as their parameters do.
        like = parameters[index]
        for name, value in moments.items():
            if value.shape == like.shape:
                moments[name] = torch.empty_like(like.detach()).copy_(value)
    optimizer.load_state_dict(state)
    return counters
