"""Loss, targets, scores, and whole small trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from densefit.errors import InputError, Terminated
from densefit.landmarks.detector import DetectorConfig, load_detector
from densefit.landmarks.network import LandmarkNet, NetworkConfig, load_network
from densefit.landmarks.weights import LANDMARK_WEIGHTS
from densefit.tensor_files import read_tensors, write_tensors
from densefit.train import evaluate
from densefit.train.augment import AugmentOptions
from densefit.train.detector_task import (
    DetectorTask,
    DetectorTaskOptions,
    detector_loss,
    target_maps,
)
from densefit.train.landmark_task import (
    LandmarkTask,
    LandmarkTaskOptions,
    landmark_loss,
    landmark_weights,
    region_weights,
)
from densefit.train.loop import Trainer, TrainOptions
from densefit.train.random import Draws
from densefit.train.run import RunOptions, command_line
from densefit.train.scenes import SceneOptions

TINY = LandmarkTaskOptions(
    augment=AugmentOptions(size=64),
    network=NetworkConfig(
        widths=(8, 16, 16, 24), blocks=(1, 1, 1, 1), head_width=16, components=24, refined=True
    ),
    backgrounds=8,
    basis_samples=200,
    score_samples=32,
    batch=16,
)


def test_loss_is_least_at_the_true_sigma() -> None:
    """For errors of unit variance the mean likelihood is best at sigma 1 (per axis)."""
    torch.manual_seed(0)
    target = torch.zeros(1, 703 * 40, 2)
    output = torch.cat([0.1 * torch.randn(1, 703 * 40, 2), torch.zeros(1, 703 * 40, 1)], -1)
    weight = torch.ones(703 * 40)
    values = []
    for sigma in (0.07, 0.1, 0.14):
        output[..., 2] = np.log(sigma)
        values.append(float(landmark_loss(output, target, weight)))
    assert values[1] < values[0] and values[1] < values[2]


def test_region_weights_have_mean_one(head) -> None:  # type: ignore[no-untyped-def]
    weight = region_weights(head.landmark_region, head.region_names)
    assert abs(float(weight.mean()) - 1) < 1e-5
    assert weight[0] > weight[-1]


def test_the_closeup_is_trained_on_the_mouth_inside_too() -> None:
    """It is not cut around teeth and tongue, but nothing else sees them as large."""
    from densefit.head import load_head

    head = load_head()
    near = landmark_weights(head, closeup=True).numpy()
    weight = {name: near[head.region(name)].mean() for name in head.region_names}
    lips = max(value for name, value in weight.items() if "lips" in name)
    assert weight["tongue"] > lips > weight["left_upper_teeth"] > 5 * weight["scalp_middle"]
    assert near.mean() == pytest.approx(1, rel=1e-5)


def test_temperature_makes_sigma_honest() -> None:
    torch.manual_seed(0)
    true_sigma = torch.linspace(0.01, 0.1, 703)
    error = (torch.randn(4000, 703, 2) * true_sigma[:, None]).norm(dim=-1)
    stated = torch.full((4000, 703), 0.03)
    found = evaluate.Predictions(
        error, stated, torch.ones(4000, 703, dtype=torch.bool), torch.ones(4000),
        torch.ones(4000), torch.ones(4000, dtype=torch.bool),
    )  # fmt: skip
    factor = evaluate.sigma_temperature(found).exp()
    torch.testing.assert_close(0.03 * factor, true_sigma, rtol=0.06, atol=0)
    honest = replace(found, sigma=stated * factor)
    figures = evaluate.scores(honest, np.arange(68), 128)
    assert abs(figures["within_1_sigma"] - 0.393) < 0.01
    assert abs(figures["within_2_sigma"] - 0.865) < 0.01


def test_calibrating_undoes_a_wrong_sigma(head, shards: Path) -> None:  # type: ignore[no-untyped-def]
    """As of a mixture of networks, which is surer than it should be."""
    task = LandmarkTask(shards, head, Draws(5), TINY)
    network = task.network.eval()
    assert isinstance(network, LandmarkNet)
    task.calibrate(network)
    right, reach = network.log_temperature.clone(), network.activation_ranges.clone()
    network.log_temperature -= 1.0
    network.activation_ranges.zero_()
    task.calibrate(network)
    torch.testing.assert_close(network.log_temperature, right, atol=1e-4, rtol=0)
    torch.testing.assert_close(network.activation_ranges, reach)


def test_target_maps_hold_the_boxes() -> None:
    boxes = torch.tensor([[[83.0, 41.5, 40.0], [10.0, 10.0, 20.0]]])
    there = torch.tensor([[True, False]])
    heat, values, sure = target_maps(boxes, there, 20)
    row, column = divmod(int(heat[0].argmax()), 20)
    assert (row, column) == (5, 10) and float(heat.max()) == 1 and int((heat == 1).sum()) == 1
    x = (column + 0.5 + values[0, 0, row, column]) * 8 - 0.5
    y = (row + 0.5 + values[0, 1, row, column]) * 8 - 0.5
    assert abs(float(x) - 83) < 1e-4 and abs(float(y) - 41.5) < 1e-4
    assert not sure[0, 1, 1]


def _trainer(task, out: Path, name: str, seconds: float, batch: int) -> Trainer:  # type: ignore[no-untyped-def]
    options = TrainOptions(minutes=seconds / 60, batch=batch, warm_up=5)
    return Trainer(task, task.draws, out, name, options, lambda line: None)


def test_landmark_training_learns_saves_and_resumes(head, shards: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    task = LandmarkTask(shards, head, Draws(0), TINY, command="test")
    trainer = _trainer(task, tmp_path, "landmarks", 60, TINY.batch)
    losses = []
    for _ in range(60):
        losses.append(trainer.train_step(0.0)["loss"])
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.3
    scores = trainer.save()
    assert set(scores) >= {"error_px", "within_1_sigma", "hidden_sigma_ratio"}
    network = load_network(tmp_path / "landmarks.safetensors", "flat")
    assert network.log_temperature.abs().max() > 0

    torch.manual_seed(1)
    fresh = LandmarkTask(shards, head, Draws(9), TINY)
    again = _trainer(fresh, tmp_path, "landmarks", 60, TINY.batch)
    again._resume()
    assert again.step == 60 and again.seen == 60 * TINY.batch
    # From here on both runs take the very same steps.
    fresh.augmenter.noise, fresh.bank = task.augmenter.noise, task.bank
    fresh.augmenter.backgrounds = task.augmenter.backgrounds
    assert trainer.train_step(0.5)["loss"] == again.train_step(0.5)["loss"]
    assert trainer.train_step(0.5)["loss"] == again.train_step(0.5)["loss"]


def test_detector_training_learns_and_exports(head, shards: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    options = DetectorTaskOptions(
        scenes=SceneOptions(size=64),
        network=DetectorConfig(widths=(8, 16, 16, 16), blocks=(1, 1, 1, 1), merged=16),
        backgrounds=8,
        score_samples=64,
        batch=16,
    )
    task = DetectorTask(shards, head, Draws(0), options)
    trainer = _trainer(task, tmp_path, "detector", 60, 16)
    fixed = task.scenes(task.store.batch(np.arange(48)))

    def focal() -> float:
        with torch.no_grad():
            return float(detector_loss(task.network.eval()(fixed.image), fixed)[0])

    for _ in range(10):
        trainer.train_step(0.0)
    before = focal()
    for _ in range(50):
        trainer.train_step(0.0)
    assert focal() < before
    scores = trainer.save()
    assert 0 <= scores["found"] <= 1
    weights = tmp_path / "detector.safetensors"
    load_detector(weights)

    other = DetectorTask(shards, head, Draws(1), options)
    assert "detector.safetensors" in other.start_from(weights)
    begun, trained = other.network.state_dict(), trainer.average.state
    torch.testing.assert_close(begun["stem.0.weight"], trained["stem.0.weight"], atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="landmarks"):
        other.start_from(LANDMARK_WEIGHTS)


def test_command_in_the_metadata_names_no_place(tmp_path: Path) -> None:
    options = RunOptions(tmp_path / "shards", tmp_path, backgrounds=tmp_path / "sky")
    line = command_line(options)
    assert str(tmp_path) not in line and "/" not in line
    assert "--data shards" in line and "--backgrounds sky" in line


def test_a_checkpoint_goes_on_on_another_kind_of_device(head, shards: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Generators of GPUs have another state; here one of theirs is put into the file."""
    trainer = _trainer(LandmarkTask(shards, head, Draws(0), TINY), tmp_path, "a", 60, TINY.batch)
    trainer.train_step(0.0)
    trainer._save_checkpoint()
    tensors, text = read_tensors(trainer.checkpoint)
    assert text["device"] == "cpu"
    tensors["rng"] = torch.zeros(16, dtype=torch.uint8)
    states, said = [], []
    for device in ("cuda", None):  # earlier checkpoints do not say it
        stated = text | {"device": device} if device else {"counters": text["counters"]}
        write_tensors(trainer.checkpoint, tensors, stated)
        task = LandmarkTask(shards, head, Draws(3), TINY)
        again = _trainer(task, tmp_path, "a", 60, TINY.batch)
        again.report = said.append
        again._resume()
        states.append(again.draws.generator.get_state())
        again.train_step(0.0)
        assert again.step == 2
    assert torch.equal(*states), "the same draws, whoever goes on"
    assert sum("another kind of device" in line for line in said) == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_what_was_trained_is_kept_when_interrupted(
    head, shards: Path, tmp_path: Path, stop: type[BaseException]
) -> None:  # type: ignore[no-untyped-def]
    trainer = _trainer(LandmarkTask(shards, head, Draws(0), TINY), tmp_path, "a", 60, TINY.batch)
    step = trainer.train_step

    def three_steps(progress: float) -> dict[str, torch.Tensor]:
        if trainer.step == 3:
            raise stop
        return step(progress)

    trainer.train_step = three_steps  # type: ignore[method-assign]
    with pytest.raises(stop):
        trainer.run()
    again = _trainer(LandmarkTask(shards, head, Draws(0), TINY), tmp_path, "a", 60, TINY.batch)
    again._resume()
    assert again.step == 3


def test_interrupted_scoring_keeps_the_weights_in_training(
    head, shards: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """The average's weights are in the network while it is scored; they are not those to go on
    with."""
    task = LandmarkTask(shards, head, Draws(0), TINY)
    trainer = _trainer(task, tmp_path, "a", 60, TINY.batch)
    trainer.train_step(0.0)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}

    def score(network: torch.nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    task.score = score  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.save()
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_file_that_is_no_checkpoint_is_told(head, shards: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    trainer = _trainer(LandmarkTask(shards, head, Draws(0), TINY), tmp_path, "a", 60, TINY.batch)
    trainer.checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="--restart"):
        trainer.run()
    trainer.checkpoint.write_bytes(LANDMARK_WEIGHTS.read_bytes())
    with pytest.raises(InputError, match="--restart"):
        trainer.run()
