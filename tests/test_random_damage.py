"""Random damage to every kind of input file: it is refused by name, with a remedy, or its good part
is used. No traceback, no memory eaten; a few of each here, many in `make stress`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import damage
import numpy as np
import pytest
import yaml
from broken import GOOD_CAMERA
from memory import modest_memory
from recordings import encode_video, number_picture
from square import SquareTracker, square_video

from calibration.formats import FORMATS, write_any
from densefit.cli import main
from densefit.head.model import _read_head, load_head
from densefit.landmarks import predictor
from densefit.landmarks.weights import CLOSEUP_WEIGHTS, LANDMARK_WEIGHTS
from tests.calibration.test_formats import path_for, rig_for
from tests.export.rig_fixture import write_toy_footage, write_toy_rig
from tests.toy_fit import write_toy_fit

FEW, MANY = 5, 80
Command = list[object]


class Case:
    """A file that is damaged again and again, and the commands that read it."""

    def __init__(
        self, path: Path, kinds: tuple[damage.Damage, ...], *commands: Command, out: Path
    ) -> None:
        self.path, self.kinds, self.commands, self.out = path, kinds, commands, out
        self.good = path.read_bytes()

    def run(self, rounds: int, capsys: pytest.CaptureFixture[str]) -> list[int]:
        """Exit codes; what must hold for each damage is checked."""
        rng = np.random.default_rng(rounds)
        codes = []
        for number in range(rounds):
            kind = self.kinds[rng.integers(len(self.kinds))]
            self.path.write_bytes(kind(self.good, rng))
            shutil.rmtree(self.out, ignore_errors=True)
            command = [str(part) for part in self.commands[number % len(self.commands)]]
            _read_head.cache_clear()
            code = main(command)
            err = capsys.readouterr().err
            what = f"round {number}, {kind.__name__}: {' '.join(command)}\n{err}"
            assert code in (0, 3), what
            assert "Traceback" not in err and "fault of densefit" not in err, what
            errors = [line for line in err.splitlines() if line.startswith("error: ")]
            assert len(errors) == (code == 3), what
            for line in errors:
                assert str(self.path) in line or str(self.path.parent) in line, what
                assert ";" in line and len(line) < 1100, what
            codes.append(code)
        return codes


@pytest.fixture(autouse=True)
def modest() -> Iterator[None]:
    with modest_memory():
        yield


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "make_tracker", lambda head, options: SquareTracker())


def take_of(folder: Path) -> Path:
    """take.yaml with rig.yaml, two videos and times.csv beside it."""
    for name in ("left", "right"):
        square_video(folder / f"{name}.mp4", 3)
    cameras = {"left": {**GOOD_CAMERA}, "right": {**GOOD_CAMERA, "dist": [0.1, 0, 0, 0]}}
    text = yaml.dump({"version": 1, "units": "mm", "up": [0, 1, 0], "cameras": cameras})
    # Without aliases, which are refused.
    (folder / "rig.yaml").write_text(yaml.dump(yaml.safe_load(text), Dumper=_Plain))
    rows = "".join(f"{c},{10 + i / 30},{i},{i}\n" for i in range(3) for c in ("left", "right"))
    (folder / "times.csv").write_text("cam_id,frame_time,frame_index,sync_index\n" + rows)
    (folder / "take.yaml").write_text(
        "rig: rig.yaml\ncameras:\n  left: left.mp4\n  right: right.mp4\nsync: pts\n"
        "offsets: {right: 0.05}\nclock_rates: {right: 1.00001}\n"
    )
    return folder / "take.yaml"


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def rig_case(folder: Path) -> Case:
    take, out = take_of(folder), folder / "out"
    convert: Command = ["rig", "convert", folder / "rig.yaml", out, "--to", "nerfstudio"]
    return Case(
        folder / "rig.yaml", damage.TEXT, ["predict", take, "-o", out, "-q"], convert, out=out
    )


def take_case(folder: Path) -> Case:
    take, out = take_of(folder), folder / "out"
    return Case(take, damage.TEXT, ["predict", take, "-o", out, "-q"], out=out)


def table_case(folder: Path) -> Case:
    take, out, table = take_of(folder), folder / "out", folder / "times.csv"
    return Case(table, damage.TEXT, ["predict", take, "-o", out, "--sync", table], out=out)


def board_case(folder: Path) -> Case:
    path = folder / "charuco.toml"
    path.write_text(
        'columns = 4\nrows = 5\nboard_height = 11.0\nboard_width = 8.5\nunits = "inch"\n'
        'dictionary = "DICT_4X4_1000"\naruco_scale = 0.75\nsquare_size_override_cm = 5.4\n'
    )
    out = folder / "out"
    return Case(path, damage.TEXT, ["calibrate", "board", path, "-o", out / "b.pdf"], out=out)


def video_case(folder: Path) -> Case:
    path = encode_video(folder / "a.webm", n=12, codec="libvpx-vp9", options={"cpu-used": "8"})
    out = folder / "out"
    strict: Command = ["predict", path, "-o", out, "--strict"]
    return Case(path, damage.BYTES, ["predict", path, "-o", out], strict, out=out)


def picture_case(folder: Path) -> Case:
    path, out = folder / "a.jpg", folder / "out"
    cv2.imwrite(str(path), number_picture(3))
    return Case(path, damage.BYTES, ["predict", path, "-o", out], out=out)


def model_case(folder: Path) -> Case:
    path, out = folder / "head.npz", folder / "out"
    shutil.copy(Path(predictor.__file__).parent.parent / "head" / "head.npz", path)
    video = square_video(folder / "left.mp4", 2)
    return Case(path, damage.ARRAYS, ["predict", video, "-o", out, "--model", path], out=out)


def landmarks_case(folder: Path) -> Case:
    """Finished landmarks that are drawn."""
    video, out = square_video(folder / "left.mp4", 3), folder / "done"
    command: Command = ["predict", video, "-o", out, "--overlay"]
    assert main([str(part) for part in command]) == 0
    path = out / "landmarks" / "left.npz"
    return Case(path, damage.ARRAYS, command, out=out / "overlay")


def fit_case(name: str, kinds: tuple[damage.Damage, ...]) -> Callable[[Path], Case]:
    """A file of a finished fit that is exported."""

    def make(folder: Path) -> Case:
        write_toy_fit(folder, load_head())
        write_toy_rig(folder)
        write_toy_footage(folder)
        formats = ("csv", "npz", "nerfstudio", "bvh", "blender", "arkit-csv")
        commands: list[Command] = [
            ["export", folder, "-f", f, "--frames", "0:2", "-q"] for f in formats
        ]
        return Case(folder / name, kinds, *commands, out=folder / "export")

    return make


CASES: dict[str, Callable[[Path], Case]] = {
    "rig.yaml": rig_case,
    "take.yaml": take_case,
    "times.csv": table_case,
    "charuco.toml": board_case,
    "webm": video_case,
    "jpg": picture_case,
    "head.npz": model_case,
    "landmarks": landmarks_case,
    "fit.npz": fit_case("fit.npz", damage.ARRAYS),
    "meta.json": fit_case("meta.json", damage.TEXT),
    "footage.npz": fit_case("footage.npz", damage.ARRAYS),
    "fitted rig.yaml": fit_case("rig.yaml", damage.TEXT),
}


@pytest.mark.parametrize("kind", CASES)
def test_damaged(
    kind: str, no_network: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 3 in CASES[kind](tmp_path).run(FEW, capsys)


@pytest.mark.stress
@pytest.mark.parametrize("kind", CASES)
def test_damaged_often(
    kind: str, no_network: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 3 in CASES[kind](tmp_path).run(MANY, capsys)


def damaged_calibrations(
    name: str, tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]
) -> list[int]:
    """Exit codes over all files of a format."""
    root, out = path_for(name, tmp_path), tmp_path / "out"
    write_any(root, rig_for(name), name)
    options: Command = ["--from", name, "--units", "m", "--size", "1280x720", "--overwrite"]
    codes: list[int] = []
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        kinds = damage.BYTES if file.suffix == ".bin" else damage.TEXT
        case = Case(file, kinds, ["rig", "convert", root, out, *options], out=out)
        codes += case.run(rounds, capsys)
        file.write_bytes(case.good)
    return codes


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_calibrations(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 3 in damaged_calibrations(name, tmp_path, FEW, capsys)


@pytest.mark.stress
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_calibrations_often(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 3 in damaged_calibrations(name, tmp_path, MANY, capsys)


@pytest.mark.parametrize("shipped", [LANDMARK_WEIGHTS, CLOSEUP_WEIGHTS])
def test_damaged_weights(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "weights", tmp_path / "out"
    shutil.copytree(shipped.parent, folder)
    video = square_video(tmp_path / "left.mp4", 2)
    command: Command = ["predict", video, "-o", out, "--weights", folder, "--threads", "1"]
    path = folder / shipped.name
    # Not a flipped bit, which is another weight: what the header tells, and the length.
    kinds = (damage.cut, damage.headless, damage.confused, damage.hole)
    assert set(Case(path, kinds, command, out=out).run(3, capsys)) == {3}
