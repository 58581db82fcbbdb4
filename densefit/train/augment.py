"""From renders to training crops: cut, composite, occlude, and degrade as cameras and codecs do."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from densefit.landmarks.crop import FaceLayout, face_roll, landmark_box
from densefit.train import geometry, occluders, photometric
from densefit.train.dataset import Faces
from densefit.train.random import Draws
from densefit.train.warp import Warp


@dataclass(frozen=True)
class AugmentOptions:
    """Shares of a batch that each kind of change is applied to."""

    size: int = 128
    """side of the training crops, pixels"""
    crops: geometry.CropOptions = field(default_factory=geometry.CropOptions)
    warped: float = 0.4
    """faces of other proportions"""
    edge: float = 0.08
    """the edge of the picture runs through the crop"""
    light: float = 0.3
    """brighter and darker in parts"""
    resolution: float = 0.55
    """blur and low resolution"""
    noise: float = 0.55
    compress: float = 0.3
    faceless: float = 0.07
    """crops without a face: backgrounds, wiped faces, crops beside the face"""


@dataclass(frozen=True)
class Batch:
    """Training crops.

    image: (B, 3, S, S) float32 in [0, 1]; target: (B, 703, 2) crop units; visible: (B, 703) bool;
    presence: (B,) float32, 1 where the crop shows a face (elsewhere the target means nothing).
    """

    image: Tensor
    target: Tensor
    visible: Tensor
    presence: Tensor


class Augmenter:
    """Turns renders into training crops on one device."""

    def __init__(
        self, layout: FaceLayout, backgrounds: Tensor, draws: Draws, options: AugmentOptions
    ) -> None:
        """backgrounds: (N, 3, S, S) uint8 bank with S the size of the crops."""
        self.layout = layout.to(draws.device)
        self.backgrounds = backgrounds.to(draws.device)
        self.draws = draws
        self.options = options
        self.noise = photometric.noise_bank(options.size, draws)

    def targets(self, faces: Faces) -> tuple[Tensor, Warp | None, Tensor, Tensor]:
        """Random crops of faces: homographies (B, 3, 3), warps, labels (B, 703, 2), visible
        (B, 703)."""
        landmarks = faces.landmarks.to(self.draws.device)
        visible = faces.visible.to(self.draws.device)
        roll = face_roll(landmarks, self.layout)
        centre, side = landmark_box(landmarks, self.layout, torch.zeros_like(roll))
        homography = geometry.random_crops(centre, side, roll, self.draws, self.options.crops)
        share = self.options.warped
        warp = Warp.draw(len(landmarks), share, self.draws) if share else None
        mirror = self.layout.mirror
        target = geometry.crop_landmarks(landmarks, homography, mirror, warp)
        flipped = geometry.is_mirrored(homography)[:, None]
        return homography, warp, target, torch.where(flipped, visible[:, mirror], visible)

    @torch.no_grad()
    def __call__(self, faces: Faces) -> Batch:
        """One batch of training crops."""
        draws, size = self.draws, self.options.size
        homography, warp, target, visible = self.targets(faces)
        count = len(target)
        presence = torch.ones(count, device=draws.device)
        without, wiped = None, []
        if self.options.faceless:
            # Drawn where Python reads it: faces are wiped one by one.
            without = draws.host.subset(count, self.options.faceless)
            wiped = without[: len(without) // 2].tolist()
            without = without.to(draws.device, non_blocking=True)
            presence[without] = 0.0
            homography = self._look_beside(homography, without)
        crop = geometry.crop_pictures(faces.rgba.to(draws.device), homography, size, warp)
        if without is not None:
            crop[without[len(without) // 2 :: 2]] = 0.0  # nobody there at all
        image = self._composite(crop)
        self._wipe_faces(image, target, wiped)
        edge = draws.subset(count, self.options.edge)
        cut = image[edge]
        geometry.cut_at_picture_edge(cut, draws)
        image[edge] = cut
        occluders.occlude(
            image, self._background(max(8, count // 2)), self._skin(image, target), draws
        )
        return Batch(self._degrade(image), target, visible, presence)

    def _background(self, count: int) -> Tensor:
        pick = self.draws.integers(0, len(self.backgrounds), count)
        return self.backgrounds[pick].to(torch.float32) / 255.0

    def _composite(self, crop: Tensor) -> Tensor:
        """Premultiplied crops over random backgrounds (uint8 until here, for memory's sake)."""
        background = self._background(len(crop))
        return background.mul_(1 - crop[:, 3:]).add_(crop[:, :3])

    def _look_beside(self, homography: Tensor, without: Tensor) -> Tensor:
        """Turn a quarter of the faceless crops to what detectors mistake for faces.

        Hair, ears and shoulders beside the face, and single features of it, from close by.
        """
        beside = without[len(without) // 2 + 1 :: 2]
        count = len(beside)
        close = self.draws.chance(0.6, count)
        away = torch.where(
            close, self.draws.uniform(0.0, 1.5, count), self.draws.uniform(1.6, 2.4, count)
        )
        zoom = torch.where(close, self.draws.uniform(0.2, 0.5, count), 1.0)
        angle = self.draws.uniform(0, 2 * torch.pi, count)
        shift = torch.eye(3, device=away.device).repeat(count, 1, 1)
        shift[:, 0, 0] = shift[:, 1, 1] = zoom
        shift[:, :2, 2] = torch.stack([angle.cos(), angle.sin()], -1) * away[:, None]
        homography = homography.clone()
        homography[beside] = homography[beside] @ shift
        return homography

    def _wipe_faces(self, image: Tensor, target: Tensor, chosen: list[int]) -> None:
        """In place: paint the whole face over, with one colour or with a smear of the picture."""
        size = image.shape[-1]
        x, y = occluders.pixel_grid(size, image.device)
        for i in chosen:
            points = target[i, self.layout.box]
            centre = (points.amin(0) + points.amax(0)) / 2
            half = (points.amax(0) - points.amin(0)) / 2 * self.draws.number(1.0, 1.35)
            u, v = (x - centre[0]) / half[0], (y - centre[1]) / half[1]
            disc = u * u + v * v if self.draws.integer(0, 2) else torch.maximum(u.abs(), v.abs())
            mask = ((1.05 - disc) / 0.05).clamp(0, 1)
            kind = self.draws.integer(0, 3)
            if kind == 0:
                paint = self.draws.uniform(0, 1, 3, 1, 1)
            elif kind == 1:
                paint = self._background(1)[0]
            else:
                small = torch.nn.functional.adaptive_avg_pool2d(image[i], 3)[None]
                paint = torch.nn.functional.interpolate(
                    small, (size, size), mode="bilinear", align_corners=False
                )[0]
            image[i] = torch.lerp(image[i], paint.expand_as(image[i]), mask)

    def _skin(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean colour (B, 3) of the picture at the face's landmarks."""
        points = target[:, self.layout.box].clamp(-1, 1)[:, ::8, None]
        colours = torch.nn.functional.grid_sample(image, points, align_corners=False)
        return colours.mean((2, 3))

    def _degrade(self, image: Tensor) -> Tensor:
        """Colour for all; light, resolution, noise and compression for random subsets."""
        draws, options, count = self.draws, self.options, len(image)
        if options.light:
            chosen = draws.subset(count, options.light)
            image[chosen] = photometric.random_light(image[chosen], draws)
        image = photometric.random_colour(image, draws)
        if options.resolution:
            chosen = draws.subset(count, options.resolution)
            image[chosen] = photometric.random_resolution(image[chosen], draws)
        if options.noise:
            chosen = draws.subset(count, options.noise)
            image[chosen] = photometric.add_noise(image[chosen], self.noise, draws)
        if options.compress:
            chosen = draws.subset(count, options.compress)
            image[chosen] = photometric.compress(image[chosen].clamp(0, 1), draws)
        return image.clamp_(0, 1)
