"""Convolutions in 8-bit integers, beside the same in whole numbers and in float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from densefit import int8
from densefit.int8 import WEIGHT_LIMIT, Int8Convolution, Step, available

needs_kernels = pytest.mark.skipif(
    not available(), reason="this torch has no int8 kernels for this CPU"
)


def _bytes(*shape: int) -> torch.Tensor:
    values = torch.randint(0, 256, shape, dtype=torch.uint8)
    return values.contiguous(memory_format=torch.channels_last)


def test_zero_is_a_byte_of_its_own() -> None:
    step = Step.of(-1.0, 3.0)
    assert step.zero == 64 and step.size == pytest.approx(4 / 255)
    assert Step.of(0.0, 5.1) == Step(pytest.approx(0.02))
    assert Step.of(0.0, 0.0).size > 0


@needs_kernels
def test_the_largest_sums_do_not_overflow() -> None:
    """All bytes and weights at their ends; some CPUs add pairs of products in 16 bits."""
    layer = nn.Conv2d(64, 8, 3, 1, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(WEIGHT_LIMIT * torch.sign(torch.randn(8, 64, 3, 3) + 0.8))
    x = torch.full((1, 64, 6, 6), 255, dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    got = Int8Convolution.of(layer, Step(1.0), None)(x, "none")
    wanted = functional.conv2d(x.double(), layer.weight.double(), padding=1)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=0)


@needs_kernels
@pytest.mark.parametrize("stride", [1, 2])
def test_as_in_float32(stride: int) -> None:
    """Padding stands for zero, whatever byte that is."""
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 20, 3, stride, 1)
    source, x = Step(0.02, 100), _bytes(3, 12, 16, 16)
    with torch.no_grad():
        wanted = layer(source.size * (x.float() - source.zero))
    got = Int8Convolution.of(layer, source, None)(x, "none")
    assert got.shape == wanted.shape
    assert (got - wanted).square().mean().sqrt() < 0.01 * wanted.std()
    target = Step.of(0.0, float(wanted.max()))
    bytes_ = Int8Convolution.of(layer, source, target)(x)
    assert bytes_.dtype == torch.uint8
    apart = target.size * bytes_.float() - functional.relu(wanted)
    assert apart.abs().max() < 0.05 * float(wanted.max())


@needs_kernels
def test_a_sum_is_written_over_its_first_part() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, 1, 1)
    x, other, step = _bytes(2, 8, 8, 8), _bytes(2, 8, 8, 8), Step(0.03, 90)
    with torch.no_grad():
        wanted = functional.relu(layer(0.01 * x.float()) + step.size * (other.float() - step.zero))
    target = Step.of(0.0, float(wanted.max()))
    got = Int8Convolution.of(layer, Step(0.01), target).added_to(other, step, x)
    assert torch.equal(got, other)
    assert (target.size * got.float() - wanted).abs().max() < 0.05 * float(wanted.max())


def test_a_cpu_without_kernels_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise NotImplementedError("no kernel for this CPU")

    available.cache_clear()
    try:
        monkeypatch.setattr(int8.Int8Convolution, "added_to", missing)
        assert not available()
        available.cache_clear()
        monkeypatch.setattr(int8.Int8Convolution, "added_to", lambda self, other, step, x: other)
        assert not available(), "kernels that compute something else"
    finally:
        available.cache_clear()
