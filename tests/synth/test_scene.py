"""What is drawn for a scene: people, light, views, hair."""

from __future__ import annotations

import math

import torch

from densefit.head.model import EXPRESSION_INDEX, GAZE_EXPRESSIONS
from densefit.head.rotation import torch_rotation_matrix
from densefit.synth.light import (
    irradiance_coefficients,
    rotated,
    sh_basis,
    take_out_sun,
)
from densefit.synth.people import sample_expression, sample_joints, sample_people
from densefit.synth.render import Renderer
from densefit.synth.sampling import Dice
from densefit.synth.strands import fit_skull
from densefit.synth.views import cut_out, project, sample_poses, supersampled
from tests.synth.portrait import sampled


def dice(count: int, seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed), count)


def test_expressions_are_ones_that_faces_make() -> None:
    values = sample_expression(dice(2000))
    assert values.min() >= 0 and values.max() <= 1
    assert (values[:, list(GAZE_EXPRESSIONS)] == 0).all()
    close, jaw = values[:, EXPRESSION_INDEX["mouthClose"]], values[:, EXPRESSION_INDEX["jawOpen"]]
    assert (close <= jaw + 0.0501).all()
    left = values[:, EXPRESSION_INDEX["mouthSmileLeft"]]
    right = values[:, EXPRESSION_INDEX["mouthSmileRight"]]
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] > 0.6, "both sides mostly agree"
    assert ((left - right).abs() > 0.3).any(), "but not always"
    assert (jaw > 0.3).float().mean() > 0.1
    assert (values[:, EXPRESSION_INDEX["eyeBlinkLeft"]] > 0.9).float().mean() > 0.03


def test_people_may_differ_more_than_the_models() -> None:
    usual, wide = (sample_people(dice(400), 60, spread=spread) for spread in (1.0, 1.7))
    deviation = wide.identity.std(1) / usual.identity.std(1)
    assert 0.999 < deviation.min() < 1.05 and 1.65 < deviation.max() < 1.701
    torch.testing.assert_close(usual.identity.std(), torch.tensor(1.0), atol=0.03, rtol=0)


def test_eyes_look_the_same_way() -> None:
    joints = sample_joints(dice(500))
    assert (joints[:, 1] == 0).all()
    assert (joints[:, 2, :2] - joints[:, 3, :2]).abs().max() < 0.35
    assert joints[:, 2, 1].abs().max() > 0.4


def test_uniform_light_is_the_same_from_everywhere() -> None:
    sh = irradiance_coefficients(torch.full((1, 3, 32, 64), 0.7))
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    torch.testing.assert_close(
        sh_basis(normals) @ sh[0], torch.full((50, 3), 0.7), atol=2e-3, rtol=0
    )


def test_rotated_light_agrees_with_rotated_normals() -> None:
    sh = irradiance_coefficients(torch.rand(2, 3, 32, 64))
    rotation = torch_rotation_matrix(torch.tensor([[0.3, 1.2, -0.4], [2.0, 0.1, 0.5]]))
    normals = torch.nn.functional.normalize(torch.randn(2, 40, 3), dim=-1)
    direct = sh_basis(normals @ rotation.transpose(1, 2)) @ sh
    torch.testing.assert_close(sh_basis(normals) @ rotated(sh, rotation), direct, atol=1e-4, rtol=0)


def test_the_sun_is_taken_out_of_the_panorama() -> None:
    panorama = torch.full((1, 3, 32, 64), 0.5)
    panorama[0, :, 8, 48] = 500.0
    rest, direction, color = take_out_sun(panorama)
    polar, azimuth = 8.5 / 32 * math.pi, 48.5 / 64 * 2 * math.pi - math.pi
    expected = [
        math.sin(polar) * math.sin(azimuth), math.cos(polar), math.sin(polar) * math.cos(azimuth),
    ]  # fmt: skip
    torch.testing.assert_close(direction[0], torch.tensor(expected), atol=1e-3, rtol=0)
    assert rest.max() < 40 and color.min() > 0.5


def test_cut_outs_hold_the_face() -> None:
    poses = sample_poses(dice(64), (2.0, 2.0), 0.1)
    points = torch.randn(64, 50, 3) * 0.05
    views = cut_out(poses, points, 100)
    camera = points @ poses.rotation.transpose(1, 2) + poses.translation[:, None]
    pixels = project(camera, views.K)[..., :2]
    box = pixels.amax(1) - pixels.amin(1)
    torch.testing.assert_close(box.amax(1), torch.full((64,), 50.0), atol=0.01, rtol=0)
    centre = (pixels.amax(1) + pixels.amin(1)) / 2
    assert ((centre - 49.5).abs() <= 0.1 * 50 + 0.01).all()
    # The same point in a picture of twice the size: pixel centres are integers in both.
    double = project(camera, supersampled(views.K, 2))[..., :2]
    torch.testing.assert_close((double + 0.5) / 2 - 0.5, pixels, atol=1e-3, rtol=1e-4)


def test_skull_fits_an_ellipsoid() -> None:
    points = torch.nn.functional.normalize(torch.randn(1, 400, 3), dim=-1)
    radii, centre = torch.tensor([0.08, 0.11, 0.1]), torch.tensor([0.0, 0.02, -0.09])
    skull = fit_skull(points * radii + centre)
    torch.testing.assert_close(skull.radii[0], radii, atol=1e-3, rtol=0)
    torch.testing.assert_close(skull.centre[0], centre, atol=1e-3, rtol=0)


def test_hair_stays_out_of_the_skull(renderer: Renderer) -> None:
    scene = sampled(renderer, 6, seed=1)
    geometry = renderer.geometry.build(scene)
    first = renderer.layout.start["strips"]
    scalp = 700 * 10 * 2
    hair = geometry.vertices[:, first : first + scalp]
    shell = renderer.layout.fittings.shell_vertices
    skull = fit_skull(geometry.vertices[:, torch.as_tensor(shell)])
    relative = (hair - skull.centre[:, None]) / skull.radii[:, None]
    above = relative[..., 1] > 0
    inside = (relative.norm(dim=-1) < 0.93) & above
    assert inside.float().mean() < 0.02
    assert torch.isfinite(geometry.vertices).all() and torch.isfinite(geometry.normals).all()
