"""USD: a UsdSkel head with blend shapes and joints, its cameras, and the take as time samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import densefit
from densefit.errors import InputError
from densefit.export.materials import TEXTURED_PARTS, material_of
from densefit.export.mesh_arrays import vertex_normals
from densefit.export.quaternions import quaternion_from_axis_angle, quaternion_from_matrix
from densefit.export.rigged import RiggedHead, rigged_head
from densefit.export.scene import ExportScene
from densefit.export.target_normals import target_normals
from densefit.export.texture import write_texture
from densefit.files import atomic_path
from densefit.head.rotation import axis_angle, rotation_matrix

if TYPE_CHECKING:
    from calibration import Camera

JOINTS = ("root", "root/neck", "root/left_eye", "root/right_eye")
# Column of each in the model's order neck, head, left eye, right eye; the root is the head itself.
COLUMNS = (1, 0, 2, 3)
ROOT = "/head"
SENSOR_WIDTH = 0.020955
"""m: that of USD's own default camera, Super 35; pictures depend on its ratio to the focal length
only."""


def write_usd(scene: ExportScene, folder: Path) -> list[Path]:
    """head.usd (binary): metersPerUnit of `unit`, upAxis of `up` (Y by default).

    Time code t is the t-th exported frame; frames without a head have no samples.

    Raises:
        InputError: the extra `usd` is not installed.
    """
    Usd, UsdGeom, _, UsdSkel = _pxr()
    stage = Usd.Stage.CreateInMemory()
    up = scene.up_of("y")
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z if up == "z" else UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1 / scene.scale)
    codes = scene.seconds(scene.posed_frames) * scene.fps
    stage.SetTimeCodesPerSecond(scene.fps)
    stage.SetFramesPerSecond(scene.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(float(scene.seconds(scene.frames[-1:])[0] * scene.fps))
    stage.GetRootLayer().comment = f"densefit {densefit.__version__}"
    root = UsdSkel.Root.Define(stage, ROOT)
    stage.SetDefaultPrim(root.GetPrim())
    rigged = rigged_head(scene)
    _add_skeleton(stage, scene, rigged)
    _add_animation(stage, scene, rigged, scene.axes(up), codes)
    files = [folder / "head.usd"]
    if scene.options.texture:
        files.append(write_texture(scene, folder / "head.png"))
    _add_mesh(stage, scene, rigged)
    for camera in scene.cameras.values():
        _add_camera(stage, camera, scene.axes(up), scene.scale)
    path = files[0]
    with atomic_path(path) as temporary:
        if not stage.GetRootLayer().Export(str(temporary)):
            raise InputError(f"{path}: could not be written; is the disk full?")
    return files


def _pxr() -> tuple[Any, Any, Any, Any]:
    try:
        from pxr import Usd, UsdGeom, UsdShade, UsdSkel
    except ImportError as error:
        raise InputError(
            "--format usd needs usd-core; install it with: pip install 'densefit[usd]'"
        ) from error
    return Usd, UsdGeom, UsdShade, UsdSkel


def _points(array: np.ndarray) -> Any:
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(array, np.float32))


def _integers(array: np.ndarray) -> Any:
    from pxr import Vt

    return Vt.IntArray.FromNumpy(np.ascontiguousarray(array, np.int32).reshape(-1))


def _translation(offset: np.ndarray) -> Any:
    from pxr import Gf

    return Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*map(float, offset)))


def _add_skeleton(stage: Any, scene: ExportScene, rigged: RiggedHead) -> None:
    """Joints stand at their centres; nothing is turned at rest, so bind and rest agree."""
    from pxr import UsdSkel, Vt

    skeleton = UsdSkel.Skeleton.Define(stage, f"{ROOT}/skeleton")
    skeleton.CreateJointsAttr(Vt.TokenArray(JOINTS))
    places = [np.zeros(3), *(rigged.joint_centres[c] * scene.scale for c in COLUMNS[1:])]
    matrices = Vt.Matrix4dArray([_translation(place) for place in places])
    skeleton.CreateBindTransformsAttr(matrices)
    skeleton.CreateRestTransformsAttr(matrices)
    binding = UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([f"{ROOT}/skeleton/take"])


def _add_animation(
    stage: Any, scene: ExportScene, rigged: RiggedHead, turn: np.ndarray, codes: np.ndarray
) -> None:
    from pxr import Gf, UsdSkel, Vt

    fit, frames = scene.fit, scene.posed_frames
    animation = UsdSkel.Animation.Define(stage, f"{ROOT}/skeleton/take")
    animation.CreateJointsAttr(Vt.TokenArray(JOINTS))
    animation.CreateBlendShapesAttr(Vt.TokenArray(rigged.names))
    animation.CreateScalesAttr(Vt.Vec3hArray([Gf.Vec3h(1, 1, 1)] * len(JOINTS)))
    root = quaternion_from_axis_angle(axis_angle(turn @ rotation_matrix(fit.rotation[frames])))
    joints = [quaternion_from_axis_angle(fit.joints[frames, c]) for c in COLUMNS[1:]]
    quaternions = np.stack([root, *joints], axis=1)
    places = np.tile(rigged.joint_centres[list(COLUMNS)], (len(frames), 1, 1)) * scene.scale
    places[:, 0] = fit.translation[frames] @ turn.T * scene.scale
    rotations = animation.CreateRotationsAttr()
    translations = animation.CreateTranslationsAttr()
    weights = animation.CreateBlendShapeWeightsAttr()
    for i, code in enumerate(codes.tolist()):
        turned = [Gf.Quatf(float(w), float(x), float(y), float(z)) for x, y, z, w in quaternions[i]]
        rotations.Set(Vt.QuatfArray(turned), code)
        translations.Set(_points(places[i]), code)
        weights.Set(Vt.FloatArray(rigged.weights[i].tolist()), code)


def _add_mesh(stage: Any, scene: ExportScene, rigged: RiggedHead) -> None:
    from pxr import Sdf, UsdGeom, UsdSkel, Vt

    surface, scale = scene.surface, scene.scale
    mesh = UsdGeom.Mesh.Define(stage, f"{ROOT}/mesh")
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreatePointsAttr(_points(rigged.neutral * scale))
    mesh.CreateFaceVertexCountsAttr(_integers(np.full(len(surface.triangles), 3)))
    mesh.CreateFaceVertexIndicesAttr(_integers(surface.triangles))
    mesh.CreateNormalsAttr(_points(vertex_normals(rigged.neutral, surface.triangles)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateExtentAttr(
        _points(np.stack([rigged.neutral.min(0) * scale, rigged.neutral.max(0) * scale]))
    )
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(surface.uv, np.float32)))
    st.SetIndices(_integers(surface.uv_triangles))
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([f"{ROOT}/skeleton"])
    count = len(rigged.neutral)
    binding.CreateJointIndicesPrimvar(False, len(JOINTS)).Set(
        _integers(np.tile(np.arange(len(JOINTS)), (count, 1)))
    )
    weights = np.ascontiguousarray(rigged.skinning[:, list(COLUMNS)], np.float32)
    binding.CreateJointWeightsPrimvar(False, len(JOINTS)).Set(
        Vt.FloatArray.FromNumpy(weights.reshape(-1))
    )
    _add_blend_shapes(stage, scene, rigged, binding)
    _add_materials(stage, scene, mesh)


def _add_blend_shapes(stage: Any, scene: ExportScene, rigged: RiggedHead, binding: Any) -> None:
    """Sparse: only the vertices that a shape moves, and those around, whose normals turn."""
    from pxr import UsdSkel, Vt

    triangles = scene.surface.triangles
    normals = vertex_normals(rigged.neutral, triangles)
    targets = []
    every = target_normals(rigged, normals, triangles)
    for name, delta, turned in zip(rigged.names, rigged.targets, every, strict=True):
        shape = UsdSkel.BlendShape.Define(stage, f"{ROOT}/mesh/{name}")
        moved = np.flatnonzero((delta != 0).any(axis=1) | (turned != 0).any(axis=1))
        moved = moved if len(moved) else np.zeros(1, np.int64)  # an empty one would be dense
        shape.CreateOffsetsAttr(_points(delta[moved] * scene.scale))
        shape.CreateNormalOffsetsAttr(_points(turned[moved]))
        shape.CreatePointIndicesAttr(_integers(moved))
        targets.append(shape.GetPath())
    binding.CreateBlendShapesAttr(Vt.TokenArray(rigged.names))
    binding.CreateBlendShapeTargetsRel().SetTargets(targets)


def _add_materials(stage: Any, scene: ExportScene, mesh: Any) -> None:
    """A material and a subset of the faces for each part."""
    from pxr import Gf, Sdf, UsdShade

    surface = scene.surface
    binding = UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim())
    for part, name in enumerate(surface.part_names):
        faces = np.flatnonzero(surface.triangle_part == part)
        if not len(faces):
            continue
        subset = binding.CreateMaterialBindSubset(name, _integers(faces))
        look = material_of(name)
        material = UsdShade.Material.Define(stage, f"{ROOT}/materials/{name}")
        shader = UsdShade.Shader.Define(stage, f"{ROOT}/materials/{name}/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        colour = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        colour.Set(Gf.Vec3f(*look.rgb))
        if scene.options.texture and name in TEXTURED_PARTS:
            colour.ConnectToSource(_add_colour_map(stage, material).ConnectableAPI(), "rgb")
        for key, value in (("roughness", look.roughness), ("opacity", look.alpha)):
            shader.CreateInput(key, Sdf.ValueTypeNames.Float).Set(value)
        material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(material)


def _add_colour_map(stage: Any, material: Any) -> Any:
    """A UsdUVTexture that reads head.png, which lies beside the file.

    It is inside `material`, because shaders may be connected within one material only.
    """
    from pxr import Sdf, UsdShade

    reader = UsdShade.Shader.Define(stage, material.GetPath().AppendChild("st"))
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    image = UsdShade.Shader.Define(stage, material.GetPath().AppendChild("image"))
    image.CreateIdAttr("UsdUVTexture")
    image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set("./head.png")
    image.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    result = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(result)
    image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    return image


def _add_camera(stage: Any, camera: Camera, turn: np.ndarray, scale: float) -> None:
    """USD cameras look along -z with y up; apertures are in tenths of a stage unit."""
    from pxr import Gf, UsdGeom

    k, transform = camera.K, camera.T_camera_world
    assert k is not None and transform is not None
    item = UsdGeom.Camera.Define(stage, f"/cameras/{_prim_name(camera.name)}")
    width = 10 * SENSOR_WIDTH * scale
    item.CreateHorizontalApertureAttr(width)
    item.CreateVerticalApertureAttr(width * camera.height / camera.width * k[0, 0] / k[1, 1])
    item.CreateFocalLengthAttr(float(k[0, 0] / camera.width * width))
    offset = (k[:2, 2] + 0.5) / (camera.width, camera.height) - 0.5
    item.CreateHorizontalApertureOffsetAttr(float(-offset[0] * width))
    item.CreateVerticalApertureOffsetAttr(
        float(offset[1] * width * camera.height / camera.width * k[0, 0] / k[1, 1])
    )
    item.CreateClippingRangeAttr(Gf.Vec2f(0.01 * scale, 100 * scale))
    inverse = np.linalg.inv(transform)
    x, y, z, w = map(float, quaternion_from_matrix(turn @ (inverse[:3, :3] * [1.0, -1.0, -1.0])))
    place = turn @ inverse[:3, 3] * scale
    item.AddTranslateOp().Set(Gf.Vec3d(*map(float, place)))
    item.AddOrientOp().Set(Gf.Quatf(w, x, y, z))


def _prim_name(name: str) -> str:
    from pxr import Tf

    return Tf.MakeValidIdentifier(name)
