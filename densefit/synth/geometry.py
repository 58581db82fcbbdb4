"""All vertices of a scene in the head frame: head, solid hair, clothes, glasses, headphones,
strips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.head.model import HeadModel
from densefit.head.rotation import torch_rotation_matrix
from densefit.head.torch_model import TorchHead
from densefit.synth.clothes import collar, torso
from densefit.synth.fittings import Anchors
from densefit.synth.glasses import glasses_frame
from densefit.synth.hair import Hair
from densefit.synth.headphones import headphones
from densefit.synth.layout import Layout
from densefit.synth.materials import beard_distance
from densefit.synth.scene import Scene
from densefit.synth.shading import smoothstep
from densefit.synth.strands import Skull, fit_skull, grow_beard, grow_scalp, strip_vertices
from densefit.synth.surface_marks import MARK, MARKS
from densefit.synth.textures import make_textures, noise
from densefit.synth.tongue import bend_tongue


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
    """Poses batches of scenes on one head model."""

    def __init__(self, head: HeadModel, device: torch.device) -> None:
        self.device = device
        self.head = TorchHead(head, device)
        self.layout = Layout(head, device)
        self.textures = make_textures(device)
        tongue = np.unique(head.triangles[head.part_triangles("tongue")])
        self.tongue = torch.from_numpy(tongue).long().to(device)
        names = ("lips_middle_upper", "lips_middle_lower")
        lips = np.concatenate([head.region(name) for name in names])
        self.lips = torch.from_numpy(lips).long().to(device)

    @property
    def root_counts(self) -> tuple[int, int]:
        """Sizes of the root tables of scalp and beard."""
        return len(self.layout.fittings.scalp.vertices), len(self.layout.fittings.beard.vertices)

    def build(self, scene: Scene) -> Geometry:
        """Pose a batch of scenes."""
        people = scene.people
        skin = self.head.vertices(people.identity, people.expression, people.joints)
        skin = self._with_tongue(skin, people.tongue)
        centres = self.head.joint_centres + torch.einsum(
            "bk,kjd->bjd", people.identity, self.head.joint_basis
        )
        rotations = torch_rotation_matrix(people.joints)
        scalp = skin[:, torch.as_tensor(self.layout.fittings.shell_vertices).to(self.device)]
        skull = fit_skull(scalp)
        shell = self._shell(scene.hair, scalp, skull)
        garments = self._garments(scene, skin, centres[:, 0], rotations[:, 0])
        temple, ear = skin[:, self.layout.fittings.temple, 0], skin[:, self.layout.fittings.ear]
        frame, lenses = glasses_frame(scene.glasses, centres[:, 2:], temple, ear)
        phones = headphones(scene.headphones, ear, skull)
        bodies = torch.cat([skin, shell, *garments, frame, lenses, phones], 1)
        normals = self._normals(bodies)
        strips = self._strips(scene.hair, skin, normals[:, : self.layout.head_count], skull)
        landmarks = self.head.landmarks(skin)
        tangents = torch.zeros_like(bodies)
        tangents[:, self.layout.start["shell"] : self.layout.start["torso"]] = self._flow(
            shell, skull
        )
        vertices = torch.cat([bodies, strips[0]], 1)
        return Geometry(
            vertices=vertices,
            normals=torch.cat([normals, strips[1]], 1),
            tangents=torch.cat([tangents, strips[2]], 1),
            exposure=self._exposure(skin, landmarks, centres, vertices.shape[1]),
            landmarks=landmarks,
            landmark_normals=self.head.landmarks(normals[:, : self.layout.head_count]),
            gaze=rotations[:, 2:, :, 2],
        )

    def _with_tongue(self, skin: Tensor, bend: Tensor) -> Tensor:
        """Tongues bent as people bend them."""
        if not len(self.tongue):
            return skin
        lips = self.head.landmarks(skin)[:, self.lips, 2].amax(1)
        return bend_tongue(skin, self.tongue, lips, bend)

    def _shell(self, hair: Hair, scalp: Tensor, skull: Skull) -> Tensor:
        """Solid hair, or a cap: the scalp pushed outwards where hair grows, sunk elsewhere."""
        here = slice(self.layout.start["shell"], self.layout.start["torso"])
        depth = self.layout.marks[here, MARK["hairline"]][None]
        place = self.layout.marks[here, len(MARKS) :].T[None].expand(len(scalp), -1, -1)
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

        edge = unturned(self.layout.fittings.edge)
        low, high = (
            unturned(self.layout.fittings.collar_low),
            unturned(self.layout.fittings.collar_high),
        )
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
        f = self.layout.fittings
        depth = torch.as_tensor(f.scalp_depth).to(self.device)[hair.strand_root]
        root, normal = self._rooted(f.scalp, hair.strand_root, skin, normals)
        scalp = strip_vertices(grow_scalp(hair, root, normal, depth, skull))
        inside = beard_distance(hair, *self.layout.beard_marks)[:, 0]
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
        corner = [vertices[:, self.layout.normal_triangles[:, k]] for k in range(3)]
        face = torch.linalg.cross(corner[1] - corner[0], corner[2] - corner[0])
        face = F.pad(face, (0, 0, 0, 1))
        offset = torch.arange(len(face), device=self.device)[:, None, None] * face.shape[1]
        rows = (self.layout.around + offset).flatten(0, 1)
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
        rest, opened, closed, apart = self.layout.exposures
        oral = (opened != rest)[None].float()
        exposure = rest + shut[:, None] * (closed - rest)
        exposure = exposure + lips[:, None].clamp(max=1) * (apart - rest)
        exposure = exposure * (1 - oral) + oral * opened * lips[:, None]
        out = torch.full((len(skin), total), 0.85, device=self.device)
        out[:, : self.layout.head_count] = exposure
        before = skin[:, self.tongue, 2] - landmarks[:, self.lips, 2].amax(1, keepdim=True)
        light = 0.9 * smoothstep(-0.012, 0.004, before)
        out[:, self.tongue] = torch.maximum(out[:, self.tongue], light)
        for joint in (2, 3):
            eye = self.head.turning[joint]
            arm = F.normalize(skin[:, eye] - centres[:, joint, None], dim=-1)
            lid = 0.30 + 0.70 * smoothstep(0.50, 0.02, arm[..., 1])
            out[:, eye] = lid * (1 - 0.45 * smoothstep(0.35, 0.75, arm[..., 0].abs()))
        return out[..., None]
