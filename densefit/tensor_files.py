"""Tensors in .safetensors files; training may run where that package is not installed.

A file is the length of a header (8 bytes, little-endian), the header as JSON, and the tensors'
bytes one after another (https://github.com/huggingface/safetensors, "Format"). Such files are read
and written here with the package where it is there, else with a few lines that do the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_LARGEST_HEADER = 100_000_000
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_TYPES = {name: dtype for dtype, name in _NAMES.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, on any device, and some text beside them.

    Written in place: give a temporary name, see `files.atomic_path`.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        from safetensors.torch import save_file
    except ImportError:
        _write(path, plain, metadata)
    else:
        save_file(plain, str(path), metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, on the CPU, and the text beside them.

    Raises:
        OSError: the file cannot be read. ValueError: it is damaged or of another format.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return _read(path)
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": metadata}
    # The widest first, as the package does: every tensor is then aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            stream.write(tensors[name].view(-1).view(torch.uint8).numpy().tobytes())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    if not 8 < start <= min(len(content), _LARGEST_HEADER):
        raise ValueError("no header of safetensors")
    try:
        header = json.loads(content[8:start])
        metadata = header.pop("__metadata__", {})
        tensors = {name: _tensor(content, start, entry) for name, entry in header.items()}
    except (AttributeError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"damaged header of safetensors ({error})") from error
    return tensors, metadata


def _tensor(content: bytearray, start: int, entry: dict[str, Any]) -> Tensor:
    dtype, shape = _TYPES[entry["dtype"]], [int(length) for length in entry["shape"]]
    begin, end = (start + int(offset) for offset in entry["data_offsets"])
    count = math.prod(shape)
    fits = start <= begin <= end <= len(content) and end - begin == count * dtype.itemsize
    if not fits or min(shape, default=0) < 0:
        raise ValueError("a tensor lies outside the file")
    if not count:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(content, dtype=torch.uint8, count=end - begin, offset=begin)
    return raw.clone().view(dtype).view(shape)
