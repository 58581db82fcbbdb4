"""Lids stay on the eyeballs, whatever the person, the expression and the gaze.

A sum of shapes cannot do that: a lid slides over a ball, shapes move it along chords, and what
makes one person's eyes wider would leave the same person's blink open. So the sum of identity and
expression is settled at the lids in two steps, eye by eye:

1. Closing wins. `closure` (1 at the lid margins, 0 at brow and cheek) times the cube of the blink
   takes every other displacement back, so that a full blink is the same closed lid on everybody's
   eyeball, and lids half shut are still the person's own:
   S <- S - blink^3 closure (S - template - blink E_blink - shift); shift: the eyeball moved.
2. Skin keeps off the ball. It is pushed out along the radius to `floor`; where the lid touches the
   ball in the template (`contact`), it is also drawn back in to that radius.

The same code serves numpy and torch; with both steps the template stays exactly as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Lids:
    """Which vertices are settled, and how much. Float arrays float32, index arrays int32."""

    vertices: Array
    """(N,): skin around the eyes."""
    side: Array
    """(N,): 0 for the left eye, 1 for the right."""
    closure: Array
    """(N,): how much of its other displacements a vertex gives up in a full blink."""
    contact: Array
    """(N,): how much a vertex keeps its distance from the eyeball's centre."""
    floor: Array
    """(N,): metres from the eyeball's centre below which a vertex may not come."""
    reach: Array
    """(N,): metres from the eyeball's centre in the template."""
    lashes: Array
    """(M,): lash vertices, which are carried along."""
    lash_anchors: Array
    """(M, 3): indices into `vertices`."""
    lash_weights: Array
    """(M, 3): rows sum to one."""


LID_FIELDS = tuple(field.name for field in fields(Lids))


def settled(points: Any, rest: Any, blinked: Any, blink: Any, centre: Any, shift: Any,
            lids: Any) -> Any:  # fmt: skip
    """Positions of the lid vertices after both steps.

    Args:
        points: (T, N, 3) metres, the sum of template, identity and expression.
        rest: (N, 3) in the template.
        blinked: (N, 3) displacement of a full blink in the template.
        blink: (T, N) blink of the vertex's own eye, 0 to 1.
        centre: (T, N, 3) or (N, 3) centre of the vertex's eyeball.
        shift: like `centre`: how far identity moved that eyeball.
        lids: `closure`, `contact`, `floor` and `reach`, (N,) each, of the same kind of array.
    """
    share = (blink * blink * blink * lids.closure)[..., None]
    points = points - share * (points - rest - blink[..., None] * blinked - shift)
    arm = points - centre
    radius = ((arm * arm).sum(-1) + 1e-12) ** 0.5
    sunk = lids.floor - radius
    out = (sunk + abs(sunk)) / 2
    wanted = radius + out + lids.contact * (lids.reach - radius - out)
    return centre + arm * (wanted / radius)[..., None]
