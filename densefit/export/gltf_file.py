"""The glTF 2.0 container: accessors gathered into one binary chunk, and the GLB file around it.

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, sections 3.6 (buffers) and 4 (GLB).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from densefit.files import atomic_path

COMPONENT_TYPES = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
ELEMENT_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
VERTEX_BUFFER = 34962
INDEX_BUFFER = 34963


class GltfFile:
    """A glTF document in the making: `json` holds plain lists, `add_array` fills the buffer."""

    def __init__(self, generator: str) -> None:
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": generator},
            "accessors": [],
            "bufferViews": [],
        }
        self._binary = bytearray()

    def add(self, group: str, item: dict[str, Any]) -> int:
        """Append `item` to the top-level list `group`; its index."""
        items = self.json.setdefault(group, [])
        items.append(item)
        return len(items) - 1

    def add_array(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Accessor of an array (N,), (N, 2), (N, 3), (N, 4) or (N, 4, 4 column-major).

        Args:
            target: VERTEX_BUFFER or INDEX_BUFFER for mesh data.
            bounds: write min and max, which the format demands for positions and key times.
        """
        array = np.ascontiguousarray(array)
        self._binary.extend(b"\0" * (-len(self._binary) % 4))
        view: dict[str, Any] = {
            "buffer": 0,
            "byteOffset": len(self._binary),
            "byteLength": array.nbytes,
        }
        if target is not None:
            view["target"] = target
        self._binary.extend(array.astype(array.dtype.newbyteorder("<")).tobytes())
        accessor: dict[str, Any] = {
            "bufferView": self.add("bufferViews", view),
            "componentType": COMPONENT_TYPES[array.dtype.name],
            "count": len(array),
            "type": ELEMENT_TYPES[array.shape[1:]],
        }
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor["min"] = [float(value) for value in flat.min(axis=0)]
            accessor["max"] = [float(value) for value in flat.max(axis=0)]
        return self.add("accessors", accessor)

    def add_bytes(self, data: bytes) -> int:
        """Buffer view of a file such as a picture; its index."""
        self._binary.extend(b"\0" * (-len(self._binary) % 4))
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        self._binary.extend(data)
        return self.add("bufferViews", view)

    def write(self, path: Path) -> Path:
        """Write the GLB, whole or not at all."""
        document = {**self.json, "buffers": [{"byteLength": len(self._binary)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self._binary) + b"\0" * (-len(self._binary) % 4)
        length = 12 + 8 + len(text) + 8 + len(binary)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, length))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", len(binary), b"BIN\0") + binary)
        return path
