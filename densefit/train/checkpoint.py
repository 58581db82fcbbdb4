"""Checkpoints that hold everything a run needs to go on, as safetensors (no pickle)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from densefit.errors import InputError
from densefit.files import atomic_path
from densefit.tensor_files import read_tensors, write_tensors
from densefit.train.random import Draws

RESEED_STEP = 1_000_003
"""A seed's draws at a step, where the generator itself cannot go on: seed + step times this."""


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
    """Write network, average, optimizer, random generators and counters, whole or not at all.

    counters: JSON values; they come back from `load_checkpoint`.
    """
    tensors: dict[str, Tensor] = {
        "rng": draws.generator.get_state(), "host_rng": draws.host.generator.get_state()
    }  # fmt: skip
    tensors |= {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    text = {"counters": json.dumps(counters), "device": draws.device.type}
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, text)


def load_checkpoint(
    path: Path,
    network: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    draws: Draws,
    seed: int = 0,
) -> dict[str, Any]:
    """Put everything back as it was; returns the counters.

    Among them is `reseeded`, whether draws could not be put back.

    Generators of a CPU cannot go on on a GPU, nor the reverse: there draws begin anew, from `seed`
    and step. Raises InputError where the file is no checkpoint of such a network.
    """
    try:
        tensors, text = read_tensors(path)
        counters: dict[str, Any] = json.loads(text["counters"])
        groups = _groups(tensors)
        network.load_state_dict(groups["network"])
        for name, value in groups["average"].items():
            average.state[name].copy_(value)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: no checkpoint of this network ({reason}); begin anew with --restart"
        ) from error
    _restore_optimizer(optimizer, groups["optimizer"])
    counters["reseeded"] = not _restore_draws(draws, tensors, text.get("device"))
    if counters["reseeded"]:
        draws.reseed((seed + RESEED_STEP * (counters["step"] + 1)) % 2**63)
    return counters


def _groups(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By the word before the first dot of their names."""
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    for key, value in tensors.items():
        group, _, name = key.partition(".")
        if group in groups:
            groups[group][name] = value
    return groups


def _restore_draws(draws: Draws, tensors: dict[str, Tensor], device: str | None) -> bool:
    """False, and nothing done, where the state is of another kind of device."""
    state = tensors["rng"]
    # Earlier checkpoints do not say the device, but states of different ones differ in length.
    if (device or draws.device.type) != draws.device.type:
        return False
    if state.shape != draws.generator.get_state().shape:
        return False
    draws.generator.set_state(state)
    if draws.host is not draws and "host_rng" in tensors:
        draws.host.generator.set_state(tensors["host_rng"])
    return True


def _restore_optimizer(optimizer: torch.optim.Optimizer, stored: dict[str, Tensor]) -> None:
    state = optimizer.state_dict()
    state["state"] = {}
    for key, value in stored.items():
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
