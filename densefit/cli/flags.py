"""Groups of options that several commands share, each a dataclass that a command takes whole.

A command is a function whose parameters are options, or such groups:

    def predict(take: TakeFlags, prediction: PredictFlags, out: Out) -> None: ...

`as_command` spreads the groups into single options, which is what typer understands.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from densefit.cli.options import (
    Device,
    End,
    Every,
    Face,
    Identity,
    Inputs,
    Model,
    Overwrite,
    Precision,
    Seed,
    Sequence,
    Start,
    Strict,
    Threads,
    Weights,
)

if TYPE_CHECKING:
    from densefit.capture import Take
    from densefit.fit_rig import FitRigOptions
    from densefit.landmarks.predictor import PredictOptions


@dataclass(frozen=True)
class SyncFlags:
    """How the recordings of a take belong together."""

    sync: Annotated[
        str | None,
        typer.Option(
            "--sync",
            metavar="auto|pts|timecode|frames|clap|flash|FILE.csv",
            help="What tells which frames were taken together; default: what take.yaml says.",
        ),
    ] = None
    fps: Annotated[
        float, typer.Option("--fps", min=0.01, max=10000, help="Frame rate of picture sequences.")
    ] = 30.0
    sequence: Sequence = False
    strict: Strict = False


@dataclass(frozen=True)
class TakeFlags(SyncFlags):
    """Which recordings, and how they belong together."""

    inputs: Inputs = dataclasses.field(kw_only=True)

    def load_each(self) -> list[Take]:
        """Each input as a take of its own."""
        return [dataclasses.replace(self, inputs=[path]).load() for path in self.inputs]

    def load(self) -> Take:
        """Open and check all recordings; InputError if something is wrong with one."""
        from densefit.capture import load_take

        return load_take(
            self.inputs,
            sync=self.sync,
            sequence=self.sequence,
            strict=self.strict,
            fps=self.fps,
        )


@dataclass(frozen=True)
class PredictFlags:
    """Which frames, and what finds the landmarks in them."""

    device: Device = "auto"
    precision: Precision = "auto"
    threads: Threads = None
    seed: Seed = 0
    start: Start = None
    end: End = None
    every: Every = 1
    quality: Annotated[
        Literal["fast", "high"],
        typer.Option(
            "--quality", help="fast: without the close-up of eyes and mouth, twice as fast."
        ),
    ] = "high"
    face: Face = "largest"
    weights: Weights = None
    model: Model = None
    overwrite: Overwrite = False

    def options(self, overlay: bool = False) -> PredictOptions:
        """As the stage takes them."""
        from densefit.landmarks.predictor import PredictOptions

        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return PredictOptions(**values, overlay=overlay)


LANDMARKS: dict[str, Literal[68, 320, 703]] = {"68": 68, "320": 320, "703": 703}


@dataclass(frozen=True)
class FitFlags:
    """What the fit does besides fitting."""

    identity: Identity = None
    refine_cameras: Annotated[
        Literal["off", "extrinsics", "all"],
        typer.Option(
            "--refine-cameras",
            help="Let given cameras move a little: extrinsics, or focal lengths too (all).",
        ),
    ] = "off"
    refine_sync: Annotated[
        bool,
        typer.Option(
            "--refine-sync",
            help="Correct the cameras' time offsets by the head's motion (see sync.yaml).",
        ),
    ] = False
    landmarks: Annotated[
        Literal["68", "320", "703"],
        typer.Option("--landmarks", help="How many landmarks to fit: iBUG's, the face's, or all."),
    ] = "703"
    sigma: Annotated[
        bool,
        typer.Option("--sigma/--no-sigma", help="Weigh landmarks by their own uncertainty."),
    ] = True
    meshes: Annotated[bool, typer.Option("--meshes", help="Also write a mesh for each frame.")] = (
        False
    )
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw the head over the footage.")
    ] = True
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, to judge the fit by.")
    ] = True
    max_residual_px: Annotated[
        float | None,
        typer.Option(
            "--max-residual-px",
            min=0.0,
            help="Quality gate: exit code 4 if a camera's median residual is larger.",
        ),
    ] = None

    def options(self, prediction: PredictFlags) -> FitRigOptions:
        """As the stage takes them."""
        from densefit.fit import FitOptions
        from densefit.fit_rig import FitRigOptions

        return FitRigOptions(
            predict=prediction.options(),
            fit=FitOptions(
                threads=prediction.threads,
                refine_cameras=self.refine_cameras,
                landmarks=LANDMARKS[self.landmarks],
                use_sigma=self.sigma,
            ),
            identity=self.identity,
            refine_sync=self.refine_sync,
            overwrite=prediction.overwrite,
            meshes=self.meshes,
            overlay=self.overlay,
            report=self.report,
        )


@dataclass(frozen=True)
class ReportFlags:
    """What is said on the way; every command has these."""

    progress: Annotated[
        Literal["auto", "rich", "plain", "json", "none"],
        typer.Option(
            "--progress", help="On stderr: live bars, plain lines, or JSON with all messages."
        ),
    ] = "auto"
    log_json: Annotated[
        Path | None,
        typer.Option("--log-json", metavar="FILE", help="Append all events to FILE as JSON lines."),
    ] = None
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")
    ] = False

    def start(self, command: str) -> None:
        """Set up messages and log."""
        from densefit import __version__, progress
        from densefit.errors import UsageError

        if self.verbose and self.quiet:
            raise UsageError("--verbose and --quiet contradict each other; give one")
        level = progress.INFO
        if self.verbose or self.quiet:
            level = progress.DETAIL if self.verbose else progress.WARNING
        progress.configure(progress.ReportOptions(self.progress, level, self.log_json))
        progress.event("start", command=command, version=__version__)


def as_command(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function for typer that takes single options, and the options of ReportFlags besides."""
    groups = {
        parameter: hint
        for parameter, hint in _hints(function).items()
        if dataclasses.is_dataclass(hint)
    }

    def run(**values: Any) -> Any:
        _refuse_nan(values)
        _collect(ReportFlags, values).start(name)
        groups_given = {key: _collect(group, values) for key, group in groups.items()}
        return function(**groups_given, **values)

    parameters = [*_parameters(function, groups), *_parameters(ReportFlags, {})]
    # Typer wants arguments first in its usage line; otherwise the order is as written.
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _refuse_nan(values: dict[str, Any]) -> None:
    """NaN passes every comparison with a limit."""
    from densefit.errors import UsageError

    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            raise UsageError(f"--{name.replace('_', '-')} nan: give a number")


def as_arguments(group: Any) -> list[str]:
    """The command line of a group's options, those at their defaults left out."""
    arguments = []
    for field in dataclasses.fields(group):
        value, option = getattr(group, field.name), f"--{field.name.replace('_', '-')}"
        if value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{option[2:]}")
        else:
            # Whoever runs it may do so in another folder.
            arguments += [option, str(value.absolute() if isinstance(value, Path) else value)]
    return arguments


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    return hints


def _parameters(of: Callable[..., Any], groups: dict[str, Any]) -> list[inspect.Parameter]:
    """Keyword parameters of a function or dataclass, groups replaced by their fields."""
    hints = _hints(of)
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(of).parameters.values():
        if parameter.name in groups:
            found += _parameters(groups[parameter.name], {})
        else:
            found.append(
                parameter.replace(
                    kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]
                )
            )
    return found


def _collect(group: Any, values: dict[str, Any]) -> Any:
    """Take a group's fields out of `values` and make the group of them."""
    return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
