"""Reads FLAME (2019, 2020, 2023) from an .npz with the arrays of the published model file.

FLAME is published as a Python pickle. Pickles run code when they are opened, so densefit does not
open them: save the arrays as .npz first, with the command that the error message shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.files import read_npz
from densefit.head.foreign.convert import ForeignHead

Array = np.ndarray[Any, np.dtype[Any]]

KEYS = ("v_template", "shapedirs", "f", "J_regressor", "weights")
JOINTS = 5
LEFT_EYE, RIGHT_EYE = 3, 4
SHAPE_MODES = (100, 300)
"""The older and the newer files hold 100 or 300 shape directions, then those of expressions."""
TO_NPZ = """python -c "
import pickle, numpy as np
d = pickle.load(open('{0}', 'rb'), encoding='latin1')
a = {{k: d[k] for k in ('v_template', 'shapedirs', 'f', 'J_regressor', 'weights')}}
a['J_regressor'] = a['J_regressor'].todense()
np.savez('flame.npz', **{{k: np.asarray(v) for k, v in a.items()}})"
"""


def read(path: Path) -> ForeignHead:
    """Read flame.npz.

    Raises:
        InputError: a pickle, missing arrays, or another version.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        raise InputError(
            f"{path}: pickles can run any code, so they are not opened here; if you trust the "
            f"file, convert it:\n{TO_NPZ.format(path)}"
        )
    arrays = read_npz(path)
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise InputError(f"{path}: not a FLAME model: it lacks {', '.join(missing)}")
    vertices = arrays["v_template"].astype(np.float64)
    directions = arrays["shapedirs"]
    regressor, weights = arrays["J_regressor"].astype(np.float64), arrays["weights"]
    if (
        directions.shape[:2] != vertices.shape
        or regressor.shape != (JOINTS, len(vertices))
        or weights.shape != (len(vertices), JOINTS)
    ):
        raise InputError(
            f"{path}: unknown version of FLAME: shapedirs {directions.shape}, J_regressor "
            f"{regressor.shape}, weights {weights.shape} for {len(vertices)} vertices; expected "
            f"(V, 3, modes), ({JOINTS}, V) and (V, {JOINTS})"
        )
    modes = max((n for n in SHAPE_MODES if n <= directions.shape[2]), default=directions.shape[2])
    joints = regressor @ vertices
    return ForeignHead(
        name="flame",
        vertices=vertices,
        triangles=arrays["f"].astype(np.int64),
        identity=np.moveaxis(directions[:, :, :modes], 2, 0).astype(np.float32),
        eyes=(np.flatnonzero(weights[:, LEFT_EYE] > 0.5),
              np.flatnonzero(weights[:, RIGHT_EYE] > 0.5)),
        eye_centres=joints[[LEFT_EYE, RIGHT_EYE]],
    )  # fmt: skip
