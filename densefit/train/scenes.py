"""Whole pictures for the detector: none to three faces of any size before any background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from densefit.landmarks.crop import FaceLayout, landmark_box
from densefit.train import geometry, occluders, photometric
from densefit.train.dataset import Faces
from densefit.train.random import Draws


@dataclass(frozen=True)
class SceneOptions:
    """What the pictures hold."""

    size: int = 128
    """side of the pictures, pixels; a multiple of 32"""
    boxes: tuple[float, float] = (11.0, 125.0)
    """side of a face's landmark box, pixels, spread evenly over its logarithm"""
    empty: float = 0.3
    """share of pictures without anybody"""
    wiped: float = 0.12
    """share of faces that are painted over, and so are no faces"""
    more: tuple[float, ...] = (0.35, 0.15)
    """shares of pictures with a second and a third person"""
    roll: float = 0.6
    """largest roll added to the render's, radians"""


@dataclass(frozen=True)
class Scenes:
    """image: (B, 3, S, S) float32 in [0, 1]; boxes: (B, M, 3) float32 x, y, side in pixels (pixel
    centres at integers); there: (B, M) bool, false where a slot holds no face."""

    image: Tensor
    boxes: Tensor
    there: Tensor


class SceneMaker:
    """Composes pictures on one device."""

    def __init__(
        self, layout: FaceLayout, backgrounds: Tensor, draws: Draws, options: SceneOptions
    ) -> None:
        """backgrounds: (N, 3, S, S) uint8 with S the size of the pictures."""
        self.layout = layout.to(draws.device)
        self.backgrounds = backgrounds.to(draws.device)
        self.draws, self.options = draws, options
        self.noise = photometric.noise_bank(options.size, draws)

    @torch.no_grad()
    def __call__(self, faces: Faces) -> Scenes:
        """Pictures from a batch of renders; further persons are other renders of the batch."""
        draws, options = self.draws, self.options
        count = len(faces.landmarks)
        pick = draws.integers(0, len(self.backgrounds), count)
        image = self.backgrounds[pick].to(torch.float32) / 255.0
        occluders.occlude(image, image.roll(1, 0), draws.uniform(0.1, 0.9, count, 3), draws)
        boxes = torch.zeros(count, 1 + len(options.more), 3, device=draws.device)
        there = torch.zeros(count, 1 + len(options.more), dtype=torch.bool, device=draws.device)
        for slot, share in enumerate((1 - options.empty, *options.more)):
            order = draws.subset(count, share)
            self._add_person(image, boxes, there, slot, order, faces)
        occluders.occlude(image, image.roll(1, 0), image.mean((2, 3)), draws)
        return Scenes(self._degrade(image), boxes, there)

    def _add_person(
        self, image: Tensor, boxes: Tensor, there: Tensor, slot: int, order: Tensor, faces: Faces
    ) -> None:
        """In place: one more person in the pictures `order`, larger ones in front of smaller."""
        draws, options = self.draws, self.options
        count, size = len(order), options.size
        landmarks = faces.landmarks[order.to(faces.landmarks.device)].to(draws.device)
        level = torch.zeros(count, device=draws.device)
        centre, side = landmark_box(landmarks, self.layout, level)
        wanted = draws.log_uniform(*options.boxes, count) * (2.0 / size)  # units of the picture
        # A picture unit is so many units of the render.
        scale = side / wanted
        place = draws.uniform(-0.95, 0.95, count, 2)
        angle = draws.uniform(-options.roll, options.roll, count) * draws.chance(0.5, count)
        homography = geometry.placement(centre, place, scale, angle)
        rgba = faces.rgba[order.to(faces.rgba.device)].to(draws.device)
        person = geometry.place_pictures(rgba, homography, scale, size)
        image[order] = image[order] * (1 - person[:, 3:]) + person[:, :3]
        drawn = geometry.crop_landmarks(landmarks, homography, self.layout.mirror)
        centre, side = landmark_box(drawn, self.layout, level)
        wiped = draws.host.chance(options.wiped, count)
        for i in torch.nonzero(wiped)[:, 0].tolist():
            self._wipe(image[order[i]], centre[i], side[i])
        to_pixels = size / 2
        boxes[order, slot, :2] = (centre + 1) * to_pixels - 0.5
        boxes[order, slot, 2] = side * to_pixels
        self._hide_covered(boxes, there, slot, order)
        unwiped = ~wiped.to(draws.device, non_blocking=True)
        there[order, slot] = unwiped & (centre.abs() < 0.97).all(1)

    def _hide_covered(self, boxes: Tensor, there: Tensor, slot: int, order: Tensor) -> None:
        """Faces behind the new person's head are no longer asked for."""
        new = boxes[order, slot]
        for earlier in range(slot):
            old = boxes[order, earlier]
            gap = (old[:, :2] - new[:, :2]).abs().amax(1)
            covered = gap < (0.3 * old[:, 2] + 0.8 * new[:, 2])
            there[order, earlier] &= ~covered

    def _wipe(self, picture: Tensor, centre: Tensor, side: Tensor) -> None:
        """In place: paint over the face with one colour or with what stands elsewhere."""
        x, y = occluders.pixel_grid(picture.shape[-1], picture.device)
        half = side / 2 * self.draws.number(1.0, 1.4)
        u, v = (x - centre[0]) / half, (y - centre[1]) / half
        shape = u * u + v * v if self.draws.integer(0, 2) else torch.maximum(u.abs(), v.abs())
        mask = ((1.05 - shape) / 0.05).clamp(0, 1)
        kind = self.draws.integer(0, 3)
        if kind == 0:
            paint = self.draws.uniform(0, 1, 3, 1, 1).expand_as(picture)
        elif kind == 1:
            paint = picture.roll((37, 61), (1, 2))
        else:
            blurred = functional.adaptive_avg_pool2d(picture[None], 5)
            paint = functional.interpolate(blurred, picture.shape[-2:], mode="bilinear")[0]
        picture.copy_(torch.lerp(picture, paint, mask))

    def _degrade(self, image: Tensor) -> Tensor:
        draws, count = self.draws, len(image)
        image = photometric.random_colour(image, draws)
        chosen = draws.subset(count, 0.35)
        image[chosen] = photometric.random_resolution(image[chosen], draws, coarsest=70.0)
        chosen = draws.subset(count, 0.5)
        image[chosen] = photometric.add_noise(image[chosen], self.noise, draws)
        chosen = draws.subset(count, 0.3)
        image[chosen] = photometric.compress(image[chosen].clamp(0, 1), draws)
        return image.clamp_(0, 1)
