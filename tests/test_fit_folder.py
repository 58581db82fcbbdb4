"""A fit replaces and removes its own results, and nobody else's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from known_take import make_scene

from densefit.capture import Take, load_take
from densefit.cli import main
from densefit.errors import InputError
from densefit.fit import FitOptions
from densefit.fit_folder import PARTS, check_fit_folder, remove_outputs
from densefit.fit_rig import FitRigOptions, run_fit_rig, run_same_person
from densefit.landmarks.predictor import PredictOptions

FOREIGN = ("meshes/scan.ply", "overlay/logo_fit.mp4", "overlay/vacation_fit/ref.png")
"""Names that look like a fit's."""


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("take")).take.parent


@pytest.fixture
def folder(scene_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(scene_folder, tmp_path / "take")


@pytest.fixture
def take(folder: Path) -> Take:
    return load_take([folder / "take.yaml"])


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def write_meta(folder: Path) -> None:
    meta = {"format": "densefit fit", "cameras": ["early", "../away"]}
    (folder / "meta.json").write_text(json.dumps(meta))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--dry-run"]])
def test_the_rig_that_is_read_is_not_replaced(folder: Path, capsys, more: list[str]) -> None:
    before = contents(folder)
    assert main(["fit-rig", str(folder / "take.yaml"), "-o", str(folder), *more]) == 3
    said = capsys.readouterr().err
    assert "rig.yaml: is read by this run" in said and "choose another output folder" in said
    assert contents(folder) == before and not (folder / "landmarks").exists()


def test_takes_of_one_person_are_all_looked_at_first(folder: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "b")
    takes = [str(tmp_path / "elsewhere" / "b"), str(folder / "take.yaml")]
    assert main(["fit-rig", "--same-person", *takes, "-o", str(tmp_path)]) == 3
    assert "rig.yaml: is read by this run" in capsys.readouterr().err
    assert not (tmp_path / "b").exists(), "worked on the first before looking at the second"


def test_programs_are_refused_as_people_are(take: Take, folder: Path) -> None:
    before = contents(folder)
    options = FitRigOptions(PredictOptions(), FitOptions(), overwrite=True)
    for run in (
        lambda: run_fit_rig(take, folder, options),
        lambda: run_same_person([take], folder.parent, options),
    ):
        with pytest.raises(InputError, match=r"rig\.yaml: is read by this run"):
            run()
    assert contents(folder) == before


def test_a_recording_is_not_replaced_even_by_another_name(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "overlay").mkdir(parents=True)
    shutil.move(folder / "left.mp4", out / "overlay" / "mosaic.mp4")
    (folder / "left.mp4").symlink_to(out / "overlay" / "mosaic.mp4")
    with pytest.raises(InputError, match=r"left\.mp4: is read by this run"):
        check_fit_folder(load_take([folder / "take.yaml"]), out, overwrite=True)


def test_pictures_that_are_read_do_not_go_with_an_earlier_fit(take: Take, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    pictures = tmp_path / "out" / "overlay" / "early_fit"
    pictures.mkdir(parents=True)
    write_meta(tmp_path / "out")
    cv2.imwrite(str(pictures / "000000.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"000000\.png: is read by this run"):
        check_fit_folder(load_take([pictures]), tmp_path / "out", overwrite=True)


def test_a_take_file_with_the_name_of_a_result(folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "take.yaml").rename(folder / "sync.yaml")
    (folder / "rig.yaml").rename(folder / "cameras.yaml")
    text = (folder / "sync.yaml").read_text()
    (folder / "sync.yaml").write_text(text.replace("rig.yaml", "cameras.yaml"))
    command = ["fit-rig", str(folder / "sync.yaml"), "-o", str(folder), "--overwrite"]
    assert main(command) == 3
    assert "sync.yaml: is read by this run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["rig.yaml", "meta.json", "report.html", "sync.yaml", "overlay/left_fit.mp4"]
)
def test_files_that_are_of_no_fit_are_replaced_on_demand_only(
    take: Take, tmp_path: Path, name: str
) -> None:
    write(tmp_path / "out", name)
    with pytest.raises(InputError, match=rf"{name}: named as a fit's results.*--overwrite"):
        check_fit_folder(take, tmp_path / "out")
    check_fit_folder(take, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("name", ["meshes/frame_000001.ply", "overlay/left_fit/000000.png"])
def test_numbered_files_that_are_of_no_fit_are_never_replaced(
    take: Take, tmp_path: Path, name: str
) -> None:
    write(tmp_path / "out", name, "report.html")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="named as a fit's results") as caught:
            check_fit_folder(take, tmp_path / "out", overwrite)
        assert "--overwrite" not in str(caught.value)


def test_other_files_are_in_nobodys_way(take: Take, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, *FOREIGN, "notes.txt", "overlay/left.mp4", "landmarks/left.npz")
    before = contents(out)
    check_fit_folder(take, out)
    remove_outputs(out, take.sources)
    assert contents(out) == before


def test_nothing_is_removed_where_no_fit_was_made(tmp_path: Path) -> None:
    write(tmp_path, "report.html", "footage.npz", "meshes/frame_000001.ply", "overlay/mosaic.mp4")
    before = contents(tmp_path)
    remove_outputs(tmp_path, ["left"])
    assert contents(tmp_path) == before


def test_an_earlier_fit_goes_and_the_rest_stays(take: Take, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, *FOREIGN, "rig.yaml", "overlay/../away_fit.mp4")
    write_meta(out)
    own = ("report.html", "meshes/neutral.ply", "meshes/frame_000001.ply", "overlay/mosaic.png")
    own += ("overlay/left_fit.mp4", "overlay/early_fit.mp4", "overlay/early_fit/000003.png")
    write(out, *own)
    check_fit_folder(take, out)
    remove_outputs(out, take.sources)
    assert set(contents(out)) == {*FOREIGN, "rig.yaml", "meta.json", "away_fit.mp4"}


def test_a_fit_that_was_killed_while_it_was_written_goes_on(take: Take, tmp_path: Path) -> None:
    """rig.yaml is written before meta.json."""
    write(tmp_path, "rig.yaml", "sync.yaml")
    with pytest.raises(InputError, match="no fit was made in this folder"):
        check_fit_folder(take, tmp_path)  # somebody else's, for all that one can tell
    before = contents(tmp_path)
    (tmp_path / PARTS).mkdir()
    check_fit_folder(take, tmp_path)
    assert contents(tmp_path) == before


def test_the_input_itself_lies_where_a_result_goes(folder: Path, monkeypatch, capsys) -> None:
    (folder / "overlay").mkdir()
    (folder / "left.mp4").rename(folder / "overlay" / "mosaic.mp4")
    (folder / "rig.yaml").unlink()
    monkeypatch.chdir(folder)
    before = contents(folder)
    for command in (["fit-rig"], ["predict", "--overlay"]):
        assert main([*command, "overlay/mosaic.mp4", "-o", "."]) == 3
        assert "overlay/mosaic.mp4: is read by this run" in capsys.readouterr().err
    assert contents(folder) == before
