"""Pictures and labels: what is drawn lies exactly where the landmarks say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration.camera import Camera
from densefit.synth import raster
from densefit.synth.clothes import COLLARS
from densefit.synth.complexion import CREASES
from densefit.synth.layout import PROP_PART
from densefit.synth.render import RenderBatch, Renderer
from densefit.synth.sampling import rows
from densefit.synth.views import camera_points, project
from tests.synth.portrait import portrait, sampled


def colors_at(batch: RenderBatch, renderer: Renderer, region: str) -> np.ndarray:
    """(n, 3) colours in [0, 1] of the pixels under a region's landmarks."""
    index = renderer.head.region(region)
    x, y = batch.landmarks_px[0, index].round().long().unbind(-1)
    return batch.rgba[0, :3, y, x].T.numpy() / 255


def test_labels_are_the_projected_landmarks(renderer: Renderer) -> None:
    scene = sampled(renderer, 3, seed=2)
    batch = renderer.render(scene, 64)
    for k in range(3):
        vertices = renderer.head.vertices(
            scene.people.identity[k].numpy(),
            scene.people.expression[k : k + 1].numpy(),
            scene.people.joints[k : k + 1].numpy(),
        )[0]
        T = np.eye(4)
        T[:3, :3] = batch.views.rotation[k].numpy()
        T[:3, 3] = batch.views.translation[k].numpy()
        # float32 rotations are orthonormal to 1e-7 only; the camera class insists on more.
        u, _, vt = np.linalg.svd(T[:3, :3])
        T[:3, :3] = u @ vt
        camera = Camera("c", 64, 64, K=batch.views.K[k].numpy(), T_camera_world=T)
        points = renderer.head.landmarks(vertices)
        np.testing.assert_allclose(batch.landmarks_px[k], camera.project(points), atol=0.01)
        depth = points @ T[2, :3] + T[2, 3]
        np.testing.assert_allclose(batch.depth[k], depth, atol=1e-5)


def test_irises_are_drawn_under_their_landmarks(renderer: Renderer) -> None:
    scene = portrait(renderer, eyeWideLeft=0.6, eyeWideRight=0.6)
    looks = replace(
        scene.looks, iris=torch.tensor([[0.02, 0.05, 0.9]]), sclera=torch.full((1, 3), 0.8),
        pupil=torch.tensor([0.3]), limbus=torch.zeros(1),
    )  # fmt: skip
    batch = renderer.render(replace(scene, looks=looks), 512, supersample=1)
    rgb = batch.rgba[0, :3].numpy() / 255
    blue = (rgb[2] > 1.8 * rgb[0]) & (rgb[2] > 0.2)
    y, x = np.nonzero(blue)
    for side in ("left", "right"):
        index = renderer.head.region(f"{side}_iris")
        ring, centre = batch.landmarks_px[0, index[:12]].numpy(), batch.landmarks_px[0, index[12]]
        near = np.hypot(x - float(centre[0]), y - float(centre[1])) < 40
        # The sides of the iris (its top and bottom are under the lids) and its centre.
        assert abs(x[near].max() - ring[:, 0].max()) < 1.5
        assert abs(x[near].min() - ring[:, 0].min()) < 1.5
        middle = rgb[:, int(centre[1].round()), int(centre[0].round())]
        assert middle.max() < 0.25, "the pupil is dark"


def test_lips_and_brows_are_painted_under_their_landmarks(renderer: Renderer) -> None:
    scene = portrait(renderer)
    one = torch.ones(1)
    looks = replace(
        scene.looks, lip_color=torch.tensor([[0.7, 0.02, 0.02]]), lip_paint=one,
        brow_color=torch.full((1, 3), 0.01), brow_density=1.2 * one, brow_width=0 * one,
    )  # fmt: skip
    batch = renderer.render(replace(scene, looks=looks), 384, supersample=1)
    for region in ("lips_middle_upper", "lips_middle_lower"):
        lips = colors_at(batch, renderer, region)[2:-2]
        assert (lips[:, 0] > 2 * lips[:, 1]).all(), region
    for region in ("nose_base", "left_face", "left_lower_fold"):
        skin = colors_at(batch, renderer, region)
        assert np.median(skin[:, 0] - 1.1 * skin[:, 1]) < 0, region
    for side in ("left", "right"):
        brow = colors_at(batch, renderer, f"{side}_brow_middle")[1:7].mean()
        lid = colors_at(batch, renderer, f"{side}_upper_fold").mean()
        assert brow < 0.6 * lid


