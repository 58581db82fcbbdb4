"""Files whole or not at all; arrays without pickle; output folders that can be written to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.files import (
    atomic_path,
    ensure_out_dir,
    read_json,
    read_npz,
    write_json,
    write_npz,
)


def test_npz_round_trip(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3.0), "b": np.array([[True]]), "name": np.array("left")}
    write_npz(tmp_path / "x.npz", **arrays)
    again = read_npz(tmp_path / "x.npz")
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'a'"):
        write_npz(tmp_path / "x.npz", a=np.array([object()]))
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "y.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"y\.npz"):
        read_npz(tmp_path / "y.npz")


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "missing", "folder"])
def test_damaged_npz_is_an_input_error_that_names_it(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_npz(path, a=np.arange(1000.0))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:4000])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    with pytest.raises(InputError, match=r"x\.npz"):
        read_npz(path)


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "meta.json", {"names": ["ä"], "x": 0.1})
    assert read_json(tmp_path / "meta.json") == {"names": ["ä"], "x": 0.1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "meta.json", {"x": float("nan")})
    assert read_json(tmp_path / "meta.json")["x"] == 0.1
    (tmp_path / "bad.json").write_text("{")
    for name in ("bad.json", "none.json"):
        with pytest.raises(InputError, match=name):
            read_json(tmp_path / name)


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_output_folder(tmp_path: Path) -> None:
    assert ensure_out_dir(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "x", Path("/proc/nowhere")):
        with pytest.raises(InputError, match="cannot write"):
            ensure_out_dir(bad)


def test_output_folders_may_be_checked_by_many_threads_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ensure_out_dir(tmp_path / "overlay"), range(400)))
    assert len(made) == 400 and not any((tmp_path / "overlay").iterdir())


def test_what_is_no_npz_is_called_so(tmp_path: Path) -> None:
    """numpy takes any other file for pickled data and advises to load that without care."""
    (tmp_path / "film.npz").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(InputError, match="film.npz: damaged or not an .npz file") as caught:
        read_npz(tmp_path / "film.npz")
    assert "pickle" not in str(caught.value)
    with pytest.raises(InputError, match="a folder, no file"):
        read_npz(tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_what_may_not_be_read_is_not_called_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to replace a file that may well be good."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    write_npz(tmp_path / "fit.npz", a=np.arange(3.0))
    write_json(tmp_path / "meta.json", {})
    monkeypatch.setattr(np, "load", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    for read, name in ((read_npz, "fit.npz"), (read_json, "meta.json")):
        with pytest.raises(InputError, match=f"{name}: cannot be read") as caught:
            read(tmp_path / name)
        assert os.strerror(number) in str(caught.value)
        assert "overwrite" not in str(caught.value) and "damaged" not in str(caught.value)
