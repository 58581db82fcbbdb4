"""Trained weights for a larger network of the same kind, which at first answers much the same.

Channels that are new begin without influence on those that were there (after Net2Net: Chen,
Goodfellow and Shlens, 2016; here new channels keep their random weights, so that they differ from
one another). Where the last map has more places, what is read from it is interpolated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from densefit.landmarks.network import LandmarkNet

_READ_FROM_MAP = ("coefficients.weight", "sigma_coefficients.weight", "presence.weight")


@torch.no_grad()
def grow_into(network: LandmarkNet, state: dict[str, Tensor]) -> int:
    """Load weights of a network that is as large as this one or smaller, tensor by tensor.

    network: with fresh weights; state: trained tensors by name, all or some. Returns how many
    were taken over. Raises ValueError where one is larger than the network's.
    """
    own = network.state_dict()
    taken = 0
    for name, trained in state.items():
        if name not in own:
            continue
        target = own[name]
        if name in _READ_FROM_MAP and trained.shape != target.shape:
            trained = _resampled(trained, network.config.head_width, target.shape[1])
        pairs = list(zip(trained.shape, target.shape, strict=True))
        if any(a > b for a, b in pairs):
            raise ValueError(
                f"{name} is {tuple(trained.shape)} there, larger than {tuple(target.shape)} in the"
                " network to train; begin with weights of a network that is no larger"
            )
        if target.ndim > 1 and trained.shape[1] < target.shape[1]:
            target[: trained.shape[0], trained.shape[1] :] = 0  # new channels into old ones
        target[tuple(slice(length) for length in trained.shape)] = trained
        taken += 1
    network.load_state_dict(own)
    return taken


def _resampled(weight: Tensor, channels: int, features: int) -> Tensor:
    """(N, channels * a * a) -> (N, features) with features = channels * b * b.

    Weights are scaled by the number of places: sums over the map stay what they were.
    """
    old, new = (round((count / channels) ** 0.5) for count in (weight.shape[1], features))
    maps = weight.float().view(-1, channels, old, old)
    maps = functional.interpolate(maps, (new, new), mode="bilinear", align_corners=False)
    return maps.flatten(1) * (old / new) ** 2
