"""`densefit evaluate model`: how well a head model stands for real people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densefit.cli.options import Model
from densefit.cli.results import check_result_file, write_json_file


def evaluate_model(
    heads: Annotated[
        Path | None,
        typer.Option("--heads", help="Folder with james/ and lee_perry_smith/ (real heads)."),
    ] = None,
    ict: Annotated[
        Path | None,
        typer.Option("--ict", help="ICT-FaceKit's folder: held-out people, and a peer."),
    ] = None,
    peer: Annotated[
        list[Path] | None,
        typer.Option("--peer", help="Another head model (.npz) to measure beside; repeatable."),
    ] = None,
    people: Annotated[
        int, typer.Option("--people", min=1, help="How many held-out people to fit.")
    ] = 6,
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Draws of noisy points that a figure is over.")
    ] = 4,
    model: Model = None,
    curves: Annotated[
        Path | None,
        typer.Option("--curves", help="Also plot compactness, generalisation and specificity."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the table to a file.")
    ] = None,
) -> None:
    """Scan-to-surface distance, correspondence and unseen parts of a head model, in millimetres."""
    import tempfile

    from densefit.errors import UsageError
    from densefit.evaluate.model import ModelOptions, summary
    from densefit.evaluate.model import evaluate_model as run
    from densefit.head.foreign import ict as ict_reader
    from densefit.head.foreign.convert import convert
    from densefit.head.model import load_head
    from densefit.model_file import open_head

    if heads is None and ict is None:
        raise UsageError("nothing to measure on: give --heads FOLDER, --ict FOLDER or both")
    if curves is not None and ict is None:
        raise UsageError("--curves needs people to compare with: give --ict FOLDER too")
    check_result_file(json_file, "--json")
    check_result_file(curves, "--curves")
    names = ["densefit" if model is None else model.stem, *(path.stem for path in peer or [])]
    if ict is not None:
        names.append("ict")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--peer: two models are called '{twice}'; rename one of the files")
    models = {n: open_head(path) for n, path in zip(names, [model, *(peer or [])], strict=False)}
    population = None
    if ict is not None:
        with tempfile.TemporaryDirectory() as folder:
            population = load_head(
                convert(ict_reader.read(ict), load_head(), Path(folder, "i.npz"))
            )
        models["ict"] = population
    table = summary(run(models, heads, population, ModelOptions(people=people, sparse_draws=draws)))
    for measure, subject, name, value in table:
        typer.echo(f"{measure:28} {subject:16} {name:12} {value:6.3f} mm")
    if curves is not None and population is not None:
        from densefit.evaluate.curves import plot_curves

        plot_curves(curves, models, population)
    if json_file is not None:
        write_json_file(json_file, [
            {"name": f"{m}, {s}", "value": round(v, 4), "unit": "mm", "model": n}
            for m, s, n, v in table
        ])  # fmt: skip


COMMANDS = {"model": evaluate_model}
