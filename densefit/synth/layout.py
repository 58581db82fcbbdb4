"""Topology and static attributes of everything in a picture, laid out one after the other: head,
solid hair (the shell), torso, collar, frame and lenses of glasses, headphones, strips of hair."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from densefit.head.model import HeadModel
from densefit.synth.clothes import COLLAR_RINGS, COLUMNS, TORSO_RINGS, mean_clothes, torso
from densefit.synth.fittings import below_neckline, find_fittings
from densefit.synth.glasses import glasses_triangles
from densefit.synth.hair import BEARD_STRIPS, SCALP_STRIPS
from densefit.synth.headphones import headphone_triangles
from densefit.synth.strands import BEARD_STEPS, SCALP_STEPS, strip_triangles
from densefit.synth.surface_marks import GROUP_MARKS, MARK, MARKS, exposures, head_marks
from densefit.synth.surfaces import grid_triangles

GROUPS = ("skin", "eyes", "mouth", "hair", "props")
"""Groups of materials that are shaded together."""
HAIR_PART, PROP_PART = 100, 101
"""Labels of hair and of things that are worn in part masks."""
TEETH_BACK, LINING_BACK = 0.0015, 0.006
"""Metres by which teeth and the mouth's lining are sorted further back than they are: lips are
thin, and what lies behind them must not poke through."""


class Layout:
    """Vertices, triangles and attributes of one head model with all that can be put on it.

    start: first vertex of each block; total: number of vertices; solid, thin, strips: triangles
    (F, 3) of closed bodies, of single layers and of hair; triangles: all of them, in this order;
    quads (Q, 4): strips as quads; lashes, lenses: blended triangles.
    group_table, part_table: group of materials and part label of triangle id + 1; triangle_part;
    marks (V, A + 3): attributes, then the place on the template; group_marks: the columns that
    each group reads; exposures (4, V) of the head; set_back (V, 1) metres; around: triangles
    around each vertex, for normals.
    """

    def __init__(self, head: HeadModel, device: torch.device) -> None:
        self.device = device
        self.head_count = len(head.template)
        marks = head_marks(head)
        self.fittings = find_fittings(head, marks)
        self._lay_out(head)
        self._attributes(head, marks)
        self._normal_table(head)

    def _lay_out(self, head: HeadModel) -> None:
        f = self.fittings
        frame, lenses = glasses_triangles()
        phones = headphone_triangles()
        strips = torch.cat([
            strip_triangles(SCALP_STRIPS, SCALP_STEPS),
            strip_triangles(BEARD_STRIPS, BEARD_STEPS) + SCALP_STRIPS * (SCALP_STEPS + 1) * 2,
        ])  # fmt: skip
        blocks = {
            "shell": (len(f.shell_vertices), torch.as_tensor(f.shell_triangles).long()),
            "torso": (TORSO_RINGS * COLUMNS, grid_triangles(TORSO_RINGS, COLUMNS, True)),
            "collar": (COLLAR_RINGS * COLUMNS, grid_triangles(COLLAR_RINGS, COLUMNS, True)),
            "frame": (int(frame.max()) + 1, frame),
            "lenses": (int(lenses.max()) + 1, lenses),
            "headphones": (int(phones.max()) + 1, phones),
            "strips": (int(strips.max()) + 1, strips),
        }
        self.start, first = {}, self.head_count
        placed = {}
        for name, (count, triangles) in blocks.items():
            self.start[name] = first
            placed[name] = (triangles + first).to(self.device)
            first += count
        self.total = first
        triangles = torch.as_tensor(head.triangles).long().to(self.device)
        part = torch.as_tensor(head.triangle_part).long().to(self.device)
        lash = part == head.part_names.index("lashes")
        self.lashes, self.lenses = triangles[lash], placed["lenses"]
        self.solid = torch.cat([triangles[~lash], placed["shell"], placed["torso"]])
        self.thin = torch.cat([placed["collar"], placed["frame"], placed["headphones"]])
        self.strips = placed["strips"]
        self.triangles = torch.cat([self.solid, self.thin, self.strips])
        self.quads = self.strips[::2][:, [0, 1, 2]]
        self.quads = torch.cat([self.quads, self.quads[:, 2:] + 1], 1)
        drawn = ("shell", "torso", "collar", "frame", "headphones", "strips")
        sizes = [len(blocks[name][1]) for name in drawn]
        self._name_triangles(head, part[~lash], sizes)

    def _name_triangles(self, head: HeadModel, part: Tensor, sizes: list[int]) -> None:
        """Group of materials, material number and part label of every triangle."""
        names = head.part_names
        group = torch.zeros_like(part)
        for name in ("eyes", "iris", "pupil"):
            group[part == names.index(name)] = 1
        for name in ("teeth", "gums", "tongue"):
            group[part == names.index(name)] = 2
        # Hidden skin is the lining of the mouth only there: lids and nostrils stay skin.
        centre = torch.as_tensor(head.template).to(self.device)[self.solid[: len(part)]].mean(1)
        oral = (centre[:, 1] < -0.053) & (centre[:, 0].abs() < 0.036)
        group[(part == names.index("mouth")) & oral] = 2
        codes = torch.tensor([3, 0, 4, 4, 4, 3]).repeat_interleave(torch.tensor(sizes))
        props = torch.tensor([0, 0, 0, 1, 2, 0]).repeat_interleave(torch.tensor(sizes))
        labels = torch.tensor([HAIR_PART, *[PROP_PART] * 4, HAIR_PART])
        labels = labels.repeat_interleave(torch.tensor(sizes))
        nothing = torch.tensor([-1], device=self.device)
        self.group_table = torch.cat([nothing, group, codes.to(self.device)])
        self.triangle_part = torch.cat([part, props.to(self.device)])
        table = torch.cat([nothing + 1, part + 1, labels.to(self.device)])
        self.part_table = table.to(torch.uint8)
        self._set_back(head, group == 2)

    def _set_back(self, head: HeadModel, oral: Tensor) -> None:
        """How far the inside of the mouth is sorted back, as `oral` marks its triangles."""
        triangles = self.solid[: len(oral)]
        outside = torch.as_tensor(head.part_triangles("skin", "ears", "neck", "scalp"))
        skin = torch.as_tensor(head.triangles).long()[outside].unique().to(self.device)
        part = self.triangle_part[: len(oral)]
        self.set_back = torch.zeros(self.total, 1, device=self.device)
        for chosen, metres in (
            (oral, TEETH_BACK),
            (oral & (part != head.part_names.index("teeth")), LINING_BACK),
        ):
            vertices = triangles[chosen].unique()
            self.set_back[vertices[~torch.isin(vertices, skin)]] = metres

    def _attributes(self, head: HeadModel, head_attributes: np.ndarray) -> None:
        """Static attributes of all vertices: the marks, then the position on the template."""
        table = torch.zeros(self.total, len(MARKS) + 3)
        table[:, MARK["lip"]] = table[:, MARK["hairline"]] = -0.05
        table[:, MARK["brow_inside"]] = table[:, MARK["beard"]] = -0.05
        table[:, MARK["goatee"]] = table[:, MARK["moustache"]] = -0.05
        table[:, MARK["lid"]] = 1.0
        place = len(MARKS)
        count = self.head_count
        table[:count, :place] = torch.as_tensor(head_attributes)
        table[:count, place:] = torch.as_tensor(head.template)
        shell = torch.as_tensor(self.fittings.shell_vertices)
        here = slice(self.start["shell"], self.start["torso"])
        table[here] = table[shell]
        table[here, MARK["strip_along"]] = 0.5
        table[here, MARK["strip_across"]] = table[here, place] * 60
        table[here, MARK["strip_number"]] = table[here, place] * 9
        template = torch.as_tensor(head.template)
        edge = torch.as_tensor(self.fittings.edge.at(head.template), dtype=torch.float32)
        bust = torso(mean_clothes(), edge[None])[0]
        here = slice(self.start["torso"], self.start["collar"])
        table[here, place:] = bust
        for where, points in ((here, bust), (slice(0, count), template)):
            dressed = torch.as_tensor(below_neckline(points.numpy()), dtype=torch.float32)
            angle = torch.atan2(points[:, 0], points[:, 2] + 0.105)
            table[where, MARK["ring"]] = dressed.clamp_min(-0.2)
            table[where, MARK["front"]] = angle.cos()
            if where is here:
                table[where, MARK["unrolled_x"]] = angle * 0.15
                table[where, MARK["unrolled_y"]] = points[:, 1]
        self._hair_attributes(table)
        self.marks = table.to(self.device)
        self.exposures = torch.as_tensor(exposures(head)).to(self.device)
        self.group_marks = [
            self.marks[:, [MARK[m] for m in GROUP_MARKS[name]] + list(range(-3, 0))].contiguous()
            for name in GROUPS
        ]
        opacity = 0.85 * (1 - (table[:, MARK["lid"]] / 0.0085)).clamp(0, 1)
        self.lash_opacity = opacity[:, None].to(self.device)

    def _hair_attributes(self, table: Tensor) -> None:
        """Fill in the strips' rows of the table, and what drawing them needs."""
        strips = self._strip_attributes()
        first = self.quads[:, 0].cpu() - self.start["strips"]
        ends = (strips[first, 1], strips[first + 2, 1])
        self.strand = torch.stack([strips[first, 2], *ends], 1).to(self.device)
        self.fray = torch.where(strips[first, 3] > 1.5, 1.0, 0.75).to(self.device)
        table[self.start["strips"] :, MARK["strip_across"] : MARK["strip_kind"] + 1] = strips
        roots = torch.as_tensor(self.fittings.beard_marks)
        self.beard_marks = [
            roots[None, None, :, MARK[name]].to(self.device)
            for name in ("beard", "goatee", "moustache")
        ]

    def _strip_attributes(self) -> Tensor:
        """(n, 4): across (-1 or 1), along (0 to 1), a random number and the kind of each vertex."""
        out = []
        for count, steps, kind in (
            (SCALP_STRIPS, SCALP_STEPS, 1.0), (BEARD_STRIPS, BEARD_STEPS, 2.0),
        ):  # fmt: skip
            along = torch.linspace(0, 1, steps + 1)[None, :, None].expand(count, -1, 2)
            across = torch.tensor([-1.0, 1.0]).expand(count, steps + 1, 2)
            number = (torch.arange(count) * 0.6180339).remainder(1.0)[:, None, None]
            rows = torch.stack(
                [across, along, number.expand_as(along), torch.full_like(along, kind)], -1
            )
            out.append(rows.reshape(-1, 4))
        return torch.cat(out)

    def _normal_table(self, head: HeadModel) -> None:
        """Triangles around each vertex, padded; normals are then one `embedding_bag`."""
        lashes = int((head.triangle_part == head.part_names.index("lashes")).sum())
        self.normal_triangles = torch.cat([
            torch.as_tensor(head.triangles).long().to(self.device),
            self.solid[len(head.triangles) - lashes :],
            self.thin,
        ])  # fmt: skip
        corners = self.normal_triangles.cpu().numpy()
        count = self.start["strips"]
        order = np.argsort(corners.ravel(), kind="stable")
        owner = corners.ravel()[order]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
        table = np.full((count, int(rank.max()) + 1), len(corners))
        table[owner, rank] = order // 3
        self.around = torch.as_tensor(table).to(self.device)
