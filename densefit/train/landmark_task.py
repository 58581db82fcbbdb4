"""Training the landmark network: batches, Gaussian negative log likelihood, scores, export."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.errors import InputError
from densefit.landmarks.crop import FaceLayout, in_closeup
from densefit.landmarks.int8_body import measured_ranges
from densefit.landmarks.network import LandmarkNet, NetworkConfig
from densefit.train import evaluate, geometry
from densefit.train.augment import Augmenter, AugmentOptions, Batch
from densefit.train.backgrounds import background_bank
from densefit.train.dataset import Faces, ShardFolder
from densefit.train.feed import Feed
from densefit.train.grow import grow_into
from densefit.train.random import Draws

if TYPE_CHECKING:
    from densefit.head import HeadModel
    from densefit.train.loop import Answer

_RIGHT_EYE_CORNER, _LEFT_EYE_CORNER = 36, 45  # outer corners in iBUG order
_OUTSIDE_CLOSEUP = 0.06
"""Weight of a landmark that the close-up is not meant for, over its weight in it."""
_MOUTH = ("teeth", "tongue")
"""Regions that the close-up is meant for though it is not cut around them: they mostly hide."""
_RANGE_CROPS = 256
"""Crops that the reach of a network's maps is measured on."""
# Shares of the loss: what the fit depends on most weighs most. Matched against region names.
# Of five landmarks of the tongue, which few faces show, networks learnt nothing at 0.6.
_REGION_WEIGHTS = (
    (("scalp", "neck"), 0.35),
    (("ear", "teeth"), 0.6),
    (("tongue",), 4.0),
    (("lid", "lips", "iris", "brow", "jaw"), 1.4),
)


@dataclass(frozen=True)
class LandmarkTaskOptions:
    """What to train on."""

    augment: AugmentOptions = field(default_factory=AugmentOptions)
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(refined=True))
    backgrounds: int = 2000
    """pictures in the bank of backgrounds"""
    basis_samples: int = 12000
    """random crops' labels that the decoding basis is taken from"""
    score_samples: int = 384
    presence_weight: float = 0.3
    """weight of the face-or-not term beside the likelihood (per landmark)"""
    batch: int = 64
    least_picture: int = 176
    """renders are averaged down to no less than so many pixels a side"""
    closeup: bool = False
    """train on crops from the brows to the lower lip instead of the whole face"""

    @staticmethod
    def for_closeup(batch: int) -> LandmarkTaskOptions:
        """Options for the close-up: its crops are always made from earlier landmarks."""
        crops = geometry.CropOptions(
            tight_fraction=1.0, tight_ratio=(1.15, 1.5), tight_shift=0.035, tight_roll=0.1
        )
        return LandmarkTaskOptions(
            augment=AugmentOptions(size=160, crops=crops, faceless=0.04),
            network=NetworkConfig(widths=(40, 80, 160, 256), refined=True),
            batch=batch,
            least_picture=352,
            closeup=True,
        )


def region_weights(region: np.ndarray, names: tuple[str, ...]) -> Tensor:
    """Weight (703,) of each landmark in the loss, mean one."""
    weight = np.ones(len(region), np.float32)
    for index, name in enumerate(names):
        for words, value in _REGION_WEIGHTS:
            if any(word in name for word in words):
                weight[region == index] = value
    return torch.from_numpy(weight / weight.mean())


def landmark_weights(head: HeadModel, closeup: bool) -> Tensor:
    """Weight (703,) of each landmark in the loss of the whole face or of the close-up, mean one."""
    weight = region_weights(head.landmark_region, head.region_names)
    if closeup:
        mouth = [any(word in name for word in _MOUTH) for name in head.region_names]
        inside = torch.from_numpy(
            in_closeup(head.landmark_region, head.region_names)
            | np.array(mouth)[np.asarray(head.landmark_region)]
        )
        weight = torch.where(inside, weight, _OUTSIDE_CLOSEUP * weight)
        weight = weight / weight.mean()
    return weight


