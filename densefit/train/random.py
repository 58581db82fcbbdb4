"""Random draws on any device from one generator, so that a run can be resumed and repeated."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Draws:
    """Shorthand for the random tensors that the augmentation needs, all from one generator."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)

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
        return int(self.integers(low, high, 1))

    def subset(self, size: int, fraction: float) -> Tensor:
        """Indices of a random subset of a batch: about `fraction` of `size`, at least one."""
        count = max(1, round(size * fraction))
        order = torch.randperm(size, generator=self.generator, device=self.device)
        return order[:count]
