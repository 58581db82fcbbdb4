"""Who is in the picture and what the face does: identity, expression, gaze, neck.

Expressions are drawn as people make them: a main act (a smile, a vowel, surprise ...), sometimes a
second one, at a random strength, one side often stronger, and a little of everything on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.head.model import EXPRESSION_INDEX, EXPRESSION_NAMES, GAZE_EXPRESSIONS
from densefit.synth.sampling import Dice
from densefit.synth.tongue import sample_tongue

Range = tuple[float, float]
# Names without a side stand for both of them. Ranges are of the strength at full intensity.
ACTS: dict[str, dict[str, Range]] = {
    "smile": {"mouthSmile": (0.5, 1), "cheekSquint": (0.1, 0.8), "eyeSquint": (0, 0.35)},
    "toothy smile": {
        "mouthSmile": (0.6, 1), "mouthUpperUp": (0.4, 1), "jawOpen": (0.15, 0.4),
        "mouthLowerDown": (0.1, 0.8), "cheekSquint": (0.3, 1), "eyeSquint": (0, 0.4),
        "mouthStretch": (0, 0.3),
    },
    "grin": {
        "mouthSmile": (0.5, 1), "mouthUpperUp": (0.3, 0.8), "mouthLowerDown": (0.3, 0.9),
        "jawOpen": (0, 0.1), "cheekSquint": (0, 0.7), "eyeSquint": (0, 0.3),
        "mouthStretch": (0, 0.4), "mouthDimple": (0, 0.4),
    },
    "laugh": {
        "mouthSmile": (0.6, 1), "jawOpen": (0.25, 0.6), "mouthUpperUp": (0.3, 0.8),
        "cheekSquint": (0.5, 1), "eyeSquint": (0.1, 0.7), "mouthLowerDown": (0, 0.5),
        "noseSneer": (0, 0.3),
    },
    "roar": {
        "mouthSmile": (0.1, 0.8), "jawOpen": (0.55, 1), "mouthUpperUp": (0.3, 1),
        "mouthLowerDown": (0.2, 1), "cheekSquint": (0, 0.8), "eyeSquint": (0, 0.5),
    },
    "vowel a": {"jawOpen": (0.2, 0.6), "mouthLowerDown": (0, 0.4), "mouthUpperUp": (0, 0.3)},
    "vowel e": {
        "jawOpen": (0.08, 0.3), "mouthStretch": (0.1, 0.6), "mouthSmile": (0, 0.4),
        "mouthLowerDown": (0.1, 0.6), "mouthUpperUp": (0, 0.4),
    },
    "vowel o": {"jawOpen": (0.15, 0.45), "mouthFunnel": (0.3, 0.9), "mouthPucker": (0, 0.4)},
    "vowel u": {"mouthPucker": (0.5, 1), "mouthFunnel": (0.1, 0.6), "jawOpen": (0, 0.12)},
    "lips closed": {
        "mouthPress": (0.2, 0.9), "mouthRollLower": (0, 0.6), "mouthRollUpper": (0, 0.6),
        "mouthClose": (0, 0.06),
    },
    "f": {"mouthRollLower": (0.3, 0.8), "mouthUpperUp": (0.2, 0.6), "jawOpen": (0.02, 0.1)},
    "sh": {"mouthFunnel": (0.5, 1), "mouthUpperUp": (0.1, 0.5), "mouthLowerDown": (0.1, 0.5)},
    "surprise": {
        "browInnerUp": (0.5, 1), "browOuterUp": (0.4, 1), "eyeWide": (0.4, 1),
        "jawOpen": (0, 0.8), "mouthFunnel": (0, 0.3),
    },
    "anger": {
        "browDown": (0.5, 1), "noseSneer": (0, 0.6), "eyeSquint": (0, 0.6),
        "mouthPress": (0, 0.7), "mouthFrown": (0, 0.5), "jawForward": (0, 0.4),
    },
    "shout": {
        "browDown": (0.3, 1), "jawOpen": (0.4, 0.9), "mouthUpperUp": (0.3, 0.8),
        "mouthLowerDown": (0.4, 1), "mouthStretch": (0.2, 0.7), "noseSneer": (0.2, 0.8),
    },
    "disgust": {
        "noseSneer": (0.5, 1), "mouthUpperUp": (0.3, 0.9), "browDown": (0.2, 0.8),
        "mouthFrown": (0, 0.6), "mouthShrugLower": (0, 0.5),
    },
    "sad": {
        "browInnerUp": (0.4, 1), "mouthFrown": (0.4, 1), "mouthShrugLower": (0.1, 0.7),
        "browDown": (0, 0.3), "mouthStretch": (0, 0.3),
    },
    "fear": {
        "browInnerUp": (0.4, 1), "eyeWide": (0.3, 1), "mouthStretch": (0.3, 1),
        "jawOpen": (0, 0.4), "browDown": (0, 0.4),
    },
    "yawn": {"jawOpen": (0.7, 1), "eyeSquint": (0.2, 0.8), "eyeBlink": (0.2, 0.9)},
    "kiss": {"mouthPucker": (0.6, 1), "eyeBlink": (0, 0.6)},
    "puff": {"cheekPuff": (0.4, 1), "mouthPucker": (0, 0.5), "mouthClose": (0, 0.05)},
    "pout": {"mouthShrugLower": (0.4, 1), "mouthShrugUpper": (0, 0.6), "mouthPucker": (0, 0.4)},
    "tongue": {
        "tongueOut": (0.8, 2), "jawOpen": (0.2, 0.7), "mouthLowerDown": (0, 0.5),
        "mouthUpperUp": (0, 0.3), "mouthFunnel": (0, 0.3), "mouthSmile": (0, 0.4),
    },
    "mouth left": {"mouthLeft": (0.3, 1), "mouthSmileLeft": (0, 0.5), "mouthDimpleLeft": (0, 0.6)},
    "mouth right": {
        "mouthRight": (0.3, 1), "mouthSmileRight": (0, 0.5), "mouthDimpleRight": (0, 0.6),
    },
    "jaw left": {"jawLeft": (0.3, 1), "jawOpen": (0, 0.3)},
    "jaw right": {"jawRight": (0.3, 1), "jawOpen": (0, 0.3)},
    "smirk left": {"mouthSmileLeft": (0.4, 1), "cheekSquintLeft": (0.1, 0.8)},
    "smirk right": {"mouthSmileRight": (0.4, 1), "cheekSquintRight": (0.1, 0.8)},
    "brows": {"browInnerUp": (0, 1), "browOuterUp": (0, 1)},
    "one brow left": {"browOuterUpLeft": (0.5, 1), "browDownRight": (0, 0.8)},
    "one brow right": {"browOuterUpRight": (0.5, 1), "browDownLeft": (0, 0.8)},
    "wink left": {"eyeBlinkLeft": (0.7, 1), "cheekSquintLeft": (0.2, 0.9)},
    "wink right": {"eyeBlinkRight": (0.7, 1), "cheekSquintRight": (0.2, 0.9)},
    "jaw forward": {"jawForward": (0.3, 1), "mouthShrugLower": (0, 0.5)},
    "dimples": {"mouthDimple": (0.4, 1), "mouthPress": (0, 0.6)},
}  # fmt: skip
ACT_WEIGHTS = {
    "smile": 4.0, "toothy smile": 6.0, "grin": 6.0, "laugh": 4.0, "vowel a": 4.0, "vowel e": 4.0,
    "vowel o": 3.0, "vowel u": 2.0, "lips closed": 2.0, "surprise": 2.0, "shout": 2.0,
    "tongue": 3.0, "roar": 2.5, "yawn": 1.5,
}  # fmt: skip
"""Relative frequency of acts; 1 for those not named."""

NEUTRAL, SECOND_ACT, ANY_SHAPE = 0.16, 0.45, 0.04
"""Chance of a resting face, of a second act, and of each single shape on its own."""


@dataclass(frozen=True)
class People:
    """identity (B, K) standard deviations, expression (B, 52), joints (B, 4, 3) radians; tongue
    (B, 5) as of `tongue.sample_tongue`."""

    identity: Tensor
    expression: Tensor
    joints: Tensor
    tongue: Tensor


def sample_people(
    dice: Dice, identity_count: int, favour: str | None = None, spread: float = 1.0
) -> People:
    """Draw a batch of people, each with an expression, a gaze and a turn of the neck.

    favour: an act that two of three pictures show. spread: each person's identity scatters with one
    to so many standard deviations.
    """
    identity = dice.normal(identity_count)
    if spread > 1:
        identity = identity * dice.uniform(1, spread, 1)
    expression, joints = sample_expression(dice, favour), sample_joints(dice)
    tongue = sample_tongue(dice, expression[:, EXPRESSION_INDEX["tongueOut"]])
    return People(identity, expression, joints, tongue)


def _act_tables() -> tuple[Tensor, Tensor]:
    low = torch.zeros(len(ACTS), len(EXPRESSION_NAMES))
    high = torch.zeros_like(low)
    for row, act in enumerate(ACTS.values()):
        for name, (a, b) in act.items():
            names = [name] if name in EXPRESSION_INDEX else [name + "Left", name + "Right"]
            for full in names:
                low[row, EXPRESSION_INDEX[full]] = a
                high[row, EXPRESSION_INDEX[full]] = b
    return low, high


def sample_expression(dice: Dice, favour: str | None = None) -> Tensor:
    """(B, 52) in [0, 1]; eyeLook entries are left at zero, they follow from the joints.

    favour: an act that two of three pictures show.
    """
    low, high = _act_tables()
    weights = [ACT_WEIGHTS.get(name, 1.0) for name in ACTS]
    if favour is not None:
        weights[list(ACTS).index(favour)] += 2 * sum(weights)
    expression = torch.zeros(dice.count, len(EXPRESSION_NAMES))
    for chance in (1 - NEUTRAL, SECOND_ACT * (1 - NEUTRAL)):
        act = dice.pick(weights)
        # One number per symmetric pair, so that both sides agree before the lopsidedness.
        mix = _symmetric(dice.uniform(0, 1, len(EXPRESSION_NAMES)))
        strength = dice.uniform(0.25, 1.05, 1) * dice.chance(chance, 1)
        expression = torch.maximum(expression, strength * (low[act] + mix * (high - low)[act]))
    extra = dice.uniform(0, 0.7, len(EXPRESSION_NAMES)) * dice.chance(
        ANY_SHAPE, len(EXPRESSION_NAMES)
    )
    extra[:, list(GAZE_EXPRESSIONS)] = 0
    for name in ("tongueOut", "mouthClose", "cheekPuff"):
        extra[:, EXPRESSION_INDEX[name]] *= 0.3
    expression = torch.maximum(expression, extra)
    expression = _blink(dice, _lopsided(dice, expression)).clamp(0, 1)
    # A closed mouth over an open jaw is only defined up to the opening of the jaw.
    close, jaw = EXPRESSION_INDEX["mouthClose"], EXPRESSION_INDEX["jawOpen"]
    expression[:, close] = torch.minimum(expression[:, close], expression[:, jaw] + 0.05)
    # A pucker does not smile broadly: together they fold the lips into themselves.
    for name in ("mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"):
        pucker = expression[:, EXPRESSION_INDEX["mouthPucker"]]
        funnel = expression[:, EXPRESSION_INDEX["mouthFunnel"]]
        expression[:, EXPRESSION_INDEX[name]] *= 1 - 0.8 * torch.maximum(pucker, funnel)
    return expression


def _sides() -> tuple[list[int], list[int]]:
    left = [i for n, i in EXPRESSION_INDEX.items() if n.endswith("Left") and len(n) > 10]
    left = [i for i in left if EXPRESSION_NAMES[i][:-4] + "Right" in EXPRESSION_INDEX]
    return left, [EXPRESSION_INDEX[EXPRESSION_NAMES[i][:-4] + "Right"] for i in left]


def _symmetric(values: Tensor) -> Tensor:
    left, right = _sides()
    out = values.clone()
    out[:, right] = values[:, left]
    return out


def _lopsided(dice: Dice, expression: Tensor) -> Tensor:
    left, right = _sides()
    tilt = dice.normal(1) * 0.12
    tilt = torch.where(dice.chance(0.12, 1), dice.uniform(-0.8, 0.8, 1), tilt)
    out = expression * (1 + 0.08 * dice.normal(len(EXPRESSION_NAMES)))
    out[:, left] *= 1 + tilt
    out[:, right] *= 1 - tilt
    return out


def _blink(dice: Dice, expression: Tensor) -> Tensor:
    """Lids rest a little differently in everybody; one picture in seven is in a blink."""
    lids = [EXPRESSION_INDEX["eyeBlinkLeft"], EXPRESSION_INDEX["eyeBlinkRight"]]
    rest = dice.normal(1).abs() * 0.05
    blink = torch.where(dice.chance(0.10, 1), dice.uniform(0.2, 1.05, 1), rest)
    blink = torch.where(dice.chance(0.05, 1), torch.ones_like(blink), blink)
    out = expression.clone()
    out[:, lids] = torch.maximum(out[:, lids], blink)
    wide = [EXPRESSION_INDEX["eyeWideLeft"], EXPRESSION_INDEX["eyeWideRight"]]
    alert = dice.uniform(0, 0.8, 1) * dice.chance(0.75, 1)
    out[:, wide] = torch.maximum(out[:, wide], alert)
    out[:, wide] *= 1 - out[:, lids].clamp(0, 1)
    return out


def sample_joints(dice: Dice) -> Tensor:
    """(B, 4, 3) radians: neck, head (zero), left eye, right eye."""
    joints = torch.zeros(dice.count, 4, 3)
    joints[:, 0] = dice.normal(3) * torch.tensor([0.16, 0.26, 0.10])
    wild = dice.chance(0.2, 1)
    gaze = dice.normal(2) * torch.where(wild, 0.32, 0.10)
    gaze = torch.cat([gaze[:, :1].clamp(-0.45, 0.4), gaze[:, 1:].clamp(-0.6, 0.6)], 1)
    vergence = dice.uniform(-0.01, 0.10, 1) * torch.where(dice.chance(0.1, 1), 1.6, 0.6)
    joints[:, 2, :2] = gaze + torch.cat([torch.zeros_like(vergence), -vergence / 2], 1)
    joints[:, 3, :2] = gaze + torch.cat([torch.zeros_like(vergence), vergence / 2], 1)
    joints[:, 2:, :2] += dice.normal(2, 2) * 0.01
    return joints
