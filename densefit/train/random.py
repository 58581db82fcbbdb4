"""Random draws on any device from one generator, so that a run can be resumed and repeated."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Draws:
    """Shorthand for the random tensors that the augmentation needs, all from one generator.

    On a GPU there is a second one, `host`, for what Python itself has to know: to ask the GPU for a
    number is to wait for all that it has to do. On a CPU that is the same generator.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)
        self.host = self if self.device.type == "cpu" else Draws(seed)

    def reseed(self, seed: int) -> None:
        """Begin another row of draws."""
        self.generator.manual_seed(seed)
        if self.host is not self:
            self.host.reseed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), float32 of the given shape."""
        draw = torch.rand(shape, generator=self.generator, device=self.device)
        return draw * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Positive numbers whose logarithm is uniform."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, scale: float, *shape: int) -> Tensor:
        """Normal with mean zero and the given standard deviation."""
        return torch.randn(shape, generator=self.generator, device=self.device) * scale

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Booleans that are true with the given probability."""
        return torch.rand(shape, generator=self.generator, device=self.device) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """int64 in [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def integer(self, low: int, high: int) -> int:
        """One int in [low, high)."""
        return int(self.host.integers(low, high, 1))

    def number(self, low: float, high: float) -> float:
        """One number, uniform in [low, high)."""
        return float(self.host.uniform(low, high, 1))

    def subset(self, size: int, fraction: float) -> Tensor:
        """Indices of a random subset of a batch: about `fraction` of `size`, at least one."""
        count = max(1, round(size * fraction))
        order = torch.randperm(size, generator=self.generator, device=self.device)
        return order[:count]
