"""Weights between two trainings: `python -m densefit.train.mix NEW OLD -o OUT --share 0.5`.

A network that was trained on from another one lies in the same valley; on pictures unlike those of
the last training a mean of both errs less than either (Wortsman et al., "Robust fine-tuning of
zero-shot models", CVPR 2022). The mean is surer of itself than it should be where they are unlike
one another: with `--data` sigma is calibrated anew on held-out renders.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from densefit.errors import InputError
from densefit.landmarks.network import LandmarkNet, load_network
from densefit.landmarks.weights import RANGES, read_weights, save_weights
from densefit.module_main import exit_code, number
from densefit.train.grow import grow_into
from densefit.train.landmark_task import LandmarkTask, LandmarkTaskOptions, landmark_weights
from densefit.train.random import Draws


def mixed(new: LandmarkNet, old: LandmarkNet, share: float, weight: torch.Tensor) -> LandmarkNet:
    """`new`, changed in place: share * new + (1 - share) * old, decoded from the basis of `new`.

    Channels that `new` has grown are its own, and so is a refinement that `old` has none of; where
    old channels read new ones, `old` counts as zero.

    Args:
        weight: (703,) of the landmarks in the loss of `new`.
    """
    grown = LandmarkNet(new.config, new.landmarks)
    grown.load_state_dict(new.state_dict())
    grow_into(grown, old.state_dict())
    grown.change_basis(new.mean, new.basis, weight)
    before = grown.state_dict()
    after = {
        name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
        for name, value in new.state_dict().items()
    }
    # Too wide a range costs a little exactness, too narrow a one cuts maps off. Zero: not known.
    ranges = [state[RANGES] for state in (new.state_dict(), before)]
    after[RANGES] = torch.where(ranges[0].abs() > ranges[1].abs(), *ranges)
    new.load_state_dict(after)
    return new


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and mix."""
    parser = argparse.ArgumentParser(prog="python -m densefit.train.mix", description=__doc__)
    parser.add_argument("new", type=Path, help="weights of the later training")
    parser.add_argument("old", type=Path, help="weights that it began with")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument(
        "--share", type=number(0, 1), default=0.5, help="of the later training, 0 to 1"
    )
    parser.add_argument("--data", type=Path, help="folder of shards to calibrate sigma on")
    parser.add_argument(
        "--backgrounds", type=Path, help="folder of pictures without faces, or one packed"
    )
    options = parser.parse_args(arguments)
    return exit_code(lambda: mix(options))


def mix(options: argparse.Namespace) -> None:
    """Read both files, mix, write. InputError where they are no weights of one kind and size."""
    from densefit.head import load_head

    metadata = read_weights(options.new, "landmarks", "closeup")[1]
    kind = metadata["kind"]
    weight = landmark_weights(load_head(), kind == "closeup")
    new, old = (load_network(path, kind=kind) for path in (options.new, options.old))
    del metadata["config"]
    metadata["mixed"] = f"{options.share:g} of this training, the rest of the weights it began with"
    try:
        result = mixed(new, old, options.share, weight)
    except ValueError as error:
        raise InputError(f"{options.old}: {error}") from error
    if options.data is not None:
        _task(options.data, options.backgrounds, kind == "closeup").calibrate(result)
    save_weights(result, options.out, metadata)


def _task(data: Path, backgrounds: Path | None, closeup: bool) -> LandmarkTask:
    from densefit.head import load_head

    options = LandmarkTaskOptions()
    if closeup:
        options = LandmarkTaskOptions.for_closeup(options.batch)
    return LandmarkTask(data, load_head(), Draws(1), options, backgrounds)


if __name__ == "__main__":
    sys.exit(main())
