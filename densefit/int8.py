"""Convolutions in 8-bit integers: on CPUs two to four times as fast as in float32.

Maps behind a ReLU are bytes, 0..255 for 0 to the largest value that was seen of them; weights are
whole multiples of a step for each output channel. Weights keep to 6 bits and a sign: CPUs without
VNNI add two products of a byte and a weight in 16 bits, and 2 * 255 * 63 is below 2^15. So every
CPU computes the same sums, exactly. (With 127 these sums saturate: landmarks are then off by a
third of sigma instead of by a twentieth.)

The operators are what torch.compile makes of quantized layers. They are internal to torch, and not
every CPU has them: `available` tries them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_LIMIT = 63
BYTES = 255


@dataclass(frozen=True)
class Step:
    """What a byte b of a map stands for: size * (b - zero)."""

    size: float
    zero: int = 0

    @staticmethod
    def of(low: float, high: float) -> Step:
        """Bytes for values from low <= 0 to high >= 0; zero is one of them exactly."""
        size = max(high - low, 1e-6) / BYTES
        return Step(size, min(max(round(-low / size), 0), BYTES))


@dataclass(frozen=True)
class Int8Convolution:
    """A convolution of bytes with its activation in one pass.

    Strided 1x1 layers are given the pixels that they use, as a map of its own: oneDNN's kernels
    for AVX2 go through a buffer there that threads of one layer write over one another's part of
    (oneDNN issue 6035 is of the same buffer).
    """

    weight: Tensor
    """as the kernels want it"""
    weight_steps: Tensor
    no_zeros: Tensor
    """weights stand for multiples of their step, without an offset"""
    bias: Tensor
    shape: tuple[list[int], list[int], list[int], int]
    """stride, padding, dilation, groups"""
    source: Step
    target: Step | None
    """None: the result is float32"""
    every: tuple[int, int] = (1, 1)
    """rows and columns of the map that are used"""

    @staticmethod
    def of(layer: nn.Conv2d, source: Step, target: Step | None) -> Int8Convolution:
        """From a convolution in float32; it is left as it is."""
        weight = layer.weight.detach().float()
        steps = weight.abs().amax((1, 2, 3)).clamp_min(1e-8) / WEIGHT_LIMIT
        whole = (weight / steps[:, None, None, None]).round().to(torch.int8)
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float()
        every = (1, 1)
        stride = list(layer.stride)
        if layer.kernel_size == (1, 1):
            every, stride = (stride[0], stride[1]), [1, 1]
        shape = stride, list(layer.padding), list(layer.dilation), layer.groups
        prepack: Any = torch.ops.onednn.qconv_prepack
        packed = prepack(whole, steps, source.size, source.zero, *shape, None)
        no_zeros = torch.zeros(len(weight), dtype=torch.int64)
        parts: Any = (packed, steps, no_zeros, bias, shape, source, target, every)
        return Int8Convolution(*parts)

    def __call__(self, x: Tensor, activation: str = "relu") -> Tensor:
        """x (B, C, H, W) uint8; activation: relu or none."""
        return torch.ops.onednn.qconv2d_pointwise(
            *self._before(x), self.bias, *self.shape, *self._after, activation, [], ""
        )

    def added_to(self, other: Tensor, step: Step, x: Tensor) -> Tensor:
        """relu(other + convolution of x), written over `other`; step: what its bytes stand for."""
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *self._before(x), other, self.bias, *self.shape, *self._after,
            step.size, step.zero, "sum", 1.0, "relu", [], "",
        )  # fmt: skip

    def _before(self, x: Tensor) -> tuple[Any, ...]:
        if self.every != (1, 1):
            x = x[:, :, :: self.every[0], :: self.every[1]]
            x = x.contiguous(memory_format=torch.channels_last)
        return x, self.source.size, self.source.zero, self.weight, self.weight_steps, self.no_zeros

    @property
    def _after(self) -> tuple[float, int, torch.dtype]:
        if self.target is None:
            return 1.0, 0, torch.float32
        return self.target.size, self.target.zero, torch.uint8


@functools.cache
def available() -> bool:
    """Whether this torch has these kernels for this CPU, and they compute what they should."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(16, 16, 3, 1, 1)
    with torch.inference_mode():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        values = torch.randint(0, 256, (1, 16, 8, 8), dtype=torch.uint8, generator=generator)
        x = values.contiguous(memory_format=torch.channels_last)
        source = Step(1 / BYTES)
        wanted = torch.relu(values * source.size + layer(values * source.size))
        try:
            target = Step.of(0.0, float(wanted.max()))
            got = Int8Convolution.of(layer, source, target).added_to(x.clone(), source, x)
        except (AttributeError, RuntimeError, TypeError):
            return False
        apart = (got.float() * target.size - wanted).abs().max()
        return bool(apart < 0.03 * wanted.abs().max())
