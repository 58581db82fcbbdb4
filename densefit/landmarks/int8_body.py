"""Stem, residual blocks and finer maps of a landmark network in 8-bit integers.

Pictures go in as the bytes that they are; normalising them is part of the first layer. What is read
of the maps comes out in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.int8 import BYTES, Int8Convolution, Step
from densefit.landmarks.network import (
    PIXEL_MEAN,
    PIXEL_SCALE,
    LandmarkNet,
    ResidualBlock,
    range_rows,
)
from densefit.landmarks.refinement import LocalRefinement, doubled

Layers = Callable[[Tensor], Tensor]
Body = Callable[[Tensor], list[Tensor]]
"""Pictures to the maps that `LandmarkNet.answers` reads."""
_GREY = round(BYTES * PIXEL_MEAN)
"""The byte that is nearest to what normalising makes zero of, which layers pad with."""


@torch.no_grad()
def measured_ranges(network: LandmarkNet, pictures: Iterable[Tensor]) -> Tensor:
    """How far maps reach on typical pictures (batches (B, 3, S, S) in [0, 1]).

    Returns (1 + blocks, 4): of the stem and of each block the largest value between its
    convolutions, the least and the largest beside them, and the largest behind them; with
    refinement two rows more, of its levels: the largest value behind `join`, the least and the
    largest of what is above, and the largest of the sum. Zero where there is none.
    """
    rows = torch.zeros(range_rows(network.config), 4)
    for picture in pictures:
        x = network.stem(network.normalised(picture))
        seen = [[x.new_zeros(()), x.new_zeros(()), x.new_zeros(()), x.amax()]]
        stages = []
        for i, block in enumerate(network.body):
            assert isinstance(block, ResidualBlock)
            inner, beside = block.inner(x), block.shortcut(x)
            x = functional.relu(block.norm2(block.conv2(inner)) + beside)
            seen.append([inner.amax(), beside.amin(), beside.amax(), x.amax()])
            if i in network.stage_ends:
                stages.append(x)
        if network.refinement is not None:
            *finer, x = stages[:-1]
            for level in network.refinement.levels:
                above = level.above(x)
                total = functional.relu(level.beside(finer.pop()) + doubled(above))
                x = level.join(total)
                seen.append([x.amax(), above.amin(), above.amax(), total.amax()])
        part = torch.stack([torch.stack(row) for row in seen]).cpu()
        rows = torch.where(part < 0, torch.minimum(rows, part), torch.maximum(rows, part))
    return rows


def int8_body(folded: Any, ranges: Tensor) -> Body:
    """Pictures (B, 3, S, S) uint8 to the maps that `LandmarkNet.answers` reads, float32.

    folded: a LandmarkNet without BatchNorm (see `fold_batch_norm`); ranges: see `measured_ranges`.
    """
    steps = [Step.of(0.0, float(row[3])) for row in ranges[: 1 + len(folded.body)]]
    stem = _stem(folded.stem[0], steps[0])
    edge = [folded.stem[0].padding[0]] * 4
    blocks: list[Layers] = []
    for i, block in enumerate(folded.body):
        target = steps[i + 1] if i + 1 < len(folded.body) else None
        blocks.append(_block(block, ranges[i + 1], steps[i], target))
    stage_steps = [steps[i + 1] for i in folded.stage_ends]
    finer = _finer(folded.refinement, ranges[1 + len(folded.body) :], stage_steps[:-1])

    def run(x: Tensor) -> list[Tensor]:
        x = stem(functional.pad(x, edge, value=_GREY))
        stages = []
        for i, block in enumerate(blocks):
            x = block(x)
            if i in folded.stage_ends:
                stages.append(x)
        return [*finer(stages[:-1]), x]

    return run


def _finer(
    refinement: LocalRefinement | None, ranges: Tensor, steps: list[Step]
) -> Callable[[list[Tensor]], list[Tensor]]:
    """As `LocalRefinement.maps`, of bytes; steps: of the body's maps."""
    if refinement is None:
        return lambda stages: []
    *finer, source = steps
    levels = []
    for level, row in zip(refinement.levels, ranges, strict=True):
        joined, low, high, total = row.tolist()
        above, both, out = Step.of(low, high), Step.of(0.0, total), Step.of(0.0, joined)
        levels.append((
            Int8Convolution.of(_layer(level.above), source, above), above,
            Int8Convolution.of(_layer(level.beside), finer.pop(), both),
            Int8Convolution.of(_layer(level.join), both, out), out,
        ))  # fmt: skip
        source = out

    def run(stages: list[Tensor]) -> list[Tensor]:
        *rest, x = stages
        out: list[Tensor] = []
        for above, step, beside, join, target in levels:
            x = join(beside.added_to(doubled(above(x, "none")), step, rest.pop()))
            out.insert(0, x.float() * target.size)
        return out

    return run


def _layer(layers: nn.Sequential) -> nn.Conv2d:
    assert isinstance(layers[0], nn.Conv2d)
    return layers[0]


def _stem(layer: nn.Conv2d, target: Step) -> Int8Convolution:
    """The first layer, of the pictures' bytes; their edges are already padded with grey.

    The mean that is taken off pixels goes into the bias.
    """
    assert layer.bias is not None  # of the folded BatchNorm
    shape: Any = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
    shifted = nn.Conv2d(*shape)
    with torch.no_grad():
        shifted.weight.copy_(layer.weight)
        less = PIXEL_MEAN / PIXEL_SCALE * layer.weight.sum((1, 2, 3))
        shifted.bias = nn.Parameter(layer.bias - less)
    return Int8Convolution.of(shifted, Step(1 / (BYTES * PIXEL_SCALE)), target)


def _block(block: ResidualBlock, row: Tensor, source: Step, target: Step | None) -> Layers:
    inner, low, high, _ = row.tolist()
    between = Step.of(0.0, inner)
    first = Int8Convolution.of(block.conv1, source, between)
    second = Int8Convolution.of(block.conv2, between, target)
    shortcut: Any = block.shortcut
    if not isinstance(shortcut, nn.Identity):
        # What is added to has the form of the sum.
        step = Step(1.0) if target is None else Step.of(low, high)
        beside = Int8Convolution.of(shortcut[0], source, None if target is None else step)
        return lambda x: second.added_to(beside(x, "none"), step, first(x))
    if target is None:
        return lambda x: second.added_to(x.float() * source.size, Step(1.0), first(x))
    return lambda x: second.added_to(x, source, first(x))
