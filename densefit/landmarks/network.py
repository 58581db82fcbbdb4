"""The landmark network: a narrow ResNet that regresses 703 landmarks and their uncertainty.

One forward pass maps a square crop to, per landmark, a position and the logarithm of one standard
deviation (a circular Gaussian), plus one logit that says whether the crop shows a face at all.

Positions are decoded from a fixed linear basis, the principal components of the training labels.
703 points of a face hold far fewer than 1,406 numbers' worth of information; leaving the rest to be
learnt costs data and gives ragged contours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.errors import InputError
from densefit.landmarks.refinement import LocalRefinement

LANDMARKS = 703
# Crop units are half crops, so these limits are 0.16 px and 58 px in a crop of 128.
LOG_SIGMA_RANGE = (-6.0, -0.1)
PIXEL_MEAN, PIXEL_SCALE = 0.45, 0.25
"""Of values 0..1; what the stem sees has mean zero and deviation one, roughly."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network. The defaults were chosen by measured speed on CPUs (see model card)."""

    input_size: int = 128
    """side of the square crop, pixels; a multiple of 32"""
    widths: tuple[int, ...] = (32, 64, 128, 224)
    """channels of the stages at strides 4, 8, 16 and 32"""
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    """residual blocks in each stage"""
    head_width: int = 96
    """channels kept at each place of the last map before it is flattened"""
    components: int = 192
    """size of the linear basis that positions are decoded from"""
    sigma_components: int = 64
    """size of the learnt linear basis of log sigma"""
    refined: bool = False
    """read finer maps at the landmarks (see `densefit.landmarks.refinement`)"""


def range_rows(config: NetworkConfig) -> int:
    """Rows of `activation_ranges`: the stem, each block, and the levels of the refinement."""
    return 1 + sum(config.blocks) + (2 if config.refined else 0)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2016, basic block)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(self.inner(x)))
        return functional.relu(inner + self.shortcut(x), inplace=True)

    def inner(self, x: Tensor) -> Tensor:
        """What lies between the two convolutions."""
        return functional.relu(self.norm1(self.conv1(x)), inplace=True)