def test_a_shaven_beard_shades_chin_and_upper_lip(renderer: Renderer) -> None:
    scene, one = portrait(renderer), torch.ones(1)
    looks = replace(scene.looks, stubble=0.6 * one, stubble_lip=0 * one, patchy=0 * one)
    bare, shaven = (
        renderer.render(replace(scene, looks=some), 256, supersample=1)
        for some in (scene.looks, looks)
    )
    for region, ratio in (("jaw", 0.8), ("nose_ridge", 1.01), ("left_lower_fold", 1.01)):
        before, after = (colors_at(some, renderer, region) for some in (bare, shaven))
        middle = slice(len(before) // 3, -(len(before) // 3))
        share = after[middle].mean() / before[middle].mean()
        assert share < ratio and (ratio < 1 or share > 0.99), (region, share)
    lips = renderer.head.region("lips_outer_upper")
    x, y = bare.landmarks_px[0, lips[4]].round().long().tolist()
    above = slice(y - 8, y - 4), slice(x - 3, x + 4)
    before, after = (some.rgba[0, :3, *above].float().mean() for some in (bare, shaven))
    assert after < 0.85 * before


@pytest.mark.parametrize(
    ("crease", "acts"),
    [
        ("forehead", ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")),
        ("crow's feet", ("cheekSquintLeft", "cheekSquintRight")),
        ("smile", ("mouthSmileLeft", "mouthSmileRight")),
        ("frown", ("browDownLeft", "browDownRight")),
    ],
)
def test_expressions_deepen_creases(renderer: Renderer, crease: str, acts: tuple[str, ...]) -> None:
    creases = torch.zeros(1, len(CREASES))
    creases[0, CREASES.index(crease)] = 0.8
    change = []
    for strength in (0.0, 1.0):
        scene = portrait(renderer, **dict.fromkeys(acts, strength))
        lined = replace(scene, looks=replace(scene.looks, creases=creases))
        smooth, folded = (
            renderer.render(some, 256, supersample=1).rgba[0, :3].float() for some in (scene, lined)
        )
        change.append(float((folded - smooth).abs().mean()))
    assert change[0] > 0 and change[1] > 1.4 * change[0]


def test_visibility(renderer: Renderer) -> None:
    head = renderer.head
    shut = renderer.render(portrait(renderer), 128)
    teeth = np.concatenate([head.region("left_upper_teeth"), head.region("right_upper_teeth")])[:4]
    assert not shut.visible[0, teeth].any()
    grin = renderer.render(
        portrait(renderer, jawOpen=0.4, mouthUpperUpLeft=0.9, mouthUpperUpRight=0.9), 128
    )
    assert grin.visible[0, teeth[::2]].any()
    assert shut.visible[0, head.region("nose_ridge")].float().mean() > 0.9
    assert not shut.visible[0, head.region("scalp_middle")[-1]], "the back of the head"
    turned = renderer.render(portrait(renderer, yaw=1.2), 128)
    far = head.region("right_ear"), head.region("left_ear")
    seen = [float(turned.visible[0, index].float().mean()) for index in far]
    assert max(seen) > 0.5 and min(seen) == 0.0
    lips = head.region("lips_outer_upper")
    closed = renderer.render(portrait(renderer, eyeBlinkLeft=1.0), 128)
    assert closed.visible[0, lips].any()
    assert not closed.visible[0, head.region("left_iris")[-1]], "behind the lid"
    assert shut.visible[0, head.region("left_iris")[-1]]
    for region in ("left_upper_lid", "right_lower_lid"):  # edges, which turn away from the camera
        assert shut.visible[0, head.region(region)].float().mean() > 0.8, region


def test_what_is_worn_hides_landmarks(renderer: Renderer) -> None:
    bare = portrait(renderer, yaw=0.7)
    neck = renderer.head.region("neck_middle")
    on = torch.ones(1, dtype=torch.bool)
    scarf = torch.full((1,), COLLARS.index("scarf"))
    worn = replace(
        bare,
        headphones=replace(bare.headphones, worn=on, radius=0.04 * torch.ones(1)),
        clothes=replace(bare.clothes, collar=scarf, collar_height=0.055 * torch.ones(1)),
    )
    for scene, least, most in ((bare, 0.5, 1.0), (worn, 0.0, 0.3)):
        batch = renderer.render(scene, 128)
        ears = [float(batch.visible[0, renderer.head.region(f"{s}_ear")].float().mean())
                for s in ("left", "right")]  # fmt: skip
        assert least <= max(ears) <= most
    x, y = batch.landmarks_px[0, neck].round().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < 128) & (y < 128)
    assert (batch.parts[0, y[inside], x[inside]] == PROP_PART).any(), "the scarf on the neck"
    lips = renderer.head.region("lips_outer_upper")
    assert batch.visible[0, lips].float().mean() > 0.8


def test_head_agrees_with_open3d(renderer: Renderer) -> None:
    o3d = pytest.importorskip("open3d")
    scene = rows(sampled(renderer, 2, seed=9), slice(0, 1))
    batch = renderer.render(scene, 96)
    size = 192
    triangles = torch.as_tensor(renderer.head.triangles).long()
    points = camera_points(batch.views, batch.vertices)
    K = batch.views.K.clone()
    K[:, :2] *= 2
    ids, _ = raster.rasterize(project(points, K), triangles, size, size, cull="none")
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K[0].numpy()).T
    caster = o3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        o3d.core.Tensor(points[0].numpy()), o3d.core.Tensor(triangles.numpy().astype(np.uint32))
    )
    rays = np.concatenate([np.zeros_like(rays), rays], -1).astype(np.float32)
    hits = caster.cast_rays(o3d.core.Tensor(rays))
    expected = hits["primitive_ids"].numpy().astype(np.int64)
    expected[~np.isfinite(hits["t_hit"].numpy())] = -1
    covered = (expected >= 0) | (ids[0].numpy() >= 0)
    assert covered.mean() > 0.15
    assert (ids[0].numpy() == expected)[covered].mean() >= 0.99


