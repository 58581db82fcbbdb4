"""`densefit doctor`: is everything here that densefit needs, and does it work?"""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Also predict and fit a few frames.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show versions, devices, codecs, weights and model hashes, and run a 5 s self-test."""
    import json

    from densefit import doctor as stage
    from densefit.errors import QualityError

    diagnosis = stage.examine(self_test)
    if as_json:
        typer.echo(json.dumps(stage.as_json(diagnosis), indent=2))
    else:
        for topic, findings in diagnosis.topics.items():
            typer.echo(topic)
            for finding in findings:
                mark = " " if finding.good else "!"
                typer.echo(f" {mark} {finding.name}: {finding.text}")
    if diagnosis.problems:
        names = ", ".join(finding.name for finding in diagnosis.problems)
        raise QualityError(f"doctor: something is wrong with {names}; see the lines marked with !")
