"""The stage fit-rig from known landmarks: files, resuming, refusing, and the truth recovered."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from known_take import FRAMES, NAMES, Scene, make_scene

from calibration import read_rig, write_rig
from densefit.capture import load_take
from densefit.capture.sync_table import SyncTable
from densefit.cli import main
from densefit.errors import InputError
from densefit.export.formats import export
from densefit.export.scene import frame_vertices
from densefit.fit import FitOptions
from densefit.fit_file import read_fit
from densefit.fit_outputs import FitRigReport, camera_table
from densefit.fit_rig import FitRigOptions, run_fit_rig, run_same_person
from densefit.head.model import load_head
from densefit.landmarks import jobs, predictor, slices
from densefit.landmarks.files import LandmarkTrack


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("take"))


@pytest.fixture
def tracks(scene: Scene, monkeypatch) -> dict[str, LandmarkTrack]:
    """The landmarks that `predict` finds; tests may change them."""
    return replace_prediction(scene, monkeypatch)


def replace_prediction(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, LandmarkTrack]:
    found = dict(scene.tracks)
    monkeypatch.setattr(predictor, "predict", lambda take, out, options: {n: n for n in NAMES})
    monkeypatch.setattr(slices, "open_landmarks", lambda path: found[path])
    return found


@pytest.fixture(scope="module")
def finished(scene: Scene, tmp_path_factory) -> Path:
    """A folder with everything that the stage makes; tests use copies."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_prediction(scene, monkeypatch)
        run_fit_rig(load_take([scene.take]), out, options(overlay=True, meshes=True, report=True))
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "out")


def options(**changes: object) -> FitRigOptions:
    chosen = FitRigOptions(
        predictor.PredictOptions(), FitOptions(threads=1), overlay=False, report=False
    )
    return replace(chosen, **changes)


def test_the_quality_gate(scene: Scene, tracks, out: Path, capsys):
    """4 where a camera's residual is too large; the results are there all the same."""
    command = ["fit-rig", str(scene.take), "-o", str(out), "--threads", "1", "--json"]
    assert main([*command, "--max-residual-px", "0.01"]) == 4
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)["residual_px"]) == set(NAMES)
    (line,) = (line for line in captured.err.splitlines() if line.startswith("error: "))
    assert "left" in line and "--max-residual-px 0.01" in line
    assert main([*command, "--max-residual-px", "5"]) == 0


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
        "footage.npz",
        "meta.json",
        "report.html",
        "rig.yaml",
        "sync.yaml",
        "meshes/neutral.ply",
        *(f"meshes/frame_{t:06d}.ply" for t in range(FRAMES)),
        *(f"overlay/{name}_fit.mp4" for name in NAMES),
        "overlay/mosaic.mp4",
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
    assert "camera back: no face" in capsys.readouterr().err


def test_other_inputs_are_refused_unless_told_to_overwrite(scene, tracks, out):
    tracks["left"] = replace(tracks["left"], xy=tracks["left"].xy + 1)
    # A mark that writing the file anew would take away.
    os.utime(out / "footage.npz", ns=(1, 1))
    with pytest.raises(InputError, match="made from other landmarks.*--overwrite"):
        run_fit_rig(load_take([scene.take]), out, options())
    assert (out / "footage.npz").stat().st_mtime_ns == 1, "belongs to the fit that was kept"
    report = run_fit_rig(load_take([scene.take]), out, options(overwrite=True))
    assert not report.kept
    assert not list(out.glob("meshes/frame_*")), "meshes of the earlier fit must not stay"


def test_exports_of_the_earlier_fit_are_named(scene, tracks, out, capsys):
    export(out, ["glb", "csv"])
    run_fit_rig(load_take([scene.take]), out, options())
    assert "earlier fit" not in capsys.readouterr().err, "the fit was kept"
    run_fit_rig(load_take([scene.take]), out, options(overwrite=True))
    said = capsys.readouterr().err
    assert said.count("glb, csv are of the earlier fit") == 1
    assert f"`densefit export {out} -f glb -f csv` writes them again" in said
    assert (out / "export" / "glb" / "head.glb").is_file()


def test_other_recordings_are_refused_before_any_work(scene, tracks, out, monkeypatch):
    monkeypatch.setattr(predictor, "predict", lambda *_: pytest.fail("predicted in vain"))
    part = options(predict=predictor.PredictOptions(end="3"))
    with pytest.raises(InputError, match="made from other recordings"):
        run_fit_rig(load_take([scene.take]), out, part)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"end": "3"}, "other frames (--start, --end, --every"),
        ({"every": 2, "face": "left"}, "face;"),
        ({"face": "left"}, "other face;"),
        ({"quality": "fast"}, "other weights (--quality or --weights"),
    ],
)
def test_what_changed_is_named(scene, tracks, out, changes, said):
    """By what the landmarks say they were made from, if the fit was made from them."""
    take = load_take([scene.take])
    for name, source in take.sources.items():
        made = jobs.job(source, predictor.PredictOptions()) | {"precision": "int8"}
        (out / "landmarks" / ".parts").mkdir(parents=True, exist_ok=True)
        (out / "landmarks" / ".parts" / f"{name}.json").write_text(json.dumps(made))
    other = options(predict=predictor.PredictOptions(**changes))
    with pytest.raises(InputError, match=re.escape(said)) as found:
        run_fit_rig(take, out, other)
    assert "recordings" not in str(found.value)
    meta = json.loads((out / "meta.json").read_text())
    meta["inputs"]["recordings"] = "of other landmarks"
    (out / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="made from other recordings;"):
        run_fit_rig(take, out, other)


