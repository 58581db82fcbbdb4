"""transforms.json and its pictures: rig and take as nerfstudio and tools like VHAP read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densefit.errors import InputError
from densefit.export.scene import ExportScene
from densefit.files import ensure_out_dir, write_json
from densefit.footage import need_footage
from densefit.head.rotation import rotation_matrix
from densefit.progress import progress, warn

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.fit_file import FitFile

MODELS = {"opencv": "OPENCV", "opencv_fisheye": "OPENCV_FISHEYE"}
LENS = (
    "camera_model", "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y",
)  # fmt: skip
DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FISHEYE_DISTORTION = ("k1", "k2", "k3", "k4")
JPEG_QUALITY = 95


def write_nerfstudio(scene: ExportScene, folder: Path) -> list[Path]:
    """transforms.json and images/<timestep>_<camera>.jpg, for every frame and camera that has both.

    `transform_matrix` maps camera (OpenGL: +x right, +y up, -z forward) to the y-up world, or that
    of `up`, in `unit`; with `--stabilize` to the head frame, so that the cameras move and the head
    stands still. `timestep_index` counts the exported frames, `camera_index` the cameras. Pixel
    centres are at half-integers there, so cx and cy are half a pixel larger than in rig.yaml.
    Pictures exist only as recorded: `--fps` chooses those nearest to its instants.
    """
    footage = need_footage(scene.out, "--format nerfstudio")
    cameras = _known_cameras(scene)
    images = ensure_out_dir(folder / "images")
    path = folder / "transforms.json"
    path.unlink(missing_ok=True)
    for stale in images.glob("*.jpg"):
        stale.unlink()
    entries: list[dict[str, Any]] = []
    shown = np.unique(scene.moments)
    shown = shown[scene.recorded.posed[shown]].tolist()
    steps = {frame: step for step, frame in enumerate(shown)}
    with progress(len(cameras) * len(steps), "export nerfstudio", unit="pictures") as bar:
        for number, (name, camera) in enumerate(cameras.items()):
            for frame, image in footage.pictures(name, shown):
                file = images / f"{steps[frame]:05d}_{number:02d}.jpg"
                _write_jpeg(file, image)
                entries.append(
                    {
                        "timestep_index": steps[frame],
                        "timestep_index_original": frame,
                        "timestep_id": f"frame_{frame:06d}",
                        "camera_index": number,
                        "camera_id": name,
                        "file_path": f"images/{file.name}",
                        "transform_matrix": _camera_matrix(scene, camera, frame).tolist(),
                        "camera_model": MODELS[camera.model],
                        **_intrinsics(camera, image.shape[1], image.shape[0]),
                    }
                )
                bar.advance(1)
    entries.sort(key=lambda entry: (entry["timestep_index"], entry["camera_index"]))
    document = {
        **_shared_lens(entries),
        "scale_source": scene.fit.meta["scale"],  # instant-ngp multiplies by a number "scale"
        "timestep_indices": sorted({entry["timestep_index"] for entry in entries}),
        "camera_indices": sorted({entry["camera_index"] for entry in entries}),
        "frames": entries,
    }
    write_json(path, document)
    return [path]


def _shared_lens(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What all entries agree on, for readers that expect one lens.

    Nerfstudio takes each of these for every picture as soon as it stands here, and all of the
    distortion as soon as one of its coefficients does.
    """
    shared = {}
    for group in (*((name,) for name in LENS), DISTORTION):
        values = [{name: e[name] for name in group if name in e} for e in entries]
        if values and all(value == values[0] for value in values):
            shared.update(values[0])
    if entries and "camera_model" not in shared:
        warn(
            "nerfstudio: the rig has perspective and fisheye cameras; each picture states its "
            "camera_model, but Nerfstudio reads one for all. Export a rig of each kind for it"
        )
    return shared


def _known_cameras(scene: ExportScene) -> dict[str, Camera]:
    """With --stabilize too: here the cameras may move."""
    every = scene.rig.cameras.items() if scene.rig is not None else ()
    cameras = {n: c for n, c in every if c.K is not None and c.T_camera_world is not None}
    if not cameras:
        raise InputError(f"{scene.out / 'rig.yaml'}: no camera with known lens and place")
    return cameras


def _intrinsics(camera: Camera, width: int, height: int) -> dict[str, Any]:
    from densefit.picture_size import picture_camera

    sized = picture_camera(camera, width, height)
    k = sized.K
    assert k is not None
    names = FISHEYE_DISTORTION if camera.model == "opencv_fisheye" else DISTORTION
    lens = {name: float(value) for name, value in zip(names, sized.dist, strict=False)}
    return {
        "fl_x": float(k[0, 0]),
        "fl_y": float(k[1, 1]),
        "cx": float(k[0, 2]) + 0.5,
        "cy": float(k[1, 2]) + 0.5,
        "w": width,
        "h": height,
        "camera_angle_x": float(2 * np.arctan(width / (2 * k[0, 0]))),
        "camera_angle_y": float(2 * np.arctan(height / (2 * k[1, 1]))),
        **lens,
    }


def _camera_matrix(scene: ExportScene, camera: Camera, frame: int) -> np.ndarray:
    """(4, 4): OpenGL camera to the exported world."""
    assert camera.T_camera_world is not None
    T_world_camera = np.linalg.inv(camera.T_camera_world)
    T_world_camera[:3, 1:3] *= -1  # OpenCV's y down and z forward become y up and z back
    turn = np.eye(4)
    if scene.options.stabilize:
        turn = np.linalg.inv(_head_pose(scene.recorded, frame))
    axes = np.eye(4)
    axes[:3, :3] = scene.axes(scene.up_of("y"))
    T_export_camera = axes @ turn @ T_world_camera
    T_export_camera[:3, 3] *= scene.scale
    return T_export_camera


def _head_pose(fit: FitFile, frame: int) -> np.ndarray:
    """T_world_head (4, 4)."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(fit.rotation[frame])
    pose[:3, 3] = fit.translation[frame]
    return pose


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    import cv2

    good, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert good, "OpenCV always has a JPEG encoder"
    # transforms.json, written last, says that all are there; a sync for each would take longer
    # than all the rest.
    path.write_bytes(data.tobytes())
