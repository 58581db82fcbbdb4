"""Random numbers for whole batches, and rows of nested dataclasses of tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Dice:
    """A CPU generator: a seed gives the same scenes on every device."""

    generator: torch.Generator
    count: int

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) uniform in [low, high)."""
        values = torch.rand(self.count, *shape, generator=self.generator)
        return values * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape), its logarithm uniform."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal, clipped at 2.5 deviations."""
        return torch.randn(self.count, *shape, generator=self.generator).clamp(-2.5, 2.5)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """(B, *shape) bool."""
        return torch.rand(self.count, *shape, generator=self.generator) < probability

    def pick(self, weights: list[float]) -> Tensor:
        """(B,) int64, index drawn in proportion to the weights."""
        table = torch.tensor(weights, dtype=torch.float32)
        return torch.multinomial(table, self.count, replacement=True, generator=self.generator)

    def integers(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64 in [0, high)."""
        return torch.randint(0, high, (self.count, *shape), generator=self.generator)


def map_tensors(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """Apply `function` to every tensor of a (nested) dataclass."""
    if isinstance(value, Tensor):
        return cast(T, function(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed: dict[str, Any] = {
            field.name: map_tensors(getattr(value, field.name), function)
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changed)
    return value


def rows(value: T, index: slice | Tensor) -> T:
    """Those pictures of a batch: every tensor is indexed along its first axis."""
    return map_tensors(value, lambda tensor: tensor[index])


def joined(values: list[T]) -> T:
    """Some batches as one: every tensor along its first axis."""
    first = values[0]
    if isinstance(first, Tensor):
        return cast(T, torch.cat(cast(list[Tensor], values)))
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first)]
        changed: dict[str, Any] = {n: joined([getattr(v, n) for v in values]) for n in names}
        return dataclasses.replace(first, **changed)
    return first


def to_device(value: T, device: torch.device | str) -> T:
    """The same scene on another device."""
    return map_tensors(value, lambda tensor: tensor.to(device))