def landmark_loss(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean Gaussian negative log likelihood of each crop, (B,).

    output (B, 703, 3), target (B, 703, 2) in crop units, weight (703,):
    sum_k w_k (log sigma_k^2 + |mu_k - y_k|^2 / (2 sigma_k^2)) / 703   (Wood et al., 2022, eq. 1).
    The squared distance is limited to one half crop, so that a lost crop does not rule a batch.
    """
    log_sigma = output[..., 2]
    squared = (output[..., :2] - target).square().sum(-1).clamp(max=1.0)
    likelihood = 2 * log_sigma + 0.5 * squared * torch.exp(-2 * log_sigma)
    return (likelihood * weight).mean(1)


class LandmarkTask:
    """Everything the loop needs to train `LandmarkNet` on shards of renders."""

    network: nn.Module

    def __init__(
        self,
        data: Path,
        head: HeadModel,
        draws: Draws,
        options: LandmarkTaskOptions,
        backgrounds: Path | None = None,
        command: str = "",
    ) -> None:
        """data: folder of shards; backgrounds: folder of pictures without faces."""
        self.head, self.options, self.draws, self.command = head, options, draws, command
        self.store = ShardFolder(
            data, head.landmarks_version, least_size=options.least_picture, device=draws.device
        )
        self.feed = Feed(self.store, draws, options.batch)
        size = options.augment.size
        rng = np.random.default_rng(draws.integer(0, 2**31))
        self.bank = background_bank(options.backgrounds, size, rng, backgrounds)
        self.layout = FaceLayout.closeup(head) if options.closeup else FaceLayout.of(head)
        self.augmenter = Augmenter(self.layout, self.bank, draws, options.augment)
        weight = landmark_weights(head, options.closeup)
        self.weight = weight.to(draws.device)
        network = LandmarkNet(replace(options.network, input_size=size))
        lost = network.set_basis(self._example_labels(), weight)
        self.basis_error_px = lost * size / 2
        self.network = network

    def _example_labels(self) -> Tensor:
        """Labels of random crops, as training will draw them."""
        rows = self.draws.host.integers(0, len(self.store), self.options.basis_samples)
        landmarks, visible = self.store.labels(rows)
        return self.augmenter.targets(Faces(torch.empty(0), landmarks, visible))[2].cpu()

    def batch(self) -> Batch:
        """A fresh batch of training crops."""
        return self.augmenter(self.feed())

    def loss(self, step: int, answer: Answer) -> tuple[Tensor, dict[str, Tensor]]:
        """Likelihood of the landmarks where there is a face, and face or not."""
        batch = self.batch()
        output, presence = answer(batch.image)
        each = landmark_loss(output, batch.target, self.weight)
        face = batch.presence
        likelihood = (each * face).sum() / face.sum()
        there = functional.binary_cross_entropy_with_logits(presence, face)
        with torch.no_grad():
            distance = (output[..., :2] - batch.target).norm(dim=-1).mean(1)
            error = (distance * face).sum() / face.sum()
        figures = {
            "loss": likelihood.detach(),
            "error_px": error * (batch.image.shape[-1] / 2),
            "presence": there.detach(),
        }
        return likelihood + self.options.presence_weight * there, figures

    def predictions(self, network: nn.Module, seed: int, faceless: float) -> evaluate.Predictions:
        """A network's output on held-out renders, augmented as in training, the same every time."""
        draws = Draws(seed, self.draws.device)
        options = replace(self.options.augment, faceless=faceless)
        augmenter = Augmenter(self.layout, self.bank, draws, options)
        ibug = self.head.ibug68
        corners = (int(ibug[_RIGHT_EYE_CORNER]), int(ibug[_LEFT_EYE_CORNER]))
        count = self.options.score_samples
        return evaluate.predict_held_out(network, self.store, augmenter, count, corners)

    def _ranges(self, network: LandmarkNet) -> Tensor:
        """How far the network's maps reach on held-out renders, augmented as in training."""
        rows = np.arange(_RANGE_CROPS) % self.store.held_out
        augmenter = Augmenter(
            self.layout, self.bank, Draws(1, self.draws.device), self.options.augment
        )
        return measured_ranges(
            network,
            (augmenter(self.store.batch(part, held_out=True)).image for part in np.split(rows, 4)),
        )

    def score(self, network: nn.Module) -> dict[str, float]:
        """Figures on held-out renders; the close-up's points are iBUG's without the jaw."""
        found = self.predictions(network, seed=12345, faceless=0.07)
        points = self.head.ibug68[17:] if self.options.closeup else self.head.ibug68
        return evaluate.scores(found, points, self.options.augment.size)

    def look_for_data(self) -> None:
        """Read shards that were rendered meanwhile."""
        self.store.rescan()

    def start_from(self, path: Path) -> str:
        """Take over trained weights, of a network as large as this or smaller; says how much.

        Everything from a network of the same kind, brought to the basis of these labels, otherwise
        all but the last layers, whose meaning depends on the crop. Raises InputError where the file
        does not fit or its network is larger.
        """
        from densefit.landmarks.weights import read_weights

        state, metadata = read_weights(path, "landmarks", "closeup")
        same = metadata["kind"] == ("closeup" if self.options.closeup else "landmarks")
        network = self.network
        assert isinstance(network, LandmarkNet)
        mean, basis = network.mean.clone(), network.basis.clone()
        usable = {
            k: v for k, v in state.items() if same or k.startswith(("stem.", "body.", "head."))
        }
        try:
            taken = grow_into(network, usable)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        if same:
            network.change_basis(mean, basis, self.weight.to(mean))
        return f"{taken} of {len(network.state_dict())} tensors from {path.name}"

    def calibrate(self, network: LandmarkNet) -> None:
        """In place: sigma and the reach of maps from held-out renders, other draws than the
        scores'."""
        network.log_temperature.zero_()
        found = self.predictions(network, seed=54321, faceless=0.0)
        network.log_temperature.copy_(evaluate.sigma_temperature(found))
        network.activation_ranges.copy_(self._ranges(network))

    def export(self, network: nn.Module, path: Path, seen: int) -> None:
        """Calibrate, and write weights."""
        from densefit.landmarks.weights import save_weights

        assert isinstance(network, LandmarkNet)
        self.calibrate(network)
        metadata = {
            "kind": "closeup" if self.options.closeup else "landmarks",
            "landmarks_version": self.head.landmarks_version,
            "renders": len(self.store),
            "crops_seen": seen,
            "command": self.command,
            "input": "RGB crop, float 0..1; normalisation is part of the network",
        }
        save_weights(network, path, metadata)
