"""The stage fit-rig from known landmarks: files, resuming, refusing, and the truth recovered."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from calibration import Camera, Rig, read_rig, write_rig
from densefit.capture import VideoWriter, load_take
from densefit.cli import main
from densefit.errors import InputError
from densefit.export.formats import export
from densefit.export.scene import frame_vertices
from densefit.fit import FitOptions
from densefit.fit_file import read_fit
from densefit.fit_rig import FitRigOptions, run_fit_rig
from densefit.head.model import load_head
from densefit.head.rotation import rotation_matrix
from densefit.landmarks import files, predictor
from densefit.landmarks.files import LandmarkTrack

WIDTH, HEIGHT, FRAMES = 320, 240, 6
NAMES = ("left", "right", "back")
FLIP = rotation_matrix(np.array([np.pi, 0.0, 0.0]))  # the head's y is up, the cameras' down


@dataclass(frozen=True)
class Scene:
    """A small take with known truth; the camera `back` never sees a face."""

    take: Path
    tracks: dict[str, LandmarkTrack]
    vertices: np.ndarray  # (T, V, 3)


def make_camera(name: str, angle: float) -> Camera:
    centre = np.array([0.0, 0.0, 0.6])
    T = np.eye(4)
    T[:3, :3] = rotation_matrix(np.array([0.0, angle, 0.0]))
    T[:3, 3] = centre - T[:3, :3] @ centre
    K = [[350.0, 0, 160], [0, 350, 120], [0, 0, 1]]
    return Camera(name, WIDTH, HEIGHT, K=K, dist=[-0.1, 0.02, 0, 0], T_camera_world=T)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    head, rng = load_head(), np.random.default_rng(4)
    folder = tmp_path_factory.mktemp("take")
    time = np.arange(FRAMES) / 25
    expression = np.zeros((FRAMES, 52))
    expression[:, head.expression_names.index("jawOpen")] = 0.3 + 4 * time / 3
    joints = np.zeros((FRAMES, 4, 3))
    joints[:, 2:, 1] = 0.2
    rotation = FLIP @ rotation_matrix(np.stack([0 * time, time, 0 * time], 1))
    identity = rng.normal(0, 0.5, head.identity_count)
    vertices = head.vertices(identity, expression, joints) @ rotation.swapaxes(1, 2)
    vertices = vertices + np.array([0.0, 0.02, 0.6])
    landmarks = head.landmarks(vertices)
    cameras = {"left": make_camera("left", -0.3), "right": make_camera("right", 0.3)}
    cameras["back"] = make_camera("back", np.pi)
    tracks = {}
    for name, camera in cameras.items():
        exact = np.stack([camera.project(points) for points in landmarks])
        xy = (exact + rng.normal(0, 0.3, exact.shape)).astype(np.float32)
        tracks[name] = make_track(xy, time, head.landmarks_version, name != "back")
        with VideoWriter(folder / f"{name}.mp4", 25, WIDTH, HEIGHT) as video:
            for _ in range(FRAMES):
                video.write(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    write_rig(folder / "rig.yaml", Rig(cameras))
    lines = "".join(f"  {name}: {name}.mp4\n" for name in cameras)
    (folder / "take.yaml").write_text(f"rig: rig.yaml\ncameras:\n{lines}")
    return Scene(folder / "take.yaml", tracks, vertices)


def make_track(xy: np.ndarray, time: np.ndarray, version: str, seen: bool) -> LandmarkTrack:
    sigma = np.full(xy.shape[:2], 0.5, np.float32)
    return LandmarkTrack(
        xy=xy if seen else np.full_like(xy, np.nan),
        sigma=sigma if seen else np.full_like(sigma, np.nan),
        time=time,
        valid=np.full(len(time), seen),
        roi=np.zeros((len(time), 5), np.float32),
        landmarks_version=version,
    )


@pytest.fixture
def tracks(scene: Scene, monkeypatch) -> dict[str, LandmarkTrack]:
    """The landmarks that `predict` finds; tests may change them."""
    return replace_prediction(scene, monkeypatch)


def replace_prediction(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, LandmarkTrack]:
    found = dict(scene.tracks)
    monkeypatch.setattr(predictor, "predict", lambda take, out, options: {n: n for n in NAMES})
    monkeypatch.setattr(files, "read_landmarks", lambda path: found[path])
    return found


@pytest.fixture(scope="module")
def finished(scene: Scene, tmp_path_factory) -> Path:
    """A folder with everything that the stage makes; tests use copies."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_prediction(scene, monkeypatch)
        run_fit_rig(load_take([scene.take]), out, options(overlay=True, meshes=True))
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "out")


def options(**changes: object) -> FitRigOptions:
    chosen = FitRigOptions(predictor.PredictOptions(), FitOptions(threads=1), overlay=False)
    return replace(chosen, **changes)


