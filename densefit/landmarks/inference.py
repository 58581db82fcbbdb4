"""A landmark network made ready to run: BatchNorm folded, convolutions fused, arithmetic chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from densefit.landmarks.network import LandmarkNet, ResidualBlock, fold_batch_norm

Body = Callable[[Tensor], Tensor]
"""Maps a picture (B, 3, S, S), normalised, to the last stage's map (B, C, S / 32, S / 32)."""


class ReadyNetwork(nn.Module):
    """Answers as the LandmarkNet does that it was made from, faster.

    With bfloat16, the stem and the residual blocks run in it; what follows is a hundredth of the
    work and stays in float32, which takes a third of the error away. What is left, about 0.01
    sigma, is below what stills jitter by, and adds nothing to it.
    """

    def __init__(
        self,
        network: LandmarkNet,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """network: in eval mode; it is left as it is."""
        super().__init__()
        folded = fold_batch_norm(network).to(device)
        folded = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        self.plain = nn.Sequential(folded.stem, folded.body).to(dtype)
        self.rest = folded
        self._body = _fused_or_not(self.plain, network.config.input_size)

    @torch.inference_mode()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As LandmarkNet's; image (B, 3, S, S) float32 in [0, 1]."""
        x = self.rest.normalised(image).to(self.dtype)
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
