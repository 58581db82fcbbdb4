"""Files of weights: safetensors in float16 with metadata that says what they were trained for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densefit.errors import InputError
from densefit.files import atomic_path

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
LANDMARK_WEIGHTS = WEIGHTS_FOLDER / "landmarks_fast.safetensors"
CLOSEUP_WEIGHTS = WEIGHTS_FOLDER / "landmarks_closeup.safetensors"
DETECTOR_WEIGHTS = WEIGHTS_FOLDER / "detector.safetensors"
RANGES = "activation_ranges"
SHIPPED = {
    "landmarks": LANDMARK_WEIGHTS, "closeup": CLOSEUP_WEIGHTS, "detector": DETECTOR_WEIGHTS,
}  # fmt: skip


def save_weights(network: nn.Module, path: Path, metadata: dict[str, Any]) -> None:
    """Write a network's state in float16, whole or not at all.

    metadata: JSON values; `config` (the network's frozen dataclass) is added from the network.
    """
    import torch

    from densefit.tensor_files import write_tensors

    state = {k: v.detach().cpu() for k, v in network.state_dict().items()}
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    tensors = {k: v.to(torch.float16).contiguous() for k, v in state.items()}
    metadata = {"config": asdict(network.config), **metadata}  # type: ignore[call-overload]
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, {k: json.dumps(v) for k, v in metadata.items()})
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def read_weights(path: Path, *kinds: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """State (float32 tensors) and metadata of a file of weights.

    kinds: those that will do, of "landmarks", "closeup" and "detector". Raises InputError when the
    file is missing, damaged or made for another kind of network.
    """
    from densefit.tensor_files import read_tensors

    if not path.exists():
        raise InputError(
            f"{path}: no such file of weights; train one with `densefit train` or reinstall"
        )
    try:
        tensors, text = read_tensors(path)
        metadata = {k: json.loads(v) for k, v in text.items()}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable file of weights ({error}); give another"
        ) from error
    if metadata.get("kind") not in kinds:
        wanted = " or ".join(kinds)
        raise InputError(
            f"{path}: holds weights of kind {metadata.get('kind')}, not {wanted}; give another"
        )
    return {k: v.float() for k, v in tensors.items()}, metadata


def has_ranges(path: Path) -> bool:
    """Whether a file of weights says how far the network's maps reach, as int8 has to know.

    False as well for a file that cannot be read, which is found out when it is used.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            return RANGES in file.keys() and bool(file.get_tensor(RANGES).any(1).all())
    except (SafetensorError, OSError):
        return False


def check_version(path: Path, metadata: dict[str, Any], landmarks_version: str) -> None:
    """InputError unless the weights were trained for this head model's landmarks."""
    trained = metadata.get("landmarks_version")
    if trained != landmarks_version:
        raise InputError(
            f"{path}: trained for landmarks {str(trained)[:12]}, but the head model has"
            f" {landmarks_version[:12]}; use the weights that belong to the model or train again"
        )