def test_the_same_seed_gives_the_same_picture(renderer: Renderer) -> None:
    first = renderer.render(sampled(renderer, 2, seed=7), 64)
    again = renderer.render(sampled(renderer, 2, seed=7), 64)
    other = renderer.render(sampled(renderer, 2, seed=8), 64)
    assert torch.equal(first.rgba, again.rgba)
    assert torch.equal(first.landmarks_px, again.landmarks_px)
    assert not torch.equal(first.rgba, other.rgba)


def test_pictures_do_not_depend_on_their_batch(renderer: Renderer) -> None:
    scene = sampled(renderer, 3, seed=5)
    together = renderer.render(scene, 64).rgba.float()
    alone = renderer.render(rows(scene, slice(1, 2)), 64).rgba.float()
    # Sums run in another order, which moves a few samples on edges.
    assert (together[1] - alone[0]).abs().mean() < 0.5


def test_parts_and_alpha(renderer: Renderer) -> None:
    batch = renderer.render(portrait(renderer), 256)  # a pupil is some pixels wide
    parts = batch.parts[0]
    assert set(parts.unique().tolist()) <= set(range(13)) | {100, 101}
    alpha = batch.rgba[0, 3]
    assert ((parts > 0) <= (alpha > 0)).all()
    assert alpha[parts > 0].float().mean() > 240
    names = renderer.head.part_names
    index = renderer.head.region("left_iris")[-1]
    x, y = batch.landmarks_px[0, index].round().long()
    assert parts[y, x] == names.index("pupil") + 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_pictures(renderer: Renderer) -> None:
    from densefit.synth.sampling import to_device

    scene = sampled(renderer, 4, seed=11)
    here = renderer.render(scene, 96)
    there = Renderer(renderer.head, "cuda").render(to_device(scene, "cuda"), 96)
    torch.testing.assert_close(there.landmarks_px.cpu(), here.landmarks_px, atol=0.01, rtol=0)
    # Ties and roundings on edges fall differently now and then.
    assert (there.rgba.cpu().float() - here.rgba.float()).abs().mean() < 1.0
