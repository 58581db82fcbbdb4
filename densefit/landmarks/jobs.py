"""What landmarks are made from, and whether those of an earlier run can stay or be gone on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densefit.errors import InputError
from densefit.fingerprint import fingerprint
from densefit.landmarks.files import PartWriter, earlier_job

if TYPE_CHECKING:
    from densefit.capture import Source, Take
    from densefit.landmarks.predictor import PredictOptions


def make_writers(
    take: Take, out: Path, options: PredictOptions, landmarks_version: str
) -> dict[str, PartWriter]:
    """What keeps each camera's landmarks; nothing is written yet."""
    folder, precision = out / "landmarks", _precisions(list(take.sources), out, options)
    return {
        name: PartWriter(
            folder,
            name,
            landmarks_version,
            job(source, options) | {"precision": precision[name]},
            options.overwrite,
        )
        for name, source in take.sources.items()
    }


def _precisions(cameras: list[str], out: Path, options: PredictOptions) -> dict[str, str]:
    """What each camera's landmarks are, or will be, computed in.

    On another machine `auto` may mean another thing; a recording must not change midway for it,
    and what is finished is as good.
    """
    if options.precision != "auto":
        return dict.fromkeys(cameras, options.precision)
    begun = {} if options.overwrite else earlier_precisions(out, cameras)
    if len(begun) == len(cameras):
        return begun
    import torch

    from densefit.precision import dtype_name, inference_dtype

    new = next(iter(begun.values()), None)  # one take, one precision
    device = torch.device(resolve_device(options.device))
    new = new or dtype_name(inference_dtype("auto", device, _know_ranges(options)))
    return {name: begun.get(name, new) for name in cameras}


def _know_ranges(options: PredictOptions) -> bool:
    """Whether all networks can run in int8."""
    from densefit.landmarks.weights import has_ranges

    return all(has_ranges(path) for path in weights_of(options) if path is not None)


def earlier_precisions(out: Path, cameras: Iterable[str]) -> dict[str, str]:
    """What the landmarks in a folder were computed in, of those cameras that have any."""
    jobs = {name: earlier_job(out / "landmarks", name) for name in cameras}
    return {name: job["precision"] for name, job in jobs.items() if job}


def precision_of_run(writers: Mapping[str, PartWriter]) -> str:
    """The precision that all unfinished cameras share; InputError if they do not."""
    wanted = {name: writer.job["precision"] for name, writer in writers.items()}
    wanted = {name: value for name, value in wanted.items() if not writers[name].finished}
    if len(set(wanted.values())) > 1:
        stated = ", ".join(f"{name} in {value}" for name, value in wanted.items())
        raise InputError(f"landmarks were begun {stated}; begin anew with --overwrite")
    return next(iter(wanted.values()))


def resolve_device(device: str) -> str:
    """auto -> cuda where there is one, else cpu. InputError when cuda is asked for in vain."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this PyTorch finds no CUDA device; use --device cpu")
    return device


def weights_of(options: PredictOptions) -> tuple[Path, Path | None]:
    """Files of the network for whole faces and of the close-up, None where there is none."""
    from densefit.landmarks.weights import CLOSEUP_WEIGHTS, LANDMARK_WEIGHTS

    chosen = options.weights
    if chosen is not None and not chosen.is_dir():
        return chosen, None
    folder = chosen or LANDMARK_WEIGHTS.parent
    high = options.quality == "high"
    return folder / LANDMARK_WEIGHTS.name, folder / CLOSEUP_WEIGHTS.name if high else None


def job(source: Source, options: PredictOptions) -> dict[str, Any]:
    """What must be equal for earlier work on a camera to be still good, by what people call it.

    Besides this, work that was begun goes on in the precision that it was begun in.
    """
    from densefit.landmarks.weights import DETECTOR_WEIGHTS

    weights = [w for w in (*weights_of(options), DETECTOR_WEIGHTS) if w is not None]
    # The times of a picture sequence are made from its rate.
    rate = [f"{source.fps:g} a second"] if source.kind == "sequence" else []
    return {
        "recordings": [source.kind, fingerprint(source.files or (source.path,))],
        "frames": [
            None if options.start == "0" else options.start,
            options.end,
            options.every,
            *rate,
        ],
        "face": options.face,
        "weights": fingerprint([w for w in weights if w.exists()]),
    }
