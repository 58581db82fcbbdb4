"""Landmarks put right by finer maps: without influence at first, local, and able to learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import random_statistics
from torch.nn import functional

from densefit.errors import InputError
from densefit.landmarks.network import LandmarkNet, NetworkConfig, load_network
from densefit.landmarks.refinement import read_at
from densefit.landmarks.weights import save_weights

CONFIG = NetworkConfig(
    input_size=64, widths=(8, 12, 16, 24), blocks=(1, 1, 1, 1), head_width=6, refined=True
)


def test_reads_what_a_sampler_reads() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 5, 7, 9)
    points = 2.6 * torch.rand(40, 3, 2) - 1.3  # some beyond the border
    wanted = functional.grid_sample(
        values, points.transpose(0, 1)[:, None], "bilinear", "border", align_corners=False
    )
    got = read_at(values.contiguous(memory_format=torch.channels_last), points)
    torch.testing.assert_close(got, wanted[:, :, 0].permute(2, 0, 1), atol=1e-5, rtol=1e-5)


def _network() -> LandmarkNet:
    torch.manual_seed(0)
    network = LandmarkNet(CONFIG)
    network.set_basis(0.1 * torch.randn(400, 703, 2), torch.ones(703))
    random_statistics(network)
    return network.eval()


def test_a_fresh_one_changes_nothing() -> None:
    network, image = _network(), torch.rand(2, 3, 64, 64)
    refined = network(image)[0]
    plain = LandmarkNet(NetworkConfig(**{**CONFIG.__dict__, "refined": False})).eval()
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("refinement.")}
    state["activation_ranges"] = plain.activation_ranges
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(image)[0], refined)


def test_a_landmark_answers_to_what_lies_at_it() -> None:
    """A change of the finer map moves the landmarks that read it there, and no others."""
    network = _network()
    refinement = network.refinement
    assert refinement is not None
    refinement.weight.data.normal_(0.0, 0.1)
    answer = torch.full((1, 703, 3), 0.8)
    answer[:, :9, :2] = -0.8
    fine, middle, features = torch.rand(1, 32, 16, 16), torch.rand(1, 64, 8, 8), torch.rand(1, 24)
    before = refinement(fine, middle, answer, features)
    fine[:, :, :4, :4] += 1
    moved = (refinement(fine, middle, answer, features) - before).abs().amax(-1)[0]
    assert moved[:9].min() > 1e-4
    assert moved[9:].max() == 0


def test_every_part_of_it_learns() -> None:
    network = _network().train()
    assert network.refinement is not None
    network.refinement.weight.data.normal_(0.0, 0.1)
    network(torch.rand(2, 3, 64, 64))[0].square().sum().backward()
    for name, parameter in network.refinement.named_parameters():
        if name != "seen.bias":
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_weights_that_do_not_fit_are_an_input_error(tmp_path: Path) -> None:
    network = _network()
    file = tmp_path / "landmarks.safetensors"
    save_weights(network, file, {"kind": "landmarks"})
    assert load_network(file).config.refined
    network.activation_ranges = network.activation_ranges[:-2]
    save_weights(network, file, {"kind": "landmarks"})
    with pytest.raises(InputError, match="do not fit"):
        load_network(file)
