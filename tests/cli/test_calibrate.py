"""`densefit calibrate` and `rig check` from the command line, on rendered recordings."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from board_views import board_in_view, photograph, small_camera
from recordings import MakeVideo

from calibration import Camera, Rig, read_rig, write_rig
from calibration.boards import parse_board
from calibration.rotations import matrix_from_vector, transform
from calibration.suspicion import Residuals
from densefit.calibrate_inputs import open_recordings
from densefit.capture import Take, open_source
from densefit.cli import main
from densefit.errors import InputError
from densefit.rig_check import odd_residuals, same_recording, unshared

TEXT = "charuco:6x5:40mm:30mm:DICT_4X4_50"
BOARD = parse_board(TEXT)


def two_cameras() -> list[Camera]:
    left = small_camera()
    R = matrix_from_vector(np.array([0, np.radians(25), 0]))
    T = transform(R, np.array([0, 0, 0.6]) - R @ [0, 0, 0.6])
    return [
        Camera("left", 800, 600, "opencv", left.K, left.dist, np.eye(4)),
        Camera("right", 800, 600, "opencv", left.K, left.dist, T),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """left_0001.png, right_0001.png, ...: eight pictures a camera."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(4)
    for moment in range(8):
        T = board_in_view(rng, BOARD, 0.6, 0.12)
        for camera in two_cameras():
            picture = photograph(camera, BOARD, T)
            cv2.imwrite(str(folder / f"{camera.name}_{moment:04d}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lenses") / "lenses.yaml"
    write_rig(path, Rig({camera.name: camera for camera in two_cameras()}))
    return path


def test_from_pictures_to_a_rig(
    folder: Path, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rig.yaml"
    command = ["calibrate", str(folder), "--board", TEXT, "-o", str(out)]
    assert main([*command, "--intrinsics", str(given)]) == 0
    printed = capsys.readouterr()
    assert "2 cameras" in printed.out
    assert "left 8, right 8" in printed.err
    rig = read_rig(out)
    truth = two_cameras()[1]
    assert np.linalg.norm(rig.cameras["right"].position - truth.position) < 2e-3
    np.testing.assert_array_equal(rig.cameras["right"].K, truth.K)
    report = json.loads((tmp_path / "rig_calibration.json").read_text())
    assert report["rms_px"] < 0.5 and report["board"] == TEXT
    assert cv2.imread(str(tmp_path / "rig_coverage.png")) is not None
    assert main(command) == 2  # it exists
    assert main(["rig", "check", str(out), "-o", str(tmp_path / "check")]) == 0
    assert (tmp_path / "check" / "rig.png").is_file() and (
        tmp_path / "check" / "rig.html"
    ).is_file()
    assert "baseline" in capsys.readouterr().out


def test_bad_input_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for side, size in (("0001", (80, 60)), ("0002", (60, 80))):
        cv2.imwrite(str(mixed / f"a_{side}.png"), np.zeros((*size, 3), np.uint8))
    one = [str(folder / f"left_{i:04d}.png") for i in range(4)]
    for arguments, code, message in (
        ([*one, "--board", "charuco:6x5:40mm:30mm:DICT_5X5_50"], 3, "markers are of DICT_4X4"),
        ([*one, "--board", "chess:9x6:20mm"], 2, "unknown kind 'chess'"),
        ([str(mixed), "--board", TEXT], 3, "pictures of one size"),
        ([str(tmp_path / "none.mp4"), "--board", TEXT], 3, "no such file"),
        ([*one, "--board", TEXT, "--lens", "thin"], 2, "--lens thin"),
        ([*one, "--board", TEXT, "--every", "2"], 3, "seen in 2 usable pictures"),
    ):
        assert main(["calibrate", *arguments, "-o", str(tmp_path / "new.yaml")]) == code
        assert message in capsys.readouterr().err
        assert not (tmp_path / "new.yaml").exists()


def test_malformed_values_are_bad_usage(
    folder: Path, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Malformed values once gave 3, others were ignored, and files got another format's content."""
    new, pdf = str(tmp_path / "new.yaml"), ["-o", str(tmp_path / "b.pdf")]
    recordings = ["calibrate", str(folder), "--board", TEXT, "-o"]
    convert = ["rig", "convert", str(given)]
    for arguments, message in (
        ([*recordings, new, "--intrinsics", str(given), "--size", "axb"], "size 'axb'"),
        ([*recordings, new, "--intrinsics", str(given), "--size", "0x0"], "size '0x0'"),
        ([*recordings, new, "--sync", "bogus"], "--sync bogus"),
        ([*recordings, str(tmp_path / "new.json")], ".json is not what is written there"),
        (["calibrate", "board", "chessboard:9x6", *pdf], "too few parts"),
        (["calibrate", "board", TEXT, "--paper", "a5", *pdf], "paper 'a5'"),
        (["calibrate", "board", TEXT, "-o", str(tmp_path / "b.png")], "give .pdf"),
        ([*convert, new, "--names", "a,a"], "one name twice"),
        ([*convert, new, "--names", "a,b"], "names its cameras itself"),
        ([*convert, str(tmp_path / "new.json")], "give .yaml or .yml or a folder for rig.yaml"),
        ([*convert, str(tmp_path / "new.yaml"), "--to", "colmap"], "a folder for cameras.txt"),
    ):
        assert main(arguments) == 2, arguments
        assert message in capsys.readouterr().err
    assert main([*convert, new, "--size", "10x10"]) == 3
    assert "pictures are 800x600, --size 10x10" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_krt_is_a_file(tmp_path: Path) -> None:
    rig = {c.name: Camera(c.name, 800, 600, "opencv", c.K, (), c.T_camera_world)
           for c in two_cameras()}  # fmt: skip
    write_rig(tmp_path / "rig.yaml", Rig(rig))
    command = ["rig", "convert", str(tmp_path / "rig.yaml"), str(tmp_path / "my.krt")]
    assert main([*command, "--to", "multiface"]) == 0
    assert (tmp_path / "my.krt").is_file()


def test_files_beside_the_rig_and_inputs_are_kept(
    folder: Path, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", str(folder), "--board", TEXT, "--intrinsics", str(given), "-o"]
    for name in ("rig_coverage.png", "rig_calibration.json"):
        (tmp_path / name).write_text("mine")
        assert main([*command, str(tmp_path / "rig.yaml")]) == 2
        assert f"{name} exists" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    before = given.read_text()
    assert main([*command, str(given), "--overwrite"]) == 3
    take = tmp_path / "take.yaml"
    take.write_text(f"cameras: {{left: {folder}/left_%04d.png, right: {folder}/right_%04d.png}}\n")
    taken = ["calibrate", str(take), "--board", TEXT, "-o", str(take), "--overwrite"]
    assert main(taken) == 3
    assert capsys.readouterr().err.count("is read by this run") == 2
    assert given.read_text() == before and take.read_text().startswith("cameras: {left: ")


def test_a_take_file_needs_no_rig_to_make_one(folder: Path, tmp_path: Path) -> None:
    """It once asked for the rig that calibrate makes."""
    take = tmp_path / "take.yaml"
    take.write_text(f"cameras: {{left: {folder}/left_%04d.png, right: {folder}/right_%04d.png}}\n")
    for given in (take, tmp_path):
        recordings = open_recordings([given])
        assert [camera.name for camera in recordings.cameras] == ["left", "right"]
        assert recordings.n_moments == 8 and take in recordings.read
    # One that is named, but is not made yet, is not asked for either.
    take.write_text("rig: rig.yaml\n" + take.read_text())
    assert open_recordings([take]).n_moments == 8


def test_a_camera_that_never_sees_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        source = folder / f"left_{i:04d}.png"
        (tmp_path / source.name).write_bytes(source.read_bytes())
        cv2.imwrite(str(tmp_path / f"right_{i:04d}.png"), np.full((600, 800), 90, np.uint8))
    assert main(["calibrate", str(tmp_path), "--board", TEXT, "-o", str(tmp_path / "r.yaml")]) == 3
    error = capsys.readouterr().err
    assert (
        "camera 'right'" in error and "others see it (left)" in error and "film it again" in error
    )


def test_videos_are_joined_in_time(tmp_path: Path) -> None:
    for name, count in (("a", 6), ("b", 4)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for i in range(count):
                picture = np.full((64, 96, 3), 40 * i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    recordings = open_recordings([tmp_path])
    assert [(c.name, c.width) for c in recordings.cameras] == [("a", 96), ("b", 96)]
    assert recordings.n_moments == 6
    assert recordings.seconds_per_moment == pytest.approx(0.04)
    seen = {m: int(gray.mean()) for m, _, gray in recordings.pictures("b", {1, 3, 5})}
    assert list(seen) == [1, 3]
    assert abs(seen[1] - 40) < 8 and abs(seen[3] - 120) < 8


def test_pictures_that_cannot_be_matched(tmp_path: Path) -> None:
    for side, names in (("left", "ab"), ("right", "abc")):
        (tmp_path / side).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / side / f"{name}.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match="cannot tell which pictures were taken together"):
        open_recordings([tmp_path])


def pictures_called(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 8), np.uint8))
    return folder


def test_pictures_are_paired_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cameras that count on their own were told that they never see the board together."""
    a = pictures_called(tmp_path / "a", [f"IMG_{i:04d}.png" for i in range(1, 7)])
    b = pictures_called(tmp_path / "b", [f"IMG_{i:04d}.png" for i in range(501, 507)])
    with pytest.raises(InputError, match=r"'a' \(1 to 6\) shares none .* \(501 to 506\)"):
        open_recordings([a, b])
    for name in ("IMG_0001.png", "IMG_0002.png"):
        cv2.imwrite(str(b / name), np.zeros((8, 8), np.uint8))
    assert open_recordings([a, b]).n_moments == 12
    assert "'a' (1 to 6) shares only 2 of 6" in capsys.readouterr().err


def test_one_number_twice_is_refused(tmp_path: Path) -> None:
    """One of the two was left out without a word."""
    names = [f"{side}_{i:04d}.png" for side in ("left", "right") for i in range(4)]
    folder = pictures_called(tmp_path / "all", [*names, "left_3.png"])
    with pytest.raises(InputError, match=r"left_0003.png and left_3.png have the same number"):
        open_recordings([folder])
    one = pictures_called(tmp_path / "one", ["left_0001.png", "left_1.png"])
    two = pictures_called(tmp_path / "two", ["right_0001.png", "right_0002.png"])
    with pytest.raises(InputError, match="have the same number"):
        open_recordings([one, two])
    assert open_recordings([one]).n_moments == 2


def test_a_printable_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "board.pdf"
    assert main(["calibrate", "board", TEXT, "-o", str(out), "--paper", "a3"]) == 0
    assert "297 x 420 mm" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"%PDF-1.4")
    assert main(["calibrate", "board", TEXT, "-o", str(out)]) == 2
    assert main(["calibrate", "board", "charuco:6x5:90mm:30mm:DICT_4X4_50", "--paper", "a4",
                 "-o", str(tmp_path / "x.pdf")]) == 3  # fmt: skip


def test_recordings_are_synchronized_by_a_clap_or_not_at_all(make_video: MakeVideo) -> None:
    silent = [make_video("left.mp4", n=4), make_video("right.mp4", n=4)]
    with pytest.raises(InputError, match="has no sound"):
        open_recordings(silent, sync="clap")


def test_rig_check_names_a_camera_that_shares_nothing() -> None:
    residuals = Residuals(("left", "right"), np.array([0.5, np.nan]), np.zeros((2, 3)))
    (found,) = unshared(residuals)
    assert "camera right sees the face at no moment" in found.text


def test_rig_check_tells_a_camera_that_is_worse_than_the_others() -> None:
    """Once the report sent people here, and here was nothing suspicious."""
    median = np.array([0.1, 1.84, 2.98, 1.62])
    fit = Residuals(("a", "b", "c", "d"), median, np.zeros((0, 3)))
    (line,) = odd_residuals(fit, np.array([255.0, 209, 194, 177]))
    assert "camera 'c' has 1.7 times" in line and "no known mistake" in line
    # A camera without a face says nothing, and hides nothing.
    blind = Residuals((*fit.names, "e"), np.append(fit.median, np.nan), np.zeros((0, 3)))
    assert odd_residuals(blind, np.array([255.0, 209, 194, 177, np.nan])) == [line]
    # Where the face is twice as large, the same pixels are half as bad.
    assert odd_residuals(fit, np.array([255.0, 209, 388, 177])) == []
    # Parts of a pixel are no reason to doubt a rig, however they are spread.
    good = Residuals(("a", "b", "c"), np.array([0.14, 0.22, 0.12]), np.zeros((0, 3)))
    assert odd_residuals(good, np.full(3, 250.0)) == []
    # Of two cameras nobody knows which is off.
    two = Residuals(("a", "b"), np.array([0.1, 4.0]), np.zeros((0, 3)))
    assert odd_residuals(two, np.full(2, 250.0)) == []


def test_rig_check_names_cameras_of_one_recording(folder: Path) -> None:
    names = ("left", "right", "again")
    sources = {n: open_source(n, folder / "left_0000.png") for n in names}
    sources["right"] = open_source("right", folder / "right_0000.png")
    (found,) = same_recording(Take("take", sources, None))
    assert found.cause == "same recording"
    assert "left and again have the same recording, left_0000.png" in found.text


def test_rig_check_names_the_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = {}
    for camera in two_cameras():
        T = camera.T_camera_world.copy()
        T[:3, 3] *= 1000
        cameras[camera.name] = Camera(camera.name, 800, 600, "opencv", camera.K, camera.dist, T)
    write_rig(tmp_path / "rig.yaml", Rig(cameras))
    assert main(["rig", "check", str(tmp_path / "rig.yaml")]) == 4
    assert "units: mm" in capsys.readouterr().err
    assert (tmp_path / "rig_check" / "rig.html").is_file()


def test_rig_check_keeps_what_it_did_not_make(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rig", "check", str(given), "-o", str(tmp_path)]
    for name in ("rig.png", "rig.html"):
        (tmp_path / name).write_text("mine")
        assert main(command) == 2
        assert f"{name}: was made by no earlier check" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "rig.png").write_text("mine")
    assert main([*command, "--overwrite"]) == 0
    made = (tmp_path / "rig.png").read_bytes()
    assert made.startswith(b"\x89PNG")
    assert main(command) == 0  # its own are made anew


def test_rig_check_of_one_recording_says_what_it_takes(
    make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two_cameras()
    rig = Rig({first.name: first, second.name: second})
    write_rig(tmp_path / "rig.yaml", rig)
    film = make_video(f"{first.name}.mp4", n=4, size=(800, 600))
    assert main(["rig", "check", str(tmp_path / "rig.yaml"), str(film)]) == 3
    assert "give a take.yaml" in capsys.readouterr().err


def test_convert_to_another_tool_and_back(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rig", "convert", str(given), str(tmp_path / "sfm"), "--to", "colmap"]) == 0
    assert main(["rig", "convert", str(tmp_path / "sfm"), str(tmp_path / "back.yaml")]) == 3
    assert "give --units" in capsys.readouterr().err
    back = ["rig", "convert", str(tmp_path / "sfm"), str(tmp_path / "back.yaml"), "--units", "m"]
    assert main(back) == 0
    for name, camera in read_rig(tmp_path / "back.yaml").cameras.items():
        original = read_rig(given).cameras[name]
        np.testing.assert_allclose(camera.T_camera_world, original.T_camera_world, atol=1e-12)
        np.testing.assert_allclose(camera.K, original.K)
