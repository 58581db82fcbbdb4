"""Stages in processes of their own, killed with SIGKILL at random moments, then run again."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Loaded once by the server that the children are forked from: a child starts in milliseconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["killing_preload"])

Stage = Callable[..., None]


def run(stage: Stage, *arguments: Any) -> float:
    """Run to the end; return seconds. AssertionError when it fails."""
    begin = time.monotonic()
    process = _CONTEXT.Process(target=stage, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0, f"{stage.__name__} ended with {process.exitcode}"
    return time.monotonic() - begin


def kill_after(seconds: float, stage: Stage, *arguments: Any) -> bool:
    """Kill it at that time; return whether it was still running."""
    process = _CONTEXT.Process(target=stage, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9), f"{stage.__name__} failed before it was killed"
    return process.exitcode == -9


def predict_stage(take: Path, out: Path) -> None:
    """`predict` with small parts and a tracker whose answers depend on the company, as networks'
    do: by how many pictures they are asked for at once; and on the crop that it held on to."""
    from square import SquareTracker

    from densefit.capture import load_take
    from densefit.landmarks import files, predictor

    class Sociable(SquareTracker):
        def follow(self, films: Any, trails: Any) -> Any:
            time.sleep(0.002)
            count = sum(len(pictures) for pictures in films.values())
            seen, after = super().follow(films, trails)
            for name, trail in trails.items():
                held = trail.place is not None and trail.place.roi is not None
                for sighting in seen[name]:
                    if sighting is not None:
                        sighting.sigma[:] += 1e-3 * count + 1e-2 * (not held) + 1e-4 * trail.lost
            return seen, after

    files.PART_FRAMES = predictor.PART_FRAMES = 16
    predictor.make_tracker = lambda head, options: Sociable()  # type: ignore[assignment, return-value]
    predictor.predict(load_take([take]), out)


def long_predict_stage(take: Path, out: Path, result: Path) -> None:
    """`predict` with a tracker that costs nothing; leaves its largest resident memory, MB."""
    import json
    import resource

    from square import SquareTracker

    from densefit.capture import load_take
    from densefit.landmarks import predictor
    from densefit.landmarks.look import Sighting

    class Still(SquareTracker):
        seen = Sighting(
            np.full((703, 2), 30, np.float32),
            np.ones(703, np.float32),
            np.array([30.0, 30, 20, 0, 0.9]),
        )

        def _see(self, picture: Any) -> Any:
            return self.seen

    predictor.make_tracker = lambda head, options: Still()  # type: ignore[assignment, return-value]
    predictor.predict(load_take([take]), out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result.write_text(json.dumps({"peak_mb": peak}))


def fit_stage(take: Path, landmarks: Path, out: Path) -> None:
    """`fit-rig` from known landmarks, with meshes and overlays; the take counts as a long one, so
    that its motion is solved in windows."""
    import torch

    from densefit.capture import load_take
    from densefit.fit import FitOptions
    from densefit.fit_rig import FitRigOptions, run_fit_rig
    from densefit.landmarks import predictor

    torch.set_num_threads(1)
    predictor.predict = lambda take, out, options: {  # type: ignore[assignment]
        name: landmarks / f"{name}.npz" for name in take.sources
    }
    fit = FitOptions(threads=1, joint_frames=4, keyframes=4, window=3, overlap=1)
    options = FitRigOptions(predictor.PredictOptions(), fit, meshes=True)
    run_fit_rig(load_take([take]), out, options)


def check_no_broken_file(folder: Path) -> None:
    """Every file that does not hide can be read."""
    import av
    import yaml

    from densefit.files import read_json, read_npz

    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".npz":
            read_npz(path)
        elif path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".yaml":
            assert isinstance(yaml.safe_load(path.read_text()), dict)
        elif path.suffix == ".mp4":
            with av.open(str(path)) as video:
                assert sum(1 for _ in video.decode(video=0)) > 0
        elif path.suffix == ".ply":
            assert path.read_bytes().startswith(b"ply")
        else:
            raise AssertionError(f"{path}: unexpected")


def differences(one: Path, two: Path) -> list[str]:
    """Files that only one of two output folders has, and arrays that are not bit for bit the
    same."""
    from densefit.files import read_npz

    files = [
        {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        for folder in (one, two)
    ]
    found = sorted(files[0] ^ files[1])
    for name in sorted(files[0] & files[1]):
        if name.endswith(".npz"):
            a, b = read_npz(one / name), read_npz(two / name)
            equal = {k: k in a and k in b and _equal(a[k], b[k]) for k in a.keys() | b.keys()}
            found += [f"{name}: {k}" for k in sorted(equal) if not equal[k]]
    return found


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
