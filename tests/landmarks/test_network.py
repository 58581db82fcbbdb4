"""The networks: shapes, decoding basis, folding, files of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_statistics

from densefit.errors import InputError
from densefit.landmarks.detector import (
    REFERENCE_SIZE,
    DetectOptions,
    DetectorConfig,
    FaceFinder,
    HeadDetector,
    decode,
    load_detector,
)
from densefit.landmarks.network import (
    LandmarkNet,
    NetworkConfig,
    fold_batch_norm,
    load_network,
)
from densefit.landmarks.weights import SHIPPED, save_weights

SMALL = NetworkConfig(
    input_size=64, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), head_width=8, components=24
)


def test_landmark_network_shapes_and_folding() -> None:
    torch.manual_seed(0)
    network = LandmarkNet(SMALL)
    random_statistics(network)
    network.eval()
    image = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        landmarks, presence = network(image)
        folded_landmarks, folded_presence = fold_batch_norm(network)(image)
    assert landmarks.shape == (3, 703, 3) and presence.shape == (3,)
    torch.testing.assert_close(folded_landmarks, landmarks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(folded_presence, presence, atol=1e-4, rtol=1e-4)


def test_answers_stay_when_the_basis_changes() -> None:
    """Training goes on with labels that spread a little differently."""
    torch.manual_seed(3)
    shapes = torch.randn(20, 703 * 2) * 0.1
    old = (torch.randn(500, 20) @ shapes + 0.02).view(500, 703, 2)
    turned = (torch.randn(500, 20) @ torch.randn(20, 20) @ shapes + 0.02).view(500, 703, 2)
    weight = torch.rand(703) + 0.5
    network, other = LandmarkNet(SMALL).eval(), LandmarkNet(SMALL)
    network.set_basis(old, weight)
    other.set_basis(turned, weight)
    torch.nn.init.normal_(network.coefficients.bias)
    image = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        before = network(image)[0]
        network.change_basis(other.mean, other.basis, weight)
        after = network(image)[0]
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
    assert before[..., :2].std() > 0.1
    torch.testing.assert_close(network.basis, other.basis)


def test_mixed_weights_lie_between_both_trainings(tmp_path: Path) -> None:
    from densefit.train.mix import main

    paths = [tmp_path / f"{name}.safetensors" for name in ("old", "new", "half", "all")]
    for seed, path in enumerate(paths[:2]):
        torch.manual_seed(seed)
        network = LandmarkNet(SMALL)
        network.set_basis(0.1 * torch.randn(60, 703, 2), torch.ones(703))
        save_weights(network, path, {"kind": "landmarks", "landmarks_version": "v", "command": "c"})
    for path, share in zip(paths[2:], ("0.5", "1"), strict=True):
        assert main([str(paths[1]), str(paths[0]), "-o", str(path), "--share", share]) == 0
    old, new, half, whole = (load_network(path, "v") for path in paths)
    torch.testing.assert_close(whole.state_dict(), new.state_dict(), atol=1e-3, rtol=1e-2)
    stem = next(name for name in old.state_dict() if name.endswith("weight"))
    mean = (old.state_dict()[stem] + new.state_dict()[stem]) / 2
    torch.testing.assert_close(half.state_dict()[stem], mean, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(half.basis, new.basis)


def test_basis_reproduces_labels_of_its_rank() -> None:
    rng = torch.Generator().manual_seed(1)
    shapes = torch.randn(20, 703 * 2, generator=rng)
    targets = (torch.randn(300, 20, generator=rng) @ shapes).view(300, 703, 2)
    network = LandmarkNet(SMALL)
    weight = torch.linspace(0.1, 2.0, 703)
    assert network.set_basis(targets, weight) < 1e-3
    # Coefficients have unit variance over the labels.
    centred = targets.reshape(300, -1) - network.mean
    coefficients = torch.linalg.lstsq(network.basis[:20].T, centred.T).solution
    torch.testing.assert_close(coefficients.var(1, correction=0), torch.ones(20), atol=0.02, rtol=0)


def test_detector_folding_and_decoding() -> None:
    torch.manual_seed(0)
    network = HeadDetector(DetectorConfig(widths=(8, 8, 8, 8), merged=8))
    random_statistics(network)
    network.eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        output = network(image)
        torch.testing.assert_close(fold_batch_norm(network)(image), output, atol=1e-4, rtol=1e-4)
    assert output.shape == (2, 4, 8, 12)
    one = torch.full((4, 8, 12), -8.0)
    one[:, 3, 5] = torch.tensor([3.0, 0.25, -0.25, 0.5])
    x, y, side, score = decode(one, 0.5)[0].tolist()
    assert (x, y) == pytest.approx(((5.5 + 0.25) * 8 - 0.5, (3.5 - 0.25) * 8 - 0.5))
    assert side == pytest.approx(REFERENCE_SIZE * np.exp(0.5), rel=1e-5)
    assert score == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-5)


def test_finder_reports_places_of_the_whole_picture() -> None:
    class OnePlace(torch.nn.Module):
        """Fires in the middle of whatever it sees."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            h, w = image.shape[2] // 8, image.shape[3] // 8
            out = torch.full((1, 4, h, w), -9.0)
            out[0, :, h // 2, w // 2] = torch.tensor([2.0, -0.5, -0.5, 0.0])
            out[0, :, 1, 1] = torch.tensor([-1.6, 0.0, 0.0, 0.0])  # a chance of 0.17
            return out

    finder = FaceFinder(HeadDetector(DetectorConfig(widths=(8, 8, 8, 8), merged=8)))
    finder.network = OnePlace()
    found = finder(np.zeros((256, 512, 3), np.uint8))
    # The same place and, at each size of the picture, a box of 40 pixels there.
    assert all(abs(box.x - 255.5) < 1 and abs(box.y - 127.5) < 1 for box in found)
    assert sorted(box.side for box in found) == pytest.approx([40, 80, 160])
    doubtful = [box.score for box in finder(np.zeros((256, 512, 3), np.uint8), hidden=True)]
    assert len(doubtful) == 6 and min(doubtful) == pytest.approx(0.168, abs=0.001)
    # Boxes of like size count as one face.
    finder.options = DetectOptions(alike=10)
    assert len(finder(np.zeros((256, 512, 3), np.uint8))) == 1


def test_weights_round_trip_and_refusals(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LandmarkNet(SMALL).eval()
    path = tmp_path / "w.safetensors"
    save_weights(network, path, {"kind": "landmarks", "landmarks_version": "abc"})
    back = load_network(path, "abc")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(back(image)[0], network(image)[0], atol=2e-2, rtol=0)
    with pytest.raises(InputError, match="trained for landmarks abc"):
        load_network(path, "other")
    with pytest.raises(InputError, match="not detector"):
        load_detector(path)
    with pytest.raises(InputError, match="no such file"):
        load_network(tmp_path / "none.safetensors")
    path.write_bytes(b"not weights at all")
    with pytest.raises(InputError, match="not a readable file"):
        load_network(path)


def test_shipped_weights_suit_the_head_model() -> None:
    from densefit.head import load_head

    version = load_head().landmarks_version
    for kind, most in (("landmarks", 8e6), ("closeup", 30e6)):
        load_network(None, version, kind)
        assert SHIPPED[kind].stat().st_size <= most
    load_detector()
    assert SHIPPED["detector"].stat().st_size <= 2e6
