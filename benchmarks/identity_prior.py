"""How strong should the prior of identity be? `python benchmarks/identity_prior.py PEOPLE DATA`.

PEOPLE is what benchmarks/people_takes.py renders: people who are in no training data, with their
true faces. For each `--weights` (FitOptions.identity_weight): the distance of fits to three cameras
from the true face (median vertex, rigidly aligned; mean over people), from one moment and from all
of a take, with the standard error of the difference to the first weight; and on the real rig of
DATA (rigs/three_cameras) what benchmarks/one_person.py prints.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from one_person import HELD_OUT, aligned, face_vertices, inputs, measure

from densefit.files import read_npz
from densefit.fit import FitOptions, fit
from densefit.fit_inputs import FitInputs
from densefit.head import load_head
from densefit.head.model import HeadModel


def face_error(head: HeadModel, identity: np.ndarray, truth: np.ndarray) -> float:
    """Median distance in mm of the neutral faces of two identities."""
    face = face_vertices(head)
    found, true = (head.neutral(i)[face].astype(float) for i in (identity, truth))
    return float(1e3 * np.median(np.linalg.norm(aligned(found, true) - true, axis=1)))


def errors(
    head: HeadModel, people: list[tuple[FitInputs, np.ndarray]], options: FitOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (people,) in mm of fits to the first moment, and to all."""
    apart = replace(options, independent_frames=True)
    one, every = [], []
    for part, truth in people:
        observed = part.observations.take(np.arange(len(part.observations.time)))
        first = fit(head, part.cameras, observed.take(np.zeros(1, int)), apart)
        one.append(face_error(head, first.identity, truth))
        every.append(face_error(head, fit(head, part.cameras, observed, apart).identity, truth))
    return np.array(one), np.array(every)


def main() -> None:
    """Fit with every weight, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("people", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/identity_prior"))
    parser.add_argument("--weights", type=float, nargs="+", default=[1, 2, 3, 5, 8])
    chosen = parser.parse_args()
    head = load_head()
    people = []
    for file in sorted(chosen.people.glob("person_*/truth.npz")):
        part = inputs(file.with_name("take.yaml"), chosen.out / file.parent.name)
        people.append((part, read_npz(file)["identity"]))
    files = sorted((chosen.data / "rigs/three_cameras").glob("take_e*.yaml"))
    rig = [inputs(file, chosen.out / file.stem) for file in files]
    first: list[np.ndarray] = []
    for weight in chosen.weights:
        options = FitOptions(identity_weight=weight)
        found = errors(head, people, options)
        first = first or list(found)
        line = f"weight {weight:4.1f}  truth"
        for name, values, base in zip(("one moment", "all"), found, first, strict=True):
            change = values - base
            spread = change.std() / np.sqrt(len(change))
            line += f"  {name} {values.mean():.2f} mm ({change.mean():+.3f} +- {spread:.3f})"
        seen, _ = measure(head, rig, options)
        free = np.median(seen.residual_px)
        line += f"  rig: apart {seen.apart_mm.mean():.2f} mm"
        line += f", mean/free {np.median(seen.mean_px) / free:.2f}"
        line += f", {HELD_OUT} {np.median(seen.predicted_px) / np.median(seen.seen_px):.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
