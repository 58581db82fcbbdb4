"""`densefit evaluate now|micc|300w`: published benchmarks, for those who have their data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from densefit.cli.results import check_result_file, write_json_file

if TYPE_CHECKING:
    import numpy as np

Folder = Annotated[Path, typer.Argument(help="The benchmark's data, unpacked as published.")]
Predictions = Annotated[
    Path,
    typer.Option("--predictions", "-p", help="Meshes to measure; docs/evaluate.md has the layout."),
]
Unit = Annotated[
    Literal["m", "cm", "mm"],
    typer.Option("--unit", help="Of the predictions; matters with --metrical alone."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the table to this file.")]


def now(
    folder: Folder,
    predictions: Predictions,
    metrical: Annotated[
        bool, typer.Option("--metrical", help="The metrical variant: size counts.")
    ] = False,
    unit: Unit = "m",
    challenge: Annotated[
        str | None, typer.Option("--challenge", help="Only this one, such as selfie.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """NoW: scan-to-mesh distance after rigid alignment; median, mean, standard deviation in mm."""
    from densefit.evaluate.now import NowOptions, evaluate_now

    check_result_file(json_file, "--json")
    options = NowOptions(metrical, unit, challenge)
    _print({n: d.table() for n, d in evaluate_now(folder, predictions, options).items()}, json_file)


def micc(
    folder: Folder,
    predictions: Predictions,
    metrical: Annotated[
        bool, typer.Option("--metrical", help="Keep the predictions' size.")
    ] = False,
    unit: Unit = "m",
    json_file: JsonFile = None,
) -> None:
    """MICC Florence: point-to-plane distance 95 mm about the nose; mean over subjects in mm."""
    from densefit.evaluate.micc import evaluate_micc

    check_result_file(json_file, "--json")
    found = evaluate_micc(folder, predictions, metrical, unit)
    _print({n: d.table() for n, d in found.items()}, json_file)


def w300(
    folder: Folder,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Network weights; default: the shipped ones.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """300W: 68 points, error in percent of the distance of the outer eye corners."""
    from dataclasses import asdict

    from densefit.capture.photos import read_photo
    from densefit.evaluate.w300 import evaluate_300w, overlap
    from densefit.head.model import load_head
    from densefit.landmarks.tracker import load_tracker
    from densefit.landmarks.weights import LANDMARK_WEIGHTS

    check_result_file(json_file, "--json")
    head = load_head()
    tracker = load_tracker(head, weights=weights or LANDMARK_WEIGHTS)

    def points_of(picture: Path, truth: np.ndarray) -> np.ndarray | None:
        faces = [face.xy[head.ibug68] for face in tracker.find_all(read_photo(picture))]
        return max(faces, key=lambda points: overlap(points, truth), default=None)

    scores = evaluate_300w(folder, points_of)
    _print({name: asdict(score) for name, score in scores.items()}, json_file)


def _print(table: dict[str, dict[str, float]], json_file: Path | None) -> None:
    for name, row in table.items():
        typer.echo(f"{name:24}" + "".join(f"  {key} {value:.3f}" for key, value in row.items()))
    if json_file is not None:
        write_json_file(json_file, table)


COMMANDS = {"now": now, "micc": micc, "300w": w300}
