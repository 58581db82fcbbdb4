"""A landmark network made ready to run: BatchNorm folded, convolutions fused, arithmetic chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.landmarks.int8_body import Body, Layers, int8_body
from densefit.landmarks.network import LandmarkNet, ResidualBlock, fold_batch_norm
from densefit.landmarks.refinement import LocalRefinement, doubled
from densefit.progress import warn

_ALIKE = 0.15
"""Of the map's size: what int8 may be off by. Shipped networks are off by 0.03 to 0.10."""


class ReadyNetwork(nn.Module):
    """Answers as the LandmarkNet does that it was made from, faster.

    With bfloat16 and int8, all but the last layers run in it; what follows is a few hundredths of
    the work and stays in float32. What bfloat16 errs by, about 0.01 sigma, and int8, 0.06, is
    below what stills jitter by.
    """

    def __init__(
        self,
        network: LandmarkNet,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """network: in eval mode; it is left as it is. dtype: float32, bfloat16 or int8; int8 needs
        `network.activation_ranges`."""
        super().__init__()
        folded = fold_batch_norm(network).to(device)
        folded = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rest = folded
        if dtype == torch.int8:
            self._body = int8_body(folded, network.activation_ranges)
            if self._as_in_float(network.config.input_size):
                self.dtype = dtype
                return
            warn("this CPU's int8 kernels compute something else; going on in float32")
            dtype = torch.float32
        self.dtype = dtype
        for part in (folded.stem, folded.body, *_convolutions(folded.refinement)):
            part.to(dtype)
        self._body = _fused_or_not(folded, network.config.input_size)

    @torch.inference_mode()
    def _as_in_float(self, size: int) -> bool:
        """Whether maps in int8 are like those in float32, of a soft pattern."""
        coarse = 70 + 120 * torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        image = functional.interpolate(coarse, (size, size), mode="bilinear").byte()
        image = image.contiguous(memory_format=torch.channels_last)
        wanted = self.rest.maps(self.rest.stem(self.rest.normalised(image.float() / 255)))
        return all(
            bool((got - want).square().mean() < _ALIKE**2 * want.square().mean())
            for got, want in zip(self._body(image), wanted, strict=True)
        )

    @torch.inference_mode()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As LandmarkNet's; image (B, 3, S, S) uint8."""
        if self.dtype == torch.int8:
            return self.rest.answers(self._body(image))
        x = self.rest.normalised(image.float() / 255).to(self.dtype)
        return self.rest.answers([read.float() for read in self._body(x)])


def _convolutions(refinement: LocalRefinement | None) -> list[nn.Module]:
    """The layers that make the maps that a refinement reads."""
    levels = () if refinement is None else refinement.levels
    return [layers for level in levels for layers in (level.above, level.beside, level.join)]


def _fused_or_not(folded: Any, size: int) -> Body:
    """oneDNN's fused kernels where this torch has them and they answer alike."""

    def plain(x: Tensor) -> list[Tensor]:
        return folded.maps(folded.stem(x))

    weight = next(folded.body.parameters())
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return plain
    noise = torch.randn(2, 3, size, size).to(weight.dtype)
    noise = noise.contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            body = _fused(folded, noise.shape)
            pairs = list(zip(plain(noise), body(noise), strict=True))
    except (AttributeError, RuntimeError):  # the operators are internal to torch
        return plain
    # The roundings of bfloat16 differ.
    alike = all(bool((a - b).abs().max() <= 0.1 * a.abs().max()) for a, b in pairs)
    return body if alike else plain


@dataclass(frozen=True)
class _Convolution:
    """A convolution with its activation in one pass, weights laid out in advance.

    These operators are what torch.compile makes of such layers; they need no compiler.
    """

    weight: Tensor
    bias: Tensor
    shape: tuple[Any, ...]
    """padding, stride, dilation, groups"""

    @staticmethod
    def of(layer: nn.Conv2d, picture: torch.Size) -> _Convolution:
        """picture: (4,) shape of a typical input."""
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
        weight = reorder(layer.weight.detach().to_mkldnn(), *shape, picture)
        assert layer.bias is not None  # of the folded BatchNorm
        return _Convolution(weight, layer.bias.detach(), shape)

    def __call__(self, x: Tensor, activation: str = "relu") -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.shape, activation, [], ""
        )

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """relu(other + convolution of x), written over `other`."""
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            other, x, self.weight, self.bias, *self.shape, "add", 1.0, "relu", [], None
        )


def _fused(folded: Any, picture: torch.Size) -> Body:
    """All layers that `LandmarkNet.maps` runs, in as few passes over memory as possible."""
    stem = _Convolution.of(folded.stem[0], picture)
    x = folded.stem(torch.zeros(picture, dtype=stem.bias.dtype))
    steps: list[Layers] = []
    shapes = []
    for block in folded.body:
        steps.append(_fused_block(block, x.shape))
        x = block(x)
        shapes.append(x.shape)
    finer = _fused_finer(folded.refinement, [shapes[i] for i in folded.stage_ends[:-1]])

    def run(x: Tensor) -> list[Tensor]:
        x = stem(x)
        stages = []
        for i, step in enumerate(steps):
            # Maps of stages are not written over: what follows them has a layer beside it.
            x = step(x)
            if i in folded.stage_ends:
                stages.append(x)
        return [*finer(stages[:-1]), x]

    return run


def _fused_finer(
    refinement: LocalRefinement | None, shapes: list[torch.Size]
) -> Callable[[list[Tensor]], list[Tensor]]:
    """As `LocalRefinement.maps`; shapes: of the body's maps."""
    if refinement is None:
        return lambda stages: []
    *rest, above = shapes
    levels = []
    for level in refinement.levels:
        here = rest.pop()
        layers: Any = (level.above, level.beside, level.join)
        joined = torch.Size([here[0], layers[2][0].out_channels, *here[2:]])
        shown = zip(layers, (above, here, joined), strict=True)
        levels.append([_Convolution.of(layer[0], shape) for layer, shape in shown])
        above = joined

    def run(stages: list[Tensor]) -> list[Tensor]:
        *rest, x = stages
        out: list[Tensor] = []
        for above, beside, join in levels:
            x = join(beside.added_to(doubled(above(x, "none")), rest.pop()))
            out.insert(0, x)
        return out

    return run


def _fused_block(block: ResidualBlock, picture: torch.Size) -> Layers:
    first = _Convolution.of(block.conv1, picture)
    stride = block.conv1.stride[0]
    width = block.conv1.out_channels
    between = torch.Size([picture[0], width, picture[2] // stride, picture[3] // stride])
    second = _Convolution.of(block.conv2, between)
    if isinstance(block.shortcut, nn.Identity):
        return lambda x: second.added_to(x, first(x))
    shortcut: Any = block.shortcut
    beside = _Convolution.of(shortcut[0], picture)
    return lambda x: second.added_to(beside(x, "none"), first(x))
