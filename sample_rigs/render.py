"""Renders the sample takes anew: `python sample_rigs/render.py [trio|phone ...]`.

Needed whenever the head model's template or landmarks change. Takes some minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from densefit.synth.take import phone, render_take, trio

TAKES = {"trio": trio, "phone": phone}


def main() -> int:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or TAKES:
        if name not in TAKES:
            print(f"no take '{name}'; there are {', '.join(TAKES)}", file=sys.stderr)
            return 2
        render_take(Path(__file__).parent / name, TAKES[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