def test_take_to_files_and_truth(scene: Scene, out: Path):
    head = load_head()
    fit = read_fit(out, head)
    error = np.linalg.norm(frame_vertices(fit, head) - scene.vertices, axis=-1)
    assert np.median(error) < 1e-3
    assert fit.meta["cameras"] == list(NAMES) and fit.meta["scale"] == "calibrated"
    assert np.isnan(fit.residual_px[:, 2]).all() and (fit.residual_px[:, :2] < 1).all()
    assert list(read_rig(out / "rig.yaml").cameras) == list(NAMES)
    made = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert made == {
        "fit.npz",
        "meta.json",
        "rig.yaml",
        "sync.yaml",
        "meshes/neutral.ply",
        *(f"meshes/frame_{t:06d}.ply" for t in range(FRAMES)),
        *(f"overlay/{name}_fit.mp4" for name in NAMES),
    }
    assert export(out, ["glb"])["glb"][0].is_file()


def test_second_run_keeps_the_fit_and_makes_what_is_missing(scene, tracks, out, capsys):
    before = (out / "fit.npz").stat().st_mtime_ns
    (out / "meshes" / "neutral.ply").unlink()
    (out / "overlay" / "left_fit.mp4").unlink()
    report = run_fit_rig(load_take([scene.take]), out, options(overlay=True))
    assert report.kept and (out / "fit.npz").stat().st_mtime_ns == before
    assert report.neutral.is_file() and all(path.is_file() for path in report.overlays)
    assert len(report.overlays) == len(NAMES)
    assert report.residual_px["back"] is None and report.valid_frames == FRAMES
    assert "camera back: no head" in capsys.readouterr().err


def test_other_inputs_are_refused_unless_told_to_overwrite(scene, tracks, out):
    tracks["left"] = replace(tracks["left"], xy=tracks["left"].xy + 1)
    with pytest.raises(InputError, match="made from other landmarks.*--overwrite"):
        run_fit_rig(load_take([scene.take]), out, options())
    report = run_fit_rig(load_take([scene.take]), out, options(overwrite=True))
    assert not report.kept
    assert not list(out.glob("meshes/frame_*")), "meshes of the earlier fit must not stay"


def test_other_recordings_are_refused_before_any_work(scene, tracks, out, monkeypatch):
    monkeypatch.setattr(predictor, "predict", lambda *_: pytest.fail("predicted in vain"))
    part = options(predict=predictor.PredictOptions(end="3"))
    with pytest.raises(InputError, match="made from other recordings"):
        run_fit_rig(load_take([scene.take]), out, part)


def test_identity_of_an_earlier_take(scene, tracks, out, tmp_path):
    run_fit_rig(load_take([scene.take]), tmp_path / "b", options(identity=out))
    one, two = read_fit(out), read_fit(tmp_path / "b")
    np.testing.assert_allclose(two.identity, one.identity, atol=1e-6)
    assert (two.identity_std == 0).all()


def test_no_head_in_any_camera(scene: Scene, tracks, tmp_path):
    for name in NAMES:
        tracks[name] = tracks["back"]
    with pytest.raises(InputError, match="no head found"):
        run_fit_rig(load_take([scene.take]), tmp_path, options())


def test_landmarks_of_another_version(scene: Scene, tracks, tmp_path):
    tracks["right"] = replace(tracks["right"], landmarks_version="of long ago")
    with pytest.raises(InputError, match="right.npz: made for landmarks of long ago"):
        run_fit_rig(load_take([scene.take]), tmp_path, options())


def test_output_folder_cannot_be_written(scene: Scene, tracks, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        run_fit_rig(load_take([scene.take]), tmp_path / "out", options())


def test_meta_says_what_was_used(out: Path):
    meta = json.loads((out / "meta.json").read_text())
    head = load_head()
    assert meta["model"] == {"name": head.name, "sha256": head.sha256}
    assert meta["landmarks_version"] == head.landmarks_version
    assert meta["fps"] == pytest.approx(25)
    assert set(meta["inputs"]) == {"recordings", "landmarks", "cameras", "head model", "options"}
    assert meta["options"]["robust_scale"] == FitOptions().robust_scale


def test_command_line(scene, tracks, out, capsys):
    command = ["fit-rig", str(scene.take), "-o", str(out), "--no-overlay", "--threads", "1"]
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["frames"] == FRAMES and report["overlays"] == []
    assert report["residual_px"]["back"] is None and report["residual_px"]["left"] < 1
    assert "sizes are those of the calibrated rig" in printed.err
    assert main(["export", str(out), "--frames", "1:3", "--format", "csv"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "export" / "csv")
    assert main([*command, "--end", "3"]) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", str(out), "--format", "gltf"]) == 2
    assert "did you mean glb" in capsys.readouterr().err
