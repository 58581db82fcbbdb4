"""Finished steps of a fit, kept on disk, so that a killed run goes on where it stopped.

A step's result is a dataclass of tensors; it is stored with every bit, in the layout in which it
is handed on, so that a run that was interrupted ends with the same arrays as one that was not.
"""

from __future__ import annotations

import shutil
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from densefit.errors import InputError
from densefit.files import ensure_out_dir, read_npz, write_npz

Result = TypeVar("Result")


class Checkpoints:
    """A folder of finished steps; without a folder nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args: folder: of this very fit (its name tells inputs and options); made if need be."""
        self.folder = folder
        if folder is not None:
            ensure_out_dir(folder)

    @staticmethod
    def of(parent: Path, key: str) -> Checkpoints:
        """Steps of the fit that `key` names; those of any other fit in `parent` are removed."""
        if parent.is_dir():
            for other in parent.iterdir():
                if other.name != key:
                    shutil.rmtree(other, ignore_errors=True)
        return Checkpoints(parent / key)

    @property
    def finished(self) -> int:
        """Finished steps."""
        return 0 if self.folder is None else len(list(self.folder.glob("[!.]*.npz")))

    def keep(self, name: str, kind: type[Result], make: Callable[[], Result]) -> Result:
        """The step's result from the folder, else made and put there.

        Args:
            name: of the step, a file's name.
            kind: a dataclass of tensors, arrays, numbers and further such dataclasses.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.npz"
        if path.is_file():
            try:
                return cast(Result, _rebuild(kind, read_npz(path)))
            except (InputError, KeyError):
                path.unlink()  # damaged, say by a full disk: make it again
        arrays = _flatten(make())
        write_npz(path, **arrays)
        return cast(Result, _rebuild(kind, arrays))


def _flatten(value: Any) -> dict[str, np.ndarray]:
    """Arrays of a dataclass by dotted names; what is None is left out."""
    out: dict[str, np.ndarray] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            inner = _flatten(part)
            out |= {f"{field.name}.{name}": array for name, array in inner.items()}
        elif isinstance(part, torch.Tensor):
            out[field.name] = part.detach().cpu().contiguous().numpy()
        elif part is not None:
            out[field.name] = np.ascontiguousarray(part).reshape(np.shape(part))
    return out


def _rebuild(kind: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The dataclass that `_flatten` took apart."""
    values: dict[str, Any] = {}
    for name, hint in _hints(kind).items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        inner = {k[len(name) + 1 :]: a for k, a in arrays.items() if k.startswith(f"{name}.")}
        if type(None) in options and not inner and name not in arrays:
            values[name] = None
        elif is_dataclass(options[0]):
            values[name] = _rebuild(options[0], inner)
        else:
            values[name] = _value(options[0], arrays[name])
    return kind(**values)


def _value(hint: Any, array: np.ndarray) -> Any:
    if hint is torch.Tensor:
        # A copy by torch, for its alignment: kernels that start elsewhere may round otherwise.
        return torch.from_numpy(array).clone()
    if hint is np.ndarray:
        return array
    if typing.get_origin(hint) is tuple:
        return tuple(array.tolist())
    return hint(array.item())


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
