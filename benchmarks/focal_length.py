"""Focal lengths from faces: `python benchmarks/focal_length.py PEOPLE [DATA]`.

PEOPLE is what benchmarks/people_takes.py renders: people who are in no training data. DATA holds
rigs/three_cameras, five moments of a real person. Each camera is taken alone, five moments at a
time, as one whose K is not known; the focal length that the fit finds is compared with the true
one, and its error with what is stated. Last comes the distance, over that which the fit finds with
K known.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from one_person import inputs

from calibration import Camera
from densefit.fit import FitOptions, Observations, fit
from densefit.fit_inputs import FitInputs
from densefit.head import load_head
from densefit.head.model import HeadModel

OPTIONS = FitOptions(independent_frames=True)


@dataclass(frozen=True)
class Found:
    """Of one camera: logs of the focal length and of the distance over the true ones, and the
    deviation stated of the first."""

    focal: float
    stated: float
    distance: float


def alone(head: HeadModel, camera: Camera, seen: Observations) -> Found:
    """Fit one camera with and without its K."""
    assert camera.K is not None
    bare = replace(camera, T_camera_world=None)
    found = fit(head, [replace(bare, K=None)], seen, OPTIONS)
    known = fit(head, [bare], seen, OPTIONS)
    K, std = found.cameras[0].K, found.cameras[0].std
    assert K is not None and std is not None
    lengths = [np.linalg.norm(f.translation, axis=1).mean() for f in (found, known)]
    return Found(
        float(np.log(K[0, 0] / camera.K[0, 0])),
        std["focal"] / float(K[0, 0]),
        float(np.log(lengths[0] / lengths[1])),
    )


def moments(parts: list[FitInputs], c: int) -> Observations:
    """What one camera sees in some takes, a moment each."""
    seen = [part.observations.take(np.arange(len(part.observations.time))) for part in parts]
    xy, sigma, valid = (
        np.concatenate([getattr(s, name)[:, [c]] for s in seen])
        for name in ("xy", "sigma", "valid")
    )
    return Observations(xy, sigma, valid, 10.0 * np.arange(len(xy)))


def report(name: str, found: list[Found]) -> list[dict[str, object]]:
    """Print a line, and give its figures."""
    focal, stated, distance = np.array([(f.focal, f.stated, f.distance) for f in found]).T
    figures = {
        "mean": 100 * focal.mean(),
        "rms": 100 * float(np.sqrt(np.square(focal).mean())),
        "stated": 100 * stated.mean(),
        "rms of the distance": 100 * float(np.sqrt(np.square(distance).mean())),
    }
    print(f"{name:28s}" + "".join(f"  {k} {v:5.1f} %" for k, v in figures.items()))
    return [
        {"name": f"{name}, {k}", "value": v, "unit": "%", "peer": None, "peer_value": None}
        for k, v in figures.items()
    ]


def main() -> None:
    """Fit, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("people", type=Path)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/focal_length"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    head = load_head()
    found: list[Found] = []
    for take in sorted(chosen.people.glob("person_*/take.yaml")):
        part = inputs(take, chosen.out / take.parent.name)
        found += [alone(head, c, moments([part], i)) for i, c in enumerate(part.cameras)]
    rows = report(f"{len(found)} rendered cameras", found)
    if chosen.data:
        takes = sorted((chosen.data / "rigs/three_cameras").glob("take_e*.yaml"))
        parts = [inputs(take, chosen.out / take.stem) for take in takes]
        found = [alone(head, c, moments(parts, i)) for i, c in enumerate(parts[0].cameras)]
        rows += report(f"{len(found)} real cameras", found)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