def test_a_range_without_frames_is_told_before_any_work(scene, tracks, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "predict", lambda *_: pytest.fail("predicted in vain"))
    take, beyond = load_take([scene.take]), predictor.PredictOptions(start="1000")
    for run, given in ((run_fit_rig, take), (run_same_person, [take, replace(take, name="b")])):
        with pytest.raises(InputError, match="left.mp4: no frame in the chosen range, of 6"):
            run(given, tmp_path / "new", options(predict=beyond))
    assert not (tmp_path / "new").exists()


def test_clocks_that_a_table_ties_are_told_before_any_work(scene, tracks, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "predict", lambda *_: pytest.fail("predicted in vain"))
    table = SyncTable(tmp_path / "t.csv", {}, {name: np.arange(FRAMES) for name in NAMES})
    take = replace(load_take([scene.take]), sync="csv", sync_table=table)
    for run, given in ((run_fit_rig, take), (run_same_person, [take, replace(take, name="b")])):
        with pytest.raises(InputError, match="leave out --refine-sync"):
            run(given, tmp_path / "new", options(refine_sync=True))


def test_the_size_of_a_given_identity_goes_with_it(scene, tracks, out, tmp_path):
    """Through a chain of takes, too: calibrated cameras do not measure a head that is given."""
    meta = json.loads((out / "meta.json").read_text())
    meta |= {"scale": "prior", "scale_std": 0.05, "take": "talk"}
    (out / "meta.json").write_text(json.dumps(meta))
    before = out
    for name in ("b", "c"):
        report = run_fit_rig(load_take([scene.take]), tmp_path / name, options(identity=before))
        before = tmp_path / name
        source = read_fit(before).meta["identity_source"]
        assert source == {"fit": str(out / "fit.npz"), "take": "talk", "scale": "prior",
                          "scale_std": 0.05}  # fmt: skip
        assert "those of take talk, whose sizes were estimates" in report.sizes


def test_an_estimated_focal_length_has_a_deviation(tmp_path):
    report = FitRigReport(tmp_path, tmp_path, tmp_path, frames=9)
    report.residual_px, report.seen_frames = {"a": 1.0, "b": 1.0}, {"a": 9, "b": 9}
    report.focal_px, report.focal_std_px = {"a": 783.4, "b": 783.4}, {"a": 110.2, "b": 0.0}
    estimated, given = camera_table(report)
    assert estimated.endswith("focal 783 px (estimated, give or take 110)")
    assert given.endswith("focal 783.4 px")


def test_identity_of_an_earlier_take(scene, tracks, out, tmp_path):
    run_fit_rig(load_take([scene.take]), tmp_path / "b", options(identity=out))
    one, two = read_fit(out), read_fit(tmp_path / "b")
    np.testing.assert_allclose(two.identity, one.identity, atol=1e-6)
    assert (two.identity_std == 0).all()


def test_takes_of_the_same_person(scene, tracks, tmp_path, capsys):
    one = load_take([scene.take])
    takes = [one, replace(one, name="again")]
    reports = run_same_person(takes, tmp_path, options())
    folders = [report.fit.parent for report in reports]
    assert [folder.name for folder in folders] == [one.name, "again"]
    said = capsys.readouterr().err
    # Once before its landmarks and once before its results.
    assert said.count(f"take {one.name}\n") == said.count("take again\n") == 2
    fits = [read_fit(folder) for folder in folders]
    np.testing.assert_array_equal(fits[0].identity, fits[1].identity)
    assert all(r.kept for r in run_same_person(takes, tmp_path, options()))
    reports[0].fit.unlink()
    assert "kept" in capsys.readouterr().err
    assert not any(r.kept for r in run_same_person(takes, tmp_path, options()))
    assert "kept" not in capsys.readouterr().err
    with pytest.raises(InputError, match="takes of the same person"):
        run_same_person([one, replace(one, name="third")], tmp_path, options())
    with pytest.raises(InputError, match=f"two takes are called {one.name}"):
        run_same_person([one, one], tmp_path, options())


def test_no_head_in_any_camera(scene: Scene, tracks, tmp_path):
    for name in NAMES:
        tracks[name] = tracks["back"]
    with pytest.raises(InputError, match="no face found"):
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


def test_a_camera_that_cannot_be_placed_is_named(scene, tracks, tmp_path, capsys):
    """Two cameras without extrinsics that never see the head at the same time."""
    left, right = (np.arange(FRAMES) < 3), (np.arange(FRAMES) >= 3)
    for name, seen in (("left", left), ("right", right)):
        tracks[name] = replace(tracks[name], valid=seen)
    take = shutil.copytree(scene.take.parent, tmp_path / "take") / "take.yaml"
    rig = read_rig(take.with_name("rig.yaml"))
    bare = {n: replace(c, T_camera_world=None) for n, c in rig.cameras.items()}
    write_rig(take.with_name("rig.yaml"), replace(rig, cameras=bare))
    report = run_fit_rig(load_take([take]), tmp_path / "out", options())
    said = capsys.readouterr().err
    assert "camera right: never shows the head together with another camera" in said
    assert "camera left: never" not in said
    assert report.valid_frames == 3 and report.residual_px["right"] is None
    assert read_rig(report.rig).cameras["right"].T_camera_world is None
