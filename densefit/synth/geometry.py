"""All vertices of a scene in the head frame: head, solid hair, clothes, glasses, strips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.head.model import HeadModel
from densefit.head.rotation import torch_rotation_matrix
from densefit.head.torch_model import TorchHead
from densefit.synth.fittings import Anchors, below_neckline, find_fittings
from densefit.synth.hair import (
    BEARD_STEPS,
    BEARD_STRIPS,
    SCALP_STEPS,
    SCALP_STRIPS,
    Hair,
    Skull,
    fit_skull,
    grow_beard,
    grow_scalp,
    strip_triangles,
    strip_vertices,
)
from densefit.synth.materials import beard_distance
from densefit.synth.props import (
    COLLAR_RINGS,
    COLUMNS,
    TORSO_RINGS,
    collar,
    glasses_frame,
    glasses_triangles,
    grid_triangles,
    mean_clothes,
    torso,
)
from densefit.synth.scene import Scene
from densefit.synth.shading import smoothstep
from densefit.synth.surface_marks import GROUP_MARKS, MARK, MARKS, exposures, head_marks
from densefit.synth.textures import make_textures, noise

GROUPS = ("skin", "eyes", "mouth", "hair", "props")
"""Groups of materials that are shaded together."""
HAIR_PART, PROP_PART = 100, 101


@dataclass(frozen=True)
class Geometry:
    """A batch in the head frame: vertices, normals, tangents (B, N, 3); exposure (B, N, 1);
    landmarks, landmark_normals (B, 703, 3); gaze (B, 2, 3) unit, left and right."""

    vertices: Tensor
    normals: Tensor
    tangents: Tensor
    exposure: Tensor
    landmarks: Tensor
    landmark_normals: Tensor
    gaze: Tensor


class GeometryBuilder:
    """Topology and static attributes of everything, and the function that poses it.

    Vertices are laid out as head, shell, torso, collar, frame, lenses, strips.
    """

    def __init__(self, head: HeadModel, device: torch.device) -> None:
        self.device = device
        self.head = TorchHead(head, device)
        self.head_count = len(head.template)
        marks = head_marks(head)
        self.fittings = find_fittings(head, marks)
        self.textures = make_textures(device)
        self._lay_out(head)
        self._attributes(head, marks)
        self._normal_table(head)

    @property
    def root_counts(self) -> tuple[int, int]:
        """Sizes of the root tables of scalp and beard."""
        return len(self.fittings.scalp.vertices), len(self.fittings.beard.vertices)

    def _lay_out(self, head: HeadModel) -> None:
        f = self.fittings
        frame, lenses = glasses_triangles()
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
        self.thin = torch.cat([placed["collar"], placed["frame"]])
        self.strips = placed["strips"]
        self.triangles = torch.cat([self.solid, self.thin, self.strips])
        self.quads = self.strips[::2][:, [0, 1, 2]]
        self.quads = torch.cat([self.quads, self.quads[:, 2:] + 1], 1)
        sizes = [len(blocks[n][1]) for n in ("shell", "torso", "collar", "frame", "strips")]
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
        centre = self.head.template[self.solid[: len(part)]].mean(1)
        oral = (centre[:, 1] < -0.053) & (centre[:, 0].abs() < 0.036)
        group[(part == names.index("mouth")) & oral] = 2
        codes = torch.tensor([3, 0, 4, 4, 3]).repeat_interleave(torch.tensor(sizes))
        props = torch.tensor([0, 0, 0, 1, 0]).repeat_interleave(torch.tensor(sizes))
        labels = torch.tensor([HAIR_PART, PROP_PART, PROP_PART, PROP_PART, HAIR_PART])
        labels = labels.repeat_interleave(torch.tensor(sizes))
        nothing = torch.tensor([-1], device=self.device)
        self.group_table = torch.cat([nothing, group, codes.to(self.device)])
        self.triangle_part = torch.cat([part, props.to(self.device)])
        table = torch.cat([nothing + 1, part + 1, labels.to(self.device)])
        self.part_table = table.to(torch.uint8)

        self.set_back = torch.zeros(self.total, 1, device=self.device)
        outside = torch.as_tensor(head.part_triangles("skin", "ears", "neck", "scalp"))
        solid = torch.as_tensor(head.triangles).long()[~(torch.as_tensor(head.triangle_part)
                                == names.index("lashes"))]  # fmt: skip
        inner = solid[(group == 2).cpu()].unique()
        skin = torch.as_tensor(head.triangles).long()[outside].unique()
        inner = inner[~torch.isin(inner, skin)]
        soft = solid[((group == 2) & (part != names.index("teeth"))).cpu()].unique()
        self.set_back[inner] = 0.0015
        self.set_back[soft[~torch.isin(soft, skin)]] = 0.006

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
        strips = self._strip_attributes()
        first = self.quads[:, 0].cpu() - self.start["strips"]
        ends = (strips[first, 1], strips[first + 2, 1])
        self.strand = torch.stack([strips[first, 2], *ends], 1).to(self.device)
        self.fray = torch.where(strips[first, 3] > 1.5, 1.0, 0.75).to(self.device)
        table[self.start["strips"] :, MARK["strip_across"] : MARK["strip_kind"] + 1] = strips
        self.marks = table.to(self.device)
        self.exposures = torch.as_tensor(exposures(head)).to(self.device)
        roots = torch.as_tensor(self.fittings.beard_marks)
        self.beard_marks = [
            roots[None, None, :, MARK[name]].to(self.device)
            for name in ("beard", "goatee", "moustache")
        ]
        self.group_marks = [
            self.marks[:, [MARK[m] for m in GROUP_MARKS[name]] + list(range(-3, 0))].contiguous()
            for name in GROUPS
        ]
        opacity = 0.85 * (1 - (table[:, MARK["lid"]] / 0.0085)).clamp(0, 1)
        self.lash_opacity = opacity[:, None].to(self.device)

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

    def build(self, scene: Scene) -> Geometry:
        """Pose a batch of scenes."""
        people = scene.people
        skin = self.head.vertices(people.identity, people.expression, people.joints)
        centres = self.head.joint_centres + torch.einsum(
            "bk,kjd->bjd", people.identity, self.head.joint_basis
        )
        rotations = torch_rotation_matrix(people.joints)
        scalp = skin[:, torch.as_tensor(self.fittings.shell_vertices).to(self.device)]
        skull = fit_skull(scalp)
        shell = self._shell(scene.hair, scalp, skull)
        garments = self._garments(scene, skin, centres[:, 0], rotations[:, 0])
        temple, ear = skin[:, self.fittings.temple, 0], skin[:, self.fittings.ear]
        frame, lenses = glasses_frame(scene.glasses, centres[:, 2:], temple, ear)
        bodies = torch.cat([skin, shell, *garments, frame, lenses], 1)
        normals = self._normals(bodies)
        strips = self._strips(scene.hair, skin, normals[:, : self.head_count], skull)
        landmarks = self.head.landmarks(skin)
        tangents = torch.zeros_like(bodies)
        tangents[:, self.start["shell"] : self.start["torso"]] = self._flow(shell, skull)
        vertices = torch.cat([bodies, strips[0]], 1)
        return Geometry(
            vertices=vertices,
            normals=torch.cat([normals, strips[1]], 1),
            tangents=torch.cat([tangents, strips[2]], 1),
            exposure=self._exposure(skin, landmarks, centres, vertices.shape[1]),
            landmarks=landmarks,
            landmark_normals=self.head.landmarks(normals[:, : self.head_count]),
            gaze=rotations[:, 2:, :, 2],
        )

    def _shell(self, hair: Hair, scalp: Tensor, skull: Skull) -> Tensor:
        """Solid hair, or a cap: the scalp pushed outwards where hair grows, sunk elsewhere."""
        here = slice(self.start["shell"], self.start["torso"])
        depth = self.marks[here, MARK["hairline"]][None]
        place = self.marks[here, len(MARKS) :].T[None].expand(len(scalp), -1, -1)
        shift = hair.strand_noise[:, 0, :3, None] * 0.3
        bumps = noise(self.textures, place + shift, 45.0)
        rise = smoothstep(0.0, 0.028, depth - hair.recede[:, None] + 0.006 * bumps[:, 0])
        thick = hair.shell[:, None] * (1 + 0.30 * bumps[:, 1])
        thick = thick + 0.15 * hair.curl[:, None] * bumps[:, 2]
        height = torch.where(rise > 0, rise * thick.clamp_min(0.0005), -0.004)
        bald = (hair.style == 0) | ((hair.thin > 0.25) & (hair.shell < 0.005))
        height = torch.where(bald[:, None], torch.full_like(height, -0.004), height)
        cap = torch.where(depth > -0.018 + 0.004 * bumps[:, 3], 0.007, -0.004)
        height = torch.where(hair.hat[:, None], cap, height)
        outward = F.normalize((scalp - skull.centre[:, None]) / skull.radii[:, None], dim=-1)
        return scalp + height[..., None] * outward

    @staticmethod
    def _flow(points: Tensor, skull: Skull) -> Tensor:
        """Hair of the shell runs away from the crown."""
        relative = (points - skull.centre[:, None]) / skull.radii[:, None]
        crown = torch.tensor([0.0, 0.85, -0.35], device=points.device)
        return F.normalize(relative - crown, dim=-1)

    def _garments(
        self, scene: Scene, skin: Tensor, centre: Tensor, rotation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Torso and collar, turned with the neck."""
        centre = centre[:, None]
        turn = rotation.transpose(1, 2)

        def unturned(anchors: Anchors) -> Tensor:
            return (self._anchored(anchors, skin) - centre) @ rotation + centre

        edge = unturned(self.fittings.edge)
        low, high = unturned(self.fittings.collar_low), unturned(self.fittings.collar_high)
        body, band = torso(scene.clothes, edge), collar(scene.clothes, low, high)
        return (body - centre) @ turn + centre, (band - centre) @ turn + centre

    def _anchored(self, anchors: Anchors, values: Tensor) -> Tensor:
        vertices = torch.as_tensor(anchors.vertices).to(self.device)
        weights = torch.as_tensor(anchors.weights).to(values)
        return (values[:, vertices] * weights[..., None]).sum(2)

    def _strips(
        self, hair: Hair, skin: Tensor, normals: Tensor, skull: Skull
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices, normals and tangents of scalp hair and beard."""
        f = self.fittings
        depth = torch.as_tensor(f.scalp_depth).to(self.device)[hair.strand_root]
        root, normal = self._rooted(f.scalp, hair.strand_root, skin, normals)
        scalp = strip_vertices(grow_scalp(hair, root, normal, depth, skull))
        inside = beard_distance(hair, *self.beard_marks)[:, 0]
        inside = inside.expand(len(skin), -1)
        inside = inside.gather(1, hair.beard_root)
        root, normal = self._rooted(f.beard, hair.beard_root, skin, normals)
        beard = strip_vertices(grow_beard(hair, root, normal, inside, skull))
        a, b, c = (torch.cat(pair, 1) for pair in zip(scalp, beard, strict=True))
        return a, b, c

    def _rooted(
        self, anchors: Anchors, chosen: Tensor, skin: Tensor, normals: Tensor
    ) -> tuple[Tensor, Tensor]:
        vertices = torch.as_tensor(anchors.vertices).to(self.device)[chosen]
        weights = torch.as_tensor(anchors.weights).to(skin)[chosen]
        offset = torch.arange(len(skin), device=self.device)[:, None, None] * skin.shape[1]
        both = torch.cat([skin, normals], -1).flatten(0, 1)
        rows = (vertices + offset).flatten(0, 1)
        out = F.embedding_bag(rows, both, per_sample_weights=weights.flatten(0, 1), mode="sum")
        out = out.view(len(skin), -1, 6)
        return out[..., :3], F.normalize(out[..., 3:], dim=-1)

    def _normals(self, vertices: Tensor) -> Tensor:
        corner = [vertices[:, self.normal_triangles[:, k]] for k in range(3)]
        face = torch.linalg.cross(corner[1] - corner[0], corner[2] - corner[0])
        face = F.pad(face, (0, 0, 0, 1))
        offset = torch.arange(len(face), device=self.device)[:, None, None] * face.shape[1]
        rows = (self.around + offset).flatten(0, 1)
        total = F.embedding_bag(rows, face.flatten(0, 1), mode="sum")
        return F.normalize(total.view(len(face), -1, 3), dim=-1)

    def _exposure(self, skin: Tensor, landmarks: Tensor, centres: Tensor, total: int) -> Tensor:
        """How much of its surroundings each vertex sees, for these lips and lids."""
        model = self.head.model

        def gap(upper: str, lower: str) -> Tensor:
            a, b = (landmarks[:, model.region(n)] for n in (upper, lower))
            return (a[:, a.shape[1] // 2] - b[:, b.shape[1] // 2]).norm(dim=-1)

        lips = (gap("lips_inner_upper", "lips_inner_lower") / 0.016).clamp(0.12, 1.3)
        lids = [gap(f"{s}_upper_lid", f"{s}_lower_lid") / 0.010 for s in ("left", "right")]
        shut = (1 - torch.stack(lids).mean(0)).clamp(0, 1)
        rest, opened, closed = self.exposures
        oral = (opened != rest)[None].float()
        exposure = rest + shut[:, None] * (closed - rest)
        exposure = exposure * (1 - oral) + oral * opened * lips[:, None]
        out = torch.full((len(skin), total), 0.85, device=self.device)
        out[:, : self.head_count] = exposure
        for joint in (2, 3):
            eye = self.head.turning[joint]
            arm = F.normalize(skin[:, eye] - centres[:, joint, None], dim=-1)
            lid = 0.30 + 0.70 * smoothstep(0.50, 0.02, arm[..., 1])
            out[:, eye] = lid * (1 - 0.45 * smoothstep(0.35, 0.75, arm[..., 0].abs()))
        return out[..., None]
