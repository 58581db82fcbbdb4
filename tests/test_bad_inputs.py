"""Broken inputs end in one clear line and the right exit code, or their good part is used.

For each: no traceback, a message that names the file and says what to do, no unreadable file left,
no code executed, no memory eaten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import broken
import pytest
import yaml
from killing import check_no_broken_file
from memory import modest_memory
from recordings import encode_video, number_picture
from square import SquareTracker

from densefit.cli import main
from densefit.landmarks import predictor


@pytest.fixture(autouse=True)
def modest() -> Iterator[None]:
    with modest_memory():
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work with a stand-in for the networks, which finds no face in these pictures."""
    monkeypatch.setattr(predictor, "make_tracker", lambda head, options: SquareTracker())
    (tmp_path / "whole").mkdir()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and stderr; what holds for every command is checked."""
    code = main([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    what = f"{' '.join(map(str, arguments))}\n{err}"
    assert "Traceback" not in err and "fault of densefit" not in err, what
    assert err.count("error: ") == (code != 0) or code == 2, what
    return code, err


def refused(capsys: pytest.CaptureFixture[str], named: str, *arguments: object) -> str:
    """Bad input: 3, and an error line that names the file and, behind a semicolon, a remedy."""
    code, err = run(capsys, *arguments)
    assert code == 3, f"{arguments}: exit code {code}\n{err}"
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert named in line, line
    assert ";" in line or "did you mean" in line, f"no remedy: {line}"
    assert len(line) < 600, line
    return line


def predict_some(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """A damaged recording: its good part is used, or it is refused by name."""
    out = folder / "out"
    code, err = run(capsys, "predict", path, "-o", out, "--overwrite", "-q")
    assert code in (0, 3), f"{path}: exit code {code}\n{err}"
    if code == 3:
        assert str(path) in err, err
    if out.exists():
        check_no_broken_file(out)
    return code


def test_cut_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [predict_some(path, folder, capsys) for path in broken.cut_videos(folder, 4)]
    assert 0 in codes and 3 in codes


def test_flipped_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [predict_some(path, folder, capsys) for path in broken.flipped_videos(folder, 5)]
    assert codes and set(codes) <= {0, 3}


@pytest.mark.stress
def test_many_damaged_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = (*broken.cut_videos(folder, 16), *broken.flipped_videos(folder, 110))
    codes = [predict_some(path, folder, capsys) for path in damaged]
    assert set(codes) == {0, 3}, "some have a good part, some have none"


def test_odd_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in broken.odd_files(folder):
        refused(capsys, str(path), "predict", path, "-o", folder / "out")
    assert not (folder / "out").exists(), "inputs are checked before anything is written"


def test_one_frame(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = encode_video(folder / "one.mp4", n=1, picture=lambda i, w, h: number_picture(3, w, h))
    assert predict_some(path, folder, capsys) == 0


def test_bad_rigs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = encode_video(folder / "left.mp4", n=2)
    rig, marker = folder / "rig.yaml", folder / "executed"
    for what, text in broken.bad_rigs():
        rig.write_bytes(text.replace("{marker}", str(marker)).encode(errors="surrogateescape"))
        code, err = run(capsys, "predict", rig, video, "-o", folder / "out")
        assert code == 3, f"{what}: {code} {err}"
        assert str(rig) in err or str(video) in err, f"{what}: {err}"
        assert not marker.exists(), what
    assert not (folder / "out").exists()


def test_bad_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode_video(folder / "left.mp4", n=2)
    rig = {"version": 1, "cameras": {"left": broken.GOOD_CAMERA}}
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    take, marker = folder / "take.yaml", folder / "executed"
    for what, text in broken.bad_takes():
        take.write_text(text.replace("{marker}", str(marker)))
        code, err = run(capsys, "predict", take, "-o", folder / "out")
        assert code == 3, f"{what}: {code} {err}"
        assert str(folder) in err or "/dev/zero" in err, f"{what}: {err}"
        assert not marker.exists(), what
    assert not (folder / "out").exists()


def test_bad_landmarks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished camera's file that was damaged later."""
    video = encode_video(folder / "left.mp4", n=12)
    out, marker = folder / "out", folder / "executed"
    assert main(["predict", str(video), "-o", str(out), "-q"]) == 0
    capsys.readouterr()
    path = out / "landmarks" / "left.npz"
    for what, data in broken.bad_landmarks(marker):
        path.write_bytes(data)
        code, err = run(capsys, "fit-rig", video, "-o", out, "-q")
        assert code == 3, f"{what}: {code} {err}"
        assert "left.npz" in err and ("again" in err or "--overwrite" in err), f"{what}: {err}"
        assert not marker.exists(), what
    assert not (out / "fit.npz").exists()


def test_bad_models_weights_and_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = encode_video(folder / "left.mp4", n=2)
    text = broken.written(folder, "text.npz", b"no archive")
    pickled = broken.written(
        folder, "pickled.npz", dict(broken.bad_landmarks(folder / "executed"))["pickled"]
    )
    for path in (text, pickled, folder / "none.npz", folder):
        refused(capsys, str(path), "predict", video, "-o", folder / "out", "--model", path)
        # What an .npz of a fit lacks may be its meta.json.
        refused(capsys, str(folder), "fit-rig", video, "-o", folder / "out", "--identity", path)
        refused(capsys, str(folder), "export", path)
    assert not (folder / "executed").exists()


ABSURD = [
    ["--every", "0"],
    ["--every", "-3"],
    ["--every", "1e9"],
    ["--start", "1e9"],
    ["--start", "-5"],
    ["--start", "9", "--end", "3"],
    ["--start", "nan"],
    ["--end", "infs"],
    ["--threads", "0"],
    ["--threads", "99999999"],
    ["--seed", "-1"],
    ["--seed", "1" + 40 * "0"],
    ["--fps", "0"],
    ["--fps", "nan"],
    ["--fps", "1e300"],
    ["--device", "tpu"],
    ["--progress", "loud"],
    ["--quality", "best"],
    ["--no-such-option"],
]


@pytest.mark.parametrize("options", ABSURD, ids=" ".join)
def test_absurd_options(
    options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = encode_video(folder / "left.mp4", n=2)
    code, err = run(capsys, "predict", video, "-o", folder / "out", *options)
    assert code == 2 and err, err


def test_ranges_and_places_that_are_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = encode_video(folder / "left.mp4", n=2)
    out = folder / "out"
    for command in ("predict", "fit-rig"):
        for start in ("500", "2", "0.1s"):
            line = refused(capsys, str(video), command, video, "-o", out, "--start", start)
            assert "no frame in the chosen range" in line
    assert not out.exists(), "told before any work"
    for place in (video, Path("/proc/x")):
        assert "choose another" in refused(capsys, str(place), "predict", video, "-o", place)
    table = "none.csv"
    assert table in refused(capsys, table, "predict", video, "-o", out, "--sync", table)
    code, err = run(capsys, "predict", video, "-o", out, "--sync", "stars")
    assert code == 2 and "--sync stars" in err


def test_weights_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = encode_video(tmp_path / "left.mp4", n=2)
    text = broken.written(tmp_path, "text.safetensors", b"no tensors")
    for weights in (text, tmp_path / "none.safetensors", tmp_path):
        command = ["predict", video, "-o", tmp_path / "out", "--weights", weights]
        refused(capsys, str(weights), *command)
    code, err = run(capsys, "predict", video, "-o", tmp_path / "out", "--face", "prettiest")
    assert code == 2 and "--face" in err
