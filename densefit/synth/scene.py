"""A scene: everything that a picture shows, as tensors, drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.clothes import Clothes, sample_clothes
from densefit.synth.glasses import Glasses, sample_glasses
from densefit.synth.hair import Hair, sample_hair
from densefit.synth.headphones import Headphones, sample_headphones
from densefit.synth.light import Light, exposed_for_skin, sample_light
from densefit.synth.looks import Looks, sample_looks
from densefit.synth.people import People, sample_people
from densefit.synth.sampling import Dice
from densefit.synth.views import Poses, sample_poses


@dataclass(frozen=True)
class SceneOptions:
    """What is drawn.

    margin: side of the square over the side of the landmark box, lowest and highest.
    jitter: largest shift of the square's centre, in boxes.
    favour: an act (of `people.ACTS`) that two of three pictures show.
    spread: people's identities scatter with 1 to so many standard deviations of the model's.
    """

    margin: tuple[float, float] = (1.8, 2.0)
    jitter: float = 0.08
    favour: str | None = None
    spread: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A batch of pictures to take."""

    people: People
    poses: Poses
    looks: Looks
    hair: Hair
    clothes: Clothes
    glasses: Glasses
    headphones: Headphones
    light: Light


def sample_scene(
    count: int,
    generator: torch.Generator,
    identity_count: int,
    roots: tuple[int, int],
    environments: Tensor | None = None,
    options: SceneOptions | None = None,
) -> Scene:
    """Draw `count` scenes.

    Args:
        identity_count: coefficients of the head model.
        roots: number of places where hair and beard may be rooted (`Renderer.root_counts`).
        environments: (N, 3, 32, 64) panoramas to light with, besides the procedural ones.
    """
    options = options or SceneOptions()
    dice = Dice(generator, count)
    hair = sample_hair(dice, *roots)
    looks = sample_looks(dice, hair.color, hair.masculine)
    return Scene(
        people=sample_people(dice, identity_count, options.favour, options.spread),
        poses=sample_poses(dice, options.margin, options.jitter),
        looks=looks,
        hair=hair,
        clothes=sample_clothes(dice),
        glasses=sample_glasses(dice),
        light=exposed_for_skin(dice, sample_light(dice, environments), looks.skin),
        headphones=sample_headphones(dice),
    )
