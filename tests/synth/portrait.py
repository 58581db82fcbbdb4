"""A scene that leaves nothing to chance: bare, frontal, evenly lit."""

from __future__ import annotations

from dataclasses import replace

import torch

from densefit.head.model import EXPRESSION_INDEX
from densefit.synth.render import Renderer
from densefit.synth.sampling import rows
from densefit.synth.scene import Scene, sample_scene
from densefit.synth.views import Poses


def sampled(renderer: Renderer, count: int, seed: int) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    return sample_scene(count, generator, renderer.head.identity_count, renderer.root_counts)


def portrait(renderer: Renderer, seed: int = 4, yaw: float = 0.0, **expression: float) -> Scene:
    """One bald, shaven person without glasses, looking at the camera in white light."""
    scene = rows(sampled(renderer, 1, seed), slice(0, 1))
    one = torch.ones(1)
    values = torch.zeros(1, 52)
    for name, value in expression.items():
        values[0, EXPRESSION_INDEX[name]] = value
    people = replace(scene.people, expression=values, joints=torch.zeros(1, 4, 3))
    people = replace(people, identity=0.5 * people.identity)
    hair = replace(
        scene.hair, style=torch.zeros(1, dtype=torch.long), hat=one < 0, length=0 * one,
        beard_kind=torch.zeros(1, dtype=torch.long), thin=one,
    )  # fmt: skip
    looks = replace(
        scene.looks, skin=0.35 * torch.ones(1, 3), freckles=0 * one, flush=0 * one,
        mottle=torch.zeros(1, 4), blotches=torch.zeros(1, 4), blemishes=0 * one,
        shades=torch.zeros(1, 3), creases=torch.zeros(1, 5), bumps=0 * one, oil=0 * one,
        wet=0 * one, liner=0 * one, lash=0 * one, stubble=0 * one,
        shadow_amount=0 * one, veins=0 * one,
    )  # fmt: skip
    panorama = torch.ones(1, 3, 32, 64)
    sh = torch.zeros(1, 9, 3)
    sh[:, 0] = 1 / 0.282095
    light = replace(
        scene.light, panorama=panorama, sh=sh, sun_color=torch.zeros(1, 3), exposure=0.8 * one,
        contrast=one,
    )  # fmt: skip
    c, s = torch.cos(torch.tensor(yaw)), torch.sin(torch.tensor(yaw))
    turned = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    rotation = torch.diag(torch.tensor([1.0, -1, -1])) @ turned
    poses = Poses(rotation[None], torch.tensor([[0.0, 0, 0.9]]), 1.5 * one, torch.zeros(1, 2))
    glasses = replace(scene.glasses, worn=one < 0)
    headphones = replace(scene.headphones, worn=one < 0)
    return replace(
        scene, people=people, hair=hair, looks=looks, light=light, poses=poses, glasses=glasses,
        headphones=headphones,
    )  # fmt: skip
