"""Choosing the arithmetic: bfloat16 only where a short trial shows that it pays."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

import torch

from densefit.side_by_side import SideBySide

_ROUNDS = 5
_CLEAR = 3.0
"""Once one is so many times as fast as the other, the trial is over."""


@functools.cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """float32 or bfloat16, whichever runs a typical 3x3 convolution faster on this device.

    CPUs without bfloat16 matrix units are about ten times slower with it, and no flag tells
    reliably whether they have them. The trial takes 10 ms, or 30 ms on such a CPU, and is made
    once in a process.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # In a single thread of torch: several wait for one another when the machine is busy.
    aside = SideBySide(1, 1)
    try:
        return aside.map(_trial, [(torch.float32, torch.bfloat16)])[0]
    finally:
        aside.close()


def inference_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a network runs in.

    precision: "float32", "bfloat16", or "auto": the faster on a CPU. On a GPU that is float32: a
    network as small as ours waits for its launches there, not for its arithmetic.
    """
    if precision == "auto":
        return fastest_dtype(device) if device.type == "cpu" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def dtype_name(dtype: torch.dtype) -> str:
    """float32, bfloat16."""
    return str(dtype).removeprefix("torch.")


def _trial(dtypes: tuple[torch.dtype, ...]) -> torch.dtype:
    """The dtype whose convolution takes the least time."""
    trials = {dtype: _convolution(dtype) for dtype in dtypes}
    best = dict.fromkeys(trials, float("inf"))
    for trial in trials.values():
        trial()  # the first call sets things up
    for _ in range(_ROUNDS):
        for dtype, trial in trials.items():
            best[dtype] = min(best[dtype], _seconds(trial))
        if max(best.values()) > _CLEAR * min(best.values()):
            break
    return min(best, key=best.__getitem__)


def _convolution(dtype: torch.dtype) -> Callable[[], object]:
    """A convolution of two images of 64 channels, ready to run."""
    layer = torch.nn.Conv2d(64, 64, 3, 1, 1).to(dtype)
    image = torch.randn(2, 64, 32, 32).to(dtype).contiguous(memory_format=torch.channels_last)

    def once() -> object:
        with torch.no_grad():
            return layer(image)

    return once


def _seconds(work: Callable[[], object]) -> float:
    """Of the thread's own time, which does not count what others took from it.

    Windows counts that in steps of 16 ms only.
    """
    clock = time.perf_counter if sys.platform == "win32" else time.thread_time
    start = clock()
    work()
    return clock() - start
