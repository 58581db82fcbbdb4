"""How well expressions fit real faces: `python benchmarks/head_expressions.py DATA --peer HEAD`.

DATA holds video/*.mp4 (talking heads) and rigs/three_cameras. The shipped head and another one
with the same landmarks are fitted to the same landmarks, with the sigmas as the network states
them: the energy at the end says how likely the landmarks are, priors included, and the residual how
far off the certain ones stay. The artist's own shapes for comparison:

    python -m densefit.head.build --ict ICT --artist-expressions -o artist.npz
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from one_person import inputs
from scipy.stats import gmean

from densefit.fit import FitOptions, fit
from densefit.fit_inputs import FitInputs
from densefit.head import load_head
from densefit.head.model import HeadModel

FRAMES, EVERY = 160, 4
"""Every fourth of a clip's first frames."""


def solved(head: HeadModel, part: FitInputs) -> tuple[float, float]:
    """Energy of a fit, and its median residual in px."""
    time = part.observations.time
    observed = part.observations.take(np.arange(0, min(FRAMES, len(time)), EVERY))
    found = fit(head, part.cameras, observed, FitOptions(sigma_scale=1.0))
    return found.energy, float(np.nanmedian(found.residual_px))


def main() -> None:
    """Fit with both heads, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="another head (.npz)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/head_expressions"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    heads = (load_head(), load_head(chosen.peer))
    sources = sorted((chosen.data / "video").glob("*.mp4"))
    sources += sorted((chosen.data / "rigs/three_cameras").glob("take_e*.yaml"))
    table = []
    print(f"{'':18s} {'energy':>8s} {'peer':>8s} {'ratio':>6s} {'residual':>9s} {'peer':>6s} px")
    for source in sources:
        part = inputs(source, chosen.out / source.stem)
        (energy, residual), (peer, peer_residual) = (solved(head, part) for head in heads)
        print(
            f"{source.stem:18s} {energy:8.1f} {peer:8.1f} {energy / peer:6.3f} "
            f"{residual:9.3f} {peer_residual:6.3f}"
        )
        for what, unit, value, other in (
            ("energy", "1", energy, peer), ("residual", "px", residual, peer_residual),
        ):  # fmt: skip
            name = f"{source.stem} {what}"
            table.append({"name": name, "value": value, "unit": unit, "peer_value": other})
    for what in ("energy", "residual"):
        for group, rig in (("clips", False), ("rig", True)):
            ratios = [
                row["value"] / row["peer_value"]  # type: ignore[operator]
                for row in table
                if str(row["name"]).endswith(what) and str(row["name"]).startswith("take_") == rig
            ]
            print(f"{what}, {group}: geometric mean of the ratios {gmean(ratios):.3f}")
    if chosen.json:
        peer_name = {"peer": str(chosen.peer)}
        chosen.json.write_text(json.dumps([row | peer_name for row in table], indent=2))


if __name__ == "__main__":
    main()