class LandmarkNet(nn.Module):
    """Crop -> landmarks.

    forward(image): image (B, 3, S, S) float in [0, 1], RGB. Returns
        landmarks (B, 703, 3) float32: x, y in crop units (-1 is the left or upper edge of the crop,
        +1 the right or lower edge) and log sigma in the same units;
        presence (B,) float32: logit of "this crop shows a face".
    """

    basis: Tensor
    mean: Tensor
    log_temperature: Tensor
    activation_ranges: Tensor
    """(1 + blocks (+ 2), 4), see `densefit.landmarks.int8_body`; zero: not measured."""

    def __init__(self, config: NetworkConfig = NetworkConfig(), landmarks: int = LANDMARKS) -> None:
        super().__init__()
        self.config = config
        self.landmarks = landmarks
        widths = config.widths
        # One strided convolution instead of two: maps at stride 2 cost more time than they gain.
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 6, 4, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, config.blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, stride))
                channels = width
        self.body = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Conv2d(channels, config.head_width, 1, bias=False),
            nn.BatchNorm2d(config.head_width),
            nn.ReLU(),
        )
        features = config.head_width * (config.input_size // 32) ** 2
        self.coefficients = nn.Linear(features, config.components)
        self.sigma_coefficients = nn.Linear(features, config.sigma_components)
        self.log_sigma = nn.Linear(config.sigma_components, landmarks)
        self.presence = nn.Linear(features, 1)
        self.refinement: LocalRefinement | None = None
        if config.refined:
            self.refinement = LocalRefinement(widths, features, landmarks)
        self.register_buffer("mean", torch.zeros(landmarks * 2))
        self.register_buffer("basis", torch.zeros(config.components, landmarks * 2))
        # Added to log sigma after training, so that errors / sigma have unit variance.
        self.register_buffer("log_temperature", torch.zeros(landmarks))
        self.register_buffer("activation_ranges", torch.zeros(range_rows(config), 4))
        nn.init.normal_(self.coefficients.weight, 0.0, 0.003)
        nn.init.normal_(self.log_sigma.weight, 0.0, 0.02)
        nn.init.constant_(self.log_sigma.bias, -1.5)

    @torch.no_grad()
    def set_basis(self, targets: Tensor, weight: Tensor) -> float:
        """Take the decoding basis from example labels.

        targets: (N, 703, 2) in crop units, drawn like training crops; weight: (703,) how much each
        landmark's variance counts when the principal components are chosen.
        Returns the root mean square distance, crop units and so weighted, that the basis cannot
        represent.
        """
        flat = targets.reshape(len(targets), -1).double()
        mean = flat.mean(0)
        scale = (weight / weight.mean()).double().sqrt().repeat_interleave(2)
        centred = (flat - mean) * scale
        covariance = centred.T @ centred / len(flat)
        values, vectors = torch.linalg.eigh(covariance)
        count = self.config.components
        values, vectors = values.flip(0)[:count].clamp(min=1e-12), vectors.flip(1)[:, :count]
        self.mean.copy_(mean)
        # Scaled so that every coefficient has unit variance: the last layer is well conditioned.
        self.basis.copy_((vectors * values.sqrt()).T / scale)
        rest = centred - centred @ vectors @ vectors.T
        return float((rest.reshape(len(flat), -1, 2) ** 2).sum(-1).mean().sqrt())

    @torch.no_grad()
    def change_basis(self, mean: Tensor, basis: Tensor, weight: Tensor) -> None:
        """Decode from another basis, and answer the same as nearly as it can.

        mean (1406,) and basis (components, 1406) as `set_basis` makes them from labels with these
        weights (703,): rows are orthogonal under them, so that coefficients are projections.
        """
        scale = (weight / weight.mean()).repeat_interleave(2)
        into = (basis * scale).T / (basis * scale * basis).sum(1).clamp_min(1e-9)
        last = self.coefficients
        last.bias.copy_((self.mean - mean + last.bias @ self.basis) @ into)
        last.weight.copy_((self.basis @ into).T @ last.weight)
        self.mean.copy_(mean)
        self.basis.copy_(basis)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers(self.maps(self.stem(self.normalised(image))))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The maps that `answers` reads, from the stem's."""
        stages = []
        for i, block in enumerate(self.body):
            x = block(x)
            if i in self.stage_ends:
                stages.append(x)
        finer = [] if self.refinement is None else self.refinement.maps(stages[:-1])
        return [*finer, x]

    @property
    def stage_ends(self) -> list[int]:
        """Index in the body of the last block of every stage."""
        blocks = self.config.blocks
        return [sum(blocks[: stage + 1]) - 1 for stage in range(len(blocks))]

    def normalised(self, image: Tensor) -> Tensor:
        """What the stem sees of a picture (B, 3, S, S) in [0, 1]."""
        return (image - PIXEL_MEAN) / PIXEL_SCALE

    def answers(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Landmarks and presence from the last stage's map (B, C, S / 32, S / 32), before which
        with refinement stand the maps that it reads."""
        x = self.head(maps[-1]).flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            xy = (self.mean + self.coefficients(x) @ self.basis).view(-1, self.landmarks, 2)
            log_sigma = self.log_sigma(self.sigma_coefficients(x))
            presence = self.presence(x)[:, 0]
            landmarks = torch.cat([xy, log_sigma[..., None]], -1)
        if self.refinement is not None:
            landmarks = landmarks + self.refinement(*maps[:-1], landmarks, x)
        log_sigma = landmarks[..., 2].clamp(*LOG_SIGMA_RANGE) + self.log_temperature
        return torch.cat([landmarks[..., :2], log_sigma[..., None]], -1), presence


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy of an eval-mode network with every BatchNorm folded into the convolution before it.

    Works on Sequentials and ResidualBlocks, the only two containers that our networks use.
    """
    import copy

    folded = copy.deepcopy(module).eval()
    for part in folded.modules():
        if isinstance(part, ResidualBlock):
            part.conv1, part.norm1 = _fused(part.conv1, part.norm1), nn.Identity()  # type: ignore
            part.conv2, part.norm2 = _fused(part.conv2, part.norm2), nn.Identity()  # type: ignore
        elif isinstance(part, nn.Sequential):
            for i in range(len(part) - 1):
                first, second = part[i], part[i + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    part[i], part[i + 1] = _fused(first, second), nn.Identity()
    return folded


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    return fuse_conv_bn_eval(conv, norm)


def load_network(
    path: Path | None = None, landmarks_version: str | None = None, kind: str = "landmarks"
) -> LandmarkNet:
    """The trained network in eval mode.

    path: another file of weights than the one that ships. landmarks_version: of the head model in
    use; weights for other landmarks raise InputError. kind: "landmarks" (the whole face) or
    "closeup" (from the brows to the lower lip). Raises InputError too where tensors do not fit.
    """
    from densefit.landmarks.weights import SHIPPED, check_version, read_weights

    path = path or SHIPPED[kind]
    state, metadata = read_weights(path, kind)
    if landmarks_version is not None:
        check_version(path, metadata, landmarks_version)
    config: dict[str, Any] = metadata["config"]
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    network = LandmarkNet(NetworkConfig(**config), landmarks=len(state["log_temperature"]))
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(
            f"{path}: its tensors do not fit the network that it describes; train or copy it again"
        ) from error
    return network.eval()
