"""Trained weights in a larger network: the same answers at first, and no smaller network."""

import pytest
import torch
from networks import random_statistics

from densefit.landmarks.network import LandmarkNet, NetworkConfig
from densefit.train.grow import grow_into
from densefit.train.mix import mixed

SMALL = NetworkConfig(input_size=64, widths=(8, 12, 16, 24), blocks=(1, 1, 2, 1), head_width=6)


def small_network() -> LandmarkNet:
    torch.manual_seed(0)
    network = LandmarkNet(SMALL, landmarks=703)
    network.basis.copy_(torch.linalg.qr(torch.randn(1406, 192)).Q.T)
    random_statistics(network)
    return network.eval()


def grown(**changes: object) -> LandmarkNet:
    settings = {**SMALL.__dict__, **changes}
    return LandmarkNet(NetworkConfig(**settings)).eval()


def test_wider_network_answers_the_same() -> None:
    small, wide = small_network(), grown(widths=(10, 12, 20, 30))
    taken = grow_into(wide, small.state_dict())
    assert taken == len(small.state_dict())
    image = torch.rand(2, 3, 64, 64)
    for mine, theirs in zip(wide(image), small(image), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert wide.body[0].conv1.weight[8:].abs().sum() > 0, "new channels must be able to learn"


def test_larger_map_is_read_alike() -> None:
    """A map of one value everywhere gives the same coefficients at any number of places."""
    small, large = small_network(), grown(input_size=96)
    grow_into(large, small.state_dict())
    features = torch.rand(1, 6, 1, 1)
    a = small.coefficients(features.expand(1, 6, 2, 2).flatten(1))
    b = large.coefficients(features.expand(1, 6, 3, 3).flatten(1))
    assert torch.allclose(a, b, atol=1e-5)


def test_smaller_network_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than"):
        grow_into(grown(widths=(6, 12, 16, 24)), small_network().state_dict())


def test_mixing_with_the_smaller_network_it_grew_from() -> None:
    """None of the new network is the old one; all of it is the new one."""
    small, image, weight = small_network(), torch.rand(2, 3, 64, 64), torch.ones(703)
    for share, wanted in ((0.0, small), (1.0, None)):
        wide = grown(widths=(10, 12, 20, 30))
        grow_into(wide, small.state_dict())
        for parameter in wide.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)
        expected = (wanted or wide)(image)[0]
        found = mixed(wide, small, share, weight)(image)[0]
        assert torch.allclose(found, expected, atol=1e-4)


def test_a_mixture_has_the_wider_ranges_and_those_that_are_known() -> None:
    """Weights of an earlier version do not say how far their maps reach."""
    new, old = small_network(), small_network()
    reach = torch.rand(new.activation_ranges.shape) - 0.3
    new.activation_ranges.copy_(reach)
    unknown = mixed(new, old, 0.5, torch.ones(703)).activation_ranges
    assert torch.equal(unknown, reach)
    old.activation_ranges.copy_(2 * reach)
    wider = mixed(new, old, 0.5, torch.ones(703)).activation_ranges
    assert torch.equal(wider, 2 * reach)
