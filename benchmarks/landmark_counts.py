"""Which landmarks matter: `python benchmarks/landmark_counts.py PEOPLE [--plot FILE]`.

PEOPLE is what benchmarks/people_takes.py renders: people who are in no training data, with points
of their true neutral faces. The shipped networks' landmarks of each take are fitted with 68, 320
and 703 of them, and with 703 whose own uncertainty is ignored; once from the middle camera alone
and once from all three. Measured are unsigned distances of the scan's points to the neutral head,
pooled over people, as in NoW: after a rigid refinement on these distances, with scale for one
camera (whose size is a guess), without for three. The plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from one_person import inputs

from densefit.evaluate.surfaces import Surface, distances, refine
from densefit.files import read_npz
from densefit.fit import FitOptions, fit
from densefit.fit_inputs import FitInputs
from densefit.head import load_head
from densefit.head.model import HeadModel

CHOICES = {
    "68": FitOptions(landmarks=68),
    "320": FitOptions(landmarks=320),
    "703": FitOptions(),
    "703 without sigma": FitOptions(use_sigma=False),
}
RIGS = {"one camera": ("middle",), "three cameras": ("left", "middle", "right")}
OUTSIDE = ("skin", "ears", "scalp", "neck")


def surface_errors(
    head: HeadModel, identity: np.ndarray, scan: np.ndarray, scale: bool
) -> np.ndarray:
    """Distances (N,) in mm of a scan's points (N, 3, metres) to the neutral head, aligned."""
    skin = head.triangles[head.part_triangles(*OUTSIDE)]
    surface = Surface(head.neutral(identity).astype(np.float64), skin)
    return 1e3 * distances(surface.moved(refine(surface, scan, with_scale=scale)), scan)


def identity_of(
    head: HeadModel, part: FitInputs, seen: tuple[str, ...], options: FitOptions
) -> np.ndarray:
    """The fit from some of a take's cameras, its frames taken as separate moments."""
    observed = part.observations.take(np.arange(len(part.observations.time)))
    valid = observed.valid & np.array([c.name in seen for c in part.cameras])
    chosen = replace(options, independent_frames=True)
    return fit(head, part.cameras, replace(observed, valid=valid), chosen).identity


def main() -> None:
    """Fit, measure, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("people", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/landmark_counts"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    head = load_head()
    pooled: dict[tuple[str, str], list[np.ndarray]] = {}
    takes = sorted(chosen.people.glob("person_*/truth.npz"))
    for truth in takes:
        scan = read_npz(truth)["scan"]
        part = inputs(truth.with_name("take.yaml"), chosen.out / truth.parent.name)
        for rig, seen in RIGS.items():
            mean = surface_errors(head, np.zeros(head.identity_count), scan, len(seen) == 1)
            pooled.setdefault((rig, "mean head"), []).append(mean)
            for name, options in CHOICES.items():
                identity = identity_of(head, part, seen, options)
                errors = surface_errors(head, identity, scan, len(seen) == 1)
                pooled.setdefault((rig, name), []).append(errors)
    print(f"{len(takes)} people; mm        median   mean    std")
    rows = []
    for (rig, name), parts in pooled.items():
        every = np.concatenate(parts)
        figures = {"median": np.median(every), "mean": every.mean(), "std": every.std()}
        print(f"{rig:14s} {name:18s}" + "".join(f"{v:7.2f}" for v in figures.values()), flush=True)
        for what, value in figures.items():
            row = {"name": f"{rig}, {name}, {what}", "value": float(value), "unit": "mm"}
            rows.append(row | {"peer": None, "peer_value": None})
    if chosen.plot:
        plot(pooled, chosen.plot)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2))


def plot(pooled: dict[tuple[str, str], list[np.ndarray]], path: Path) -> None:
    """Share of the points within a distance, one panel for each rig."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(RIGS), figsize=(8, 3.2), dpi=110, sharey=True)
    for panel, rig in zip(panels, RIGS, strict=True):
        for (place, name), parts in pooled.items():
            if place == rig:
                values = np.sort(np.concatenate(parts))
                share = np.linspace(0, 1, len(values))
                panel.plot(values, share, label=name, color="0.6" if "mean" in name else None)
        panel.set(xlim=(0, 4), ylim=(0, 1), title=rig, xlabel="distance, mm")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("share of the face")
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
