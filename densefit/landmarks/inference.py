"""A landmark network made ready to run: BatchNorm folded, convolutions fused, arithmetic chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.landmarks.int8_body import int8_body
from densefit.landmarks.network import LandmarkNet, ResidualBlock, fold_batch_norm
from densefit.progress import warn

Body = Callable[[Tensor], Tensor]
"""Maps a picture (B, 3, S, S), normalised (int8: its bytes), to the last stage's map
(B, C, S / 32, S / 32)."""
_ALIKE = 0.15
"""Of the map's size: what int8 may be off by. Shipped networks are off by 0.03 to 0.07."""


class ReadyNetwork(nn.Module):
    """Answers as the LandmarkNet does that it was made from, faster.

    With bfloat16 and int8, the stem and the residual blocks run in it; what follows is a hundredth
    of the work and stays in float32. What bfloat16 errs by, about 0.01 sigma, and int8, 0.04, is
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
        self.plain = nn.Sequential(folded.stem, folded.body).to(dtype)
        self._body = _fused_or_not(self.plain, network.config.input_size)

    @torch.inference_mode()
    def _as_in_float(self, size: int) -> bool:
        """Whether the body in int8 answers like that in float32, of a soft pattern."""
        coarse = 70 + 120 * torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        image = functional.interpolate(coarse, (size, size), mode="bilinear").byte()
        image = image.contiguous(memory_format=torch.channels_last)
        wanted = self.rest.body(self.rest.stem(self.rest.normalised(image.float() / 255)))
        apart = (self._body(image) - wanted).square().mean().sqrt()
        return bool(apart < _ALIKE * wanted.square().mean().sqrt())

    @torch.inference_mode()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As LandmarkNet's; image (B, 3, S, S) uint8."""
        if self.dtype == torch.int8:
            return self.rest.answers(self._body(image))
        x = self.rest.normalised(image.float() / 255).to(self.dtype)
        return self.rest.answers(self._body(x).float())


def _fused_or_not(plain: nn.Sequential, size: int) -> Body:
    """oneDNN's fused kernels where this torch has them and they answer alike."""
    weight = next(plain.parameters())
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return plain
    noise = torch.randn(2, 3, size, size).to(weight.dtype)
    noise = noise.contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            body = _fused(plain, noise.shape)
            wanted, got = plain(noise).float(), body(noise).float()
    except (AttributeError, RuntimeError):  # the operators are internal to torch
        return plain
    # The roundings of bfloat16 differ.
    alike = (wanted - got).abs().max() <= 0.1 * wanted.abs().max()
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


def _fused(plain: nn.Sequential, picture: torch.Size) -> Body:
    """Stem and residual blocks in as few passes over memory as possible."""
    layers: Any = plain
    stem = _Convolution.of(layers[0][0], picture)
    x = plain[0](torch.zeros(picture, dtype=stem.bias.dtype))
    steps = []
    for block in layers[1]:
        steps.append(_fused_block(block, x.shape))
        x = block(x)

    def run(x: Tensor) -> Tensor:
        x = stem(x)
        for step in steps:
            x = step(x)
        return x

    return run


def _fused_block(block: ResidualBlock, picture: torch.Size) -> Body:
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
