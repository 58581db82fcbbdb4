"""Choosing the arithmetic: bfloat16 only where a short trial shows that it pays."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch


def fastest_dtype(device: torch.device) -> torch.dtype:
    """float32 or bfloat16, whichever runs a typical 3x3 convolution faster on this device.

    CPUs without bfloat16 matrix units are about ten times slower with it, and no flag tells
    reliably whether they have them.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    convolution = torch.nn.Conv2d(64, 64, 3, 1, 1)
    image = torch.randn(8, 64, 32, 32).contiguous(memory_format=torch.channels_last)

    def run(dtype: torch.dtype) -> Callable[[], None]:
        layer, x = copy.deepcopy(convolution).to(dtype), image.to(dtype)

        def once() -> None:
            with torch.no_grad():
                layer(x)

        return once

    return min((torch.float32, torch.bfloat16), key=lambda dtype: _seconds(run(dtype)))


def _seconds(work: Callable[[], None]) -> float:
    """Shortest of three runs after one to warm up."""
    work()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
