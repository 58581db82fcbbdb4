"""Choosing the arithmetic: a short trial shows what this machine is fastest in."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

import torch

from densefit.errors import InputError
from densefit.int8 import Int8Convolution, Step, available
from densefit.side_by_side import SideBySide

NO_RANGES = "these weights do not say how far their maps reach (those of an earlier version)"
_ROUNDS = 5
_CLEAR = 3.0
"""What takes so many times as long as the fastest is tried no more."""


FLOATS = (torch.float32, torch.bfloat16)
PRECISIONS = ("float32", "bfloat16", "int8")


@functools.cache
def fastest_dtype(device: torch.device, dtypes: tuple[torch.dtype, ...] = FLOATS) -> torch.dtype:
    """Of float32, bfloat16 and int8 what runs a typical 3x3 convolution fastest on this device.

    CPUs without bfloat16 matrix units are about ten times slower with it, and no flag tells
    reliably whether they have them. The trial takes 10 to 60 ms and is made once in a process.
    """
    if device.type == "cuda":
        # Older GPUs emulate it, slowly, and count as supporting it unless asked like this.
        own = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if own else torch.float32
    # In a single thread of torch: several wait for one another when the machine is busy.
    aside = SideBySide(1, 1)
    try:
        return aside.map(_trial, [dtypes])[0]
    finally:
        aside.close()


def inference_dtype(precision: str, device: torch.device, ranges: bool = True) -> torch.dtype:
    """What a network runs in.

    precision: "float32", "bfloat16", "int8", or "auto": the fastest on a CPU. On a GPU that is
    float32: a network as small as ours waits for its launches there, not for its arithmetic.
    ranges: whether the network knows how far its maps reach, without which int8 is none to choose.
    Raises InputError where int8 is wanted and cannot be had.
    """
    whole = device.type == "cpu" and available()
    if precision == "auto":
        if device.type != "cpu":
            return torch.float32
        return fastest_dtype(device, (*FLOATS, torch.int8) if whole and ranges else FLOATS)
    dtype: torch.dtype = getattr(torch, precision)
    if dtype == torch.int8 and not (whole and ranges):
        if device.type != "cpu":
            raise InputError(
                f"int8 on {device.type}: it runs on CPUs only; use --device cpu, which also goes on"
                " with what was begun in int8, or begin anew with --overwrite --precision float32"
            )
        reason = NO_RANGES if whole else "this PyTorch has no int8 kernels for it"
        raise InputError(f"int8 on {device.type}: {reason}; use --precision float32")
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """float32, bfloat16, int8."""
    return str(dtype).removeprefix("torch.")


def _trial(dtypes: tuple[torch.dtype, ...]) -> torch.dtype:
    """The dtype whose convolution takes the least time."""
    trials = {dtype: _convolution(dtype) for dtype in dtypes}
    best = dict.fromkeys(trials, float("inf"))
    for trial in trials.values():
        trial()  # the first call sets things up
    for _ in range(_ROUNDS):
        for dtype in trials:
            best[dtype] = min(best[dtype], _seconds(trials[dtype]))
        slowest = _CLEAR * min(best.values())
        trials = {dtype: trial for dtype, trial in trials.items() if best[dtype] < slowest}
    return min(best, key=best.__getitem__)


def _convolution(dtype: torch.dtype) -> Callable[[], object]:
    """A convolution of two images of 64 channels, ready to run."""
    plain = torch.nn.Conv2d(64, 64, 3, 1, 1)
    image = torch.rand(2, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    layer: Callable[[torch.Tensor], torch.Tensor]
    if dtype == torch.int8:
        layer, image = Int8Convolution.of(plain, Step(1.0), Step(1.0)), (255 * image).byte()
    else:
        layer, image = plain.to(dtype), image.to(dtype)

    def once() -> object:
        with torch.inference_mode():
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
