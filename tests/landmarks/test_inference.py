"""Networks made ready to run answer as they were trained to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import random_statistics

from densefit.int8 import available
from densefit.landmarks import inference
from densefit.landmarks.inference import ReadyNetwork
from densefit.landmarks.int8_body import measured_ranges
from densefit.landmarks.network import LandmarkNet, NetworkConfig, range_rows

SAMPLE = Path(__file__).parents[2] / "sample_rigs/phone/phone.mp4"
CONFIGS = [
    NetworkConfig(input_size=64, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), head_width=8),
    NetworkConfig(input_size=96, widths=(12, 24, 40, 56), blocks=(2, 1, 2, 1), components=40),
    NetworkConfig(input_size=160),
    NetworkConfig(input_size=96, widths=(12, 24, 40, 56), blocks=(1, 2, 1, 1), refined=True),
]
BOTH = pytest.mark.parametrize("config", [CONFIGS[1], CONFIGS[3]], ids=["plain", "refined"])


def _trained(config: NetworkConfig) -> LandmarkNet:
    """Statistics and biases as after some training."""
    torch.manual_seed(0)
    network = LandmarkNet(config)
    random_statistics(network)
    network.set_basis(0.1 * torch.randn(400, 703, 2), torch.ones(703))
    if network.refinement is not None:
        network.refinement.weight.data.normal_(0.0, 0.01)
    return network.eval()


def _pictures(count: int, size: int) -> torch.Tensor:
    picture = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return picture.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", CONFIGS, ids=["64", "96", "160", "refined"])
@pytest.mark.parametrize("fused", [True, False])
def test_same_answers_in_float32(
    config: NetworkConfig, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("an internal operator of another torch")

    if not fused:
        monkeypatch.setattr(inference, "_fused", missing)
    network = _trained(config)
    image = _pictures(3, config.input_size)
    ready = ReadyNetwork(network)
    assert next(network.parameters()).is_contiguous(), "the network itself is left as it is"
    with torch.no_grad():
        landmarks, presence = network(image / 255)
    got = ready(image)
    torch.testing.assert_close(got[0], landmarks, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(got[1], presence, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(ready(image)[0], got[0], rtol=0, atol=0)


@BOTH
def test_bfloat16_is_near_and_the_same_in_any_batch(config: NetworkConfig) -> None:
    network = _trained(config)
    ready = ReadyNetwork(network, torch.bfloat16)
    image = _pictures(5, 96)
    with torch.no_grad():
        wanted = network(image / 255)[0]
    got = ready(image)[0]
    apart = (got - wanted)[..., :2].norm(dim=-1)
    assert 0 < apart.mean() < 0.02 * wanted[..., :2].norm(dim=-1).mean()
    one_by_one = torch.cat([ready(one[None])[0] for one in image])
    torch.testing.assert_close(one_by_one, got, atol=1e-5, rtol=1e-5)


def _twice(folded: Any, shape: torch.Size) -> Any:
    return lambda x: [2 * read for read in folded.maps(folded.stem(x))]


def test_a_fused_network_that_answers_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "_fused", _twice)
    network = _trained(CONFIGS[0])
    image = _pictures(1, 64)
    with torch.no_grad():
        wanted = network(image / 255)[0]
    torch.testing.assert_close(ReadyNetwork(network)(image)[0], wanted, atol=2e-4, rtol=2e-4)


@BOTH
@pytest.mark.skipif(not available(), reason="this torch has no int8 kernels for this CPU")
def test_int8_is_near_and_the_same_in_any_batch(config: NetworkConfig) -> None:
    network = _trained(config)
    image = _pictures(5, 96)
    network.activation_ranges.copy_(measured_ranges(network, [image / 255]))
    with torch.no_grad():
        wanted = network(image / 255)[0]
    ready = ReadyNetwork(network, torch.int8)
    got = ready(image)[0]
    apart = (got - wanted)[..., :2].norm(dim=-1)
    assert 0 < apart.mean() < 0.05 * wanted[..., :2].norm(dim=-1).mean()
    one_by_one = torch.cat([ready(one[None])[0] for one in image])
    torch.testing.assert_close(one_by_one, got, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not available(), reason="this torch has no int8 kernels for this CPU")
@pytest.mark.parametrize("wrong_map", [0, -1])
def test_int8_that_computes_something_else_is_not_used(
    wrong_map: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = _trained(CONFIGS[3]), _pictures(1, 96)
    network.activation_ranges.copy_(measured_ranges(network, [image / 255]))
    real = inference.int8_body

    def wrong(folded: Any, ranges: torch.Tensor) -> Any:
        body = real(folded, ranges)

        def run(x: torch.Tensor) -> list[torch.Tensor]:
            read = body(x)
            read[wrong_map] *= 2
            return read

        return run

    monkeypatch.setattr(inference, "int8_body", wrong)
    ready = ReadyNetwork(network, torch.int8)
    assert ready.dtype == torch.float32
    with torch.no_grad():
        wanted = network(image / 255)[0]
    torch.testing.assert_close(ready(image)[0], wanted, atol=2e-4, rtol=2e-4)


@BOTH
def test_ranges_are_those_of_all_pictures(config: NetworkConfig) -> None:
    network = _trained(config)
    batches = [_pictures(2, 96) / 255, _pictures(1, 96) / 255]
    both = measured_ranges(network, batches)
    each = torch.stack([measured_ranges(network, [batch]) for batch in batches])
    assert both.shape == (range_rows(config), 4)
    assert both[:, 3].gt(0).all()
    torch.testing.assert_close(both[:, [0, 2, 3]], each[..., [0, 2, 3]].amax(0))
    torch.testing.assert_close(both[:, 1], each[..., 1].amin(0))
    assert (both[1:, 3] > 0).all() and (both[1:, 1] <= 0).all()


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_precision_hardly_moves_a_face(name: str) -> None:
    """The shipped networks on a face: off by a few hundredths of sigma."""
    if name == "int8" and not available():
        pytest.skip("this torch has no int8 kernels for this CPU")
    from densefit.capture import open_frames, open_source
    from densefit.head import load_head
    from densefit.landmarks.follow import Trail
    from densefit.landmarks.tracker import load_tracker

    picture = next(iter(open_frames(open_source("c", SAMPLE), end="1"))).image
    exact, rounded = (load_tracker(load_head(), precision=name) for name in ("float32", name))
    face = exact.find([picture])[0]
    assert face is not None and exact.face.dtype == torch.float32
    assert rounded.face.dtype == getattr(torch, name)
    films, trails = {"c": [picture] * 3}, {"c": Trail(face.place)}
    a, b = (tracker.follow(films, trails)[0]["c"][0] for tracker in (exact, rounded))
    assert a is not None and b is not None
    apart = np.linalg.norm(a.xy - b.xy, axis=1) / a.sigma
    assert apart.mean() < 0.08 and apart.max() < 0.3
    assert np.abs(np.log(a.sigma / b.sigma)).max() < 0.15
