"""The USD, opened again and skinned by USD itself, shows the fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.export.scene import ExportOptions, ExportScene, frame_vertices, load_scene
from densefit.head.model import HeadModel
from tests.export.rig_fixture import write_toy_rig
from tests.toy_fit import write_toy_fit

pxr = pytest.importorskip("pxr", reason="the extra 'usd' is not installed")


def baked(path: Path):
    """The stage with its blend shapes and joints turned into plain points by USD."""
    from pxr import Gf, Usd, UsdSkel

    stage = Usd.Stage.Open(str(path))
    interval = Gf.Interval(stage.GetStartTimeCode(), stage.GetEndTimeCode())
    assert UsdSkel.BakeSkinning(UsdSkel.Root(stage.GetDefaultPrim()), interval)
    return stage


@pytest.mark.parametrize("unit, up, scale", [("m", "world", 1.0), ("cm", "z", 100.0)])
def test_every_frame_equals_the_fit(out: Path, head: HeadModel, tmp_path, unit, up, scale):
    from pxr import UsdGeom

    from densefit.export.usd import write_usd

    scene = load_scene(out, head, ExportOptions(unit=unit, up=up))
    stage = baked(write_usd(scene, tmp_path)[0])
    assert UsdGeom.GetStageMetersPerUnit(stage) == pytest.approx(1 / scale)
    assert stage.GetTimeCodesPerSecond() == 25
    assert UsdGeom.GetStageUpAxis(stage) == ("Z" if up == "z" else "Y")
    points = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh")).GetPointsAttr()
    turn = scene.axes("z" if up == "z" else "y")
    expected = frame_vertices(scene.fit, head) @ turn.T * scale
    for frame in scene.posed_frames:
        shown = np.array(points.Get(float(frame)))
        assert np.abs(shown - expected[frame]).max() < 5e-5 * scale


def test_mesh_texture_coordinates_and_parts(scene: ExportScene, tmp_path):
    from pxr import Usd, UsdGeom, UsdShade

    from densefit.export.usd import write_usd

    stage = Usd.Stage.Open(str(write_usd(scene, tmp_path)[0]))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh"))
    indices = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    assert np.array_equal(indices, scene.head.triangles)
    st = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").ComputeFlattened()
    expected = scene.head.uv[scene.head.uv_triangles.reshape(-1)]
    np.testing.assert_allclose(np.array(st), expected, atol=1e-6)
    for prim in mesh.GetPrim().GetChildren():
        if prim.IsA(UsdGeom.Subset):
            material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
            assert material.GetPrim().GetName() == prim.GetName()
    assert UsdGeom.Subset.GetFamilyType(mesh, UsdShade.Tokens.materialBind) == "nonOverlapping"


def test_normals_turn_around_what_an_expression_moves(out: Path, head: HeadModel, tmp_path):
    """jawOpen moves one vertex here; the normals of its neighbours turn, too."""
    from pxr import UsdGeom, UsdSkel

    from densefit.export.mesh_arrays import vertex_normals
    from densefit.export.usd import write_usd

    jaw, vertex = head.expression_names.index("jawOpen"), 90
    basis = np.zeros_like(head.expression_basis)
    basis[jaw, vertex] = [0, 0, 0.01]
    pointed = replace(head, expression_basis=basis)
    expression = np.zeros((9, 52))
    expression[:, jaw] = 1
    still = {"rotation": np.zeros((9, 3)), "joints": np.zeros((9, 4, 3))}
    write_toy_fit(out, pointed, expression=expression, **still)
    scene = load_scene(out, pointed, ExportOptions(stabilize=True))
    stage = baked(write_usd(scene, tmp_path)[0])
    shape = UsdSkel.BlendShape(stage.GetPrimAtPath("/head/mesh/jawOpen"))
    around = head.triangles[(head.triangles == vertex).any(axis=1)]
    assert set(shape.GetPointIndicesAttr().Get()) == set(around.reshape(-1).tolist())
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh"))
    points, shown = (np.array(a.Get(1.0)) for a in (mesh.GetPointsAttr(), mesh.GetNormalsAttr()))
    np.testing.assert_allclose(shown, vertex_normals(points, head.triangles), atol=1e-4)


def test_cameras_project_as_the_rig_does(out: Path, head: HeadModel, tmp_path):
    from pxr import Gf, UsdGeom

    from densefit.export.usd import write_usd

    rig = write_toy_rig(out)
    scene = load_scene(out, head, ExportOptions(unit="cm"))
    stage = baked(write_usd(scene, tmp_path)[0])
    point = np.array([0.03, -0.02, 0.8])
    for name, camera in rig.cameras.items():
        usd = UsdGeom.Camera(stage.GetPrimAtPath(f"/cameras/{name}")).GetCamera()
        assert usd.horizontalAperture == pytest.approx(20.955), "tenths of a unit: mm, if it is cm"
        place = Gf.Vec3d(*(scene.axes("y") @ point * 100))
        x, y, _ = (
            usd.frustum.ComputeViewMatrix() * usd.frustum.ComputeProjectionMatrix()
        ).Transform(place)
        pixels = np.array([(x + 1) / 2 * camera.width, (1 - y) / 2 * camera.height]) - 0.5
        ahead = camera.T_camera_world @ [*point, 1]
        expected = camera.K @ (ahead[:3] / ahead[2])  # USD cameras know no lens distortion
        np.testing.assert_allclose(pixels, expected[:2], atol=0.02)


def test_missing_package_is_named(scene: ExportScene, tmp_path, monkeypatch):
    import sys

    from densefit.errors import InputError
    from densefit.export.usd import write_usd

    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(InputError, match=r"pip install 'densefit\[usd\]'"):
        write_usd(scene, tmp_path)
