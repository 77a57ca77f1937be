"""How SiamRPN finds a target: the head's overlaps and boxes, beside a filter learned online on the same features."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tracker.config import CropConfig, OnlineConfig, RPNConfig
from tracker.crop import Fill, cut, to_batch
from tracker.decode import Candidate, Proposals, best_proposal, second_peak
from tracker.geometry import Box, CropGeometry, context_side, search_side
from tracker.interface import Frame
from tracker.models import anchors
from tracker.models.backbones import FINE_STRIDE, Features
from tracker.models.heads import RPNHead, TemplateCode
from tracker.models.siamese import SiameseNetwork
from tracker.online import PlaceModel, PlaceState
from tracker.views import cut_views

_SHIFT = 0.2  # of the object's size, by which the first frame's crops are moved for the calibration


@dataclass(frozen=True, slots=True)
class RPNState:
    """Hold what is known of a target: the template's code, the filter, and what the given box means."""

    code: TemplateCode
    place: PlaceState | None  # where a filter is learned
    calibration: tuple[float, float, float, float]  # given box less the head's: (dx, dy) over its size, log sizes


class RPNLocaliser:
    """Find the cell where filter and head together answer best; its box is the head's, read as the first box was."""

    def __init__(
        self, network: SiameseNetwork, crop: CropConfig, online: OnlineConfig | None, config: RPNConfig
    ) -> None:
        """Take the network, whose head is an RPNHead, and the settings; without `online` no filter is learned."""
        if not isinstance(network.head, RPNHead):
            raise ValueError("an RPNLocaliser needs a network with an rpn head")
        for name, size in (("template_size", crop.template_size), ("search_size", crop.search_size)):
            if size % network.stride != 1:  # or the cells of the two maps do not lie over each other
                raise ValueError(f"crop.{name} must be a multiple of {network.stride} and 1, such as 257, got {size}")
        self.network = network
        self.head = network.head
        self.crop = crop
        self.config = config
        self.place = None if online is None else PlaceModel(online, network.stride)

    def learn(self, frame: Frame, box: Box, fill: Fill) -> RPNState:
        """Return the template's code, the filter learned from views of the first frame, and the calibration."""
        device = self.network.mean.device
        crop = self.crop
        region = CropGeometry(box.cx, box.cy, context_side(box.w, box.h, crop.context), crop.template_size)
        size_wh = box.w / region.frame_per_crop, box.h / region.frame_per_crop
        template = self.network.embed(to_batch([cut(frame, region, fill)], device))
        code = self.head.encode(template, torch.tensor([[0.0, 0.0, *size_wh]], device=device), self.network.stride)
        search = self.regions(box)[0]
        moved = self._moved(search, box)
        views = [cut(frame, search, fill)] if self.place is None else cut_views(frame, search, fill)
        features = self.network.features(to_batch(views + [cut(frame, one, fill) for one in moved], device))
        place = None
        if self.place is not None:
            place = self.place.learn_views(self.place.maps(features)[: len(views)], Box(0.0, 0.0, *size_wh))
        shown = Features(*(torch.cat([maps[:1], maps[len(views) :]]) for maps in features))
        truth = torch.tensor([_centred(one.box_to_crop(box), one.size) for one in (search, *moved)], device=device)
        return RPNState(code, place, self._calibrate(code, shown, truth))

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return one square around the last place."""
        crop = self.crop
        side = search_side(box.w, box.h, crop.context, crop.template_size, crop.search_size)
        return [CropGeometry(box.cx, box.cy, side, crop.search_size)]

    def locate(self, model: RPNState, features: Features, box: Box) -> tuple[Candidate, int, RPNState]:
        """Return the best cell's box; the filter learns from the frame where the answer is telling enough.

        Raises ValueError for features that are not finite, which no frame gives: the weights are broken.
        """
        shown = self.regions(box)[0].box_to_crop(box)
        scores, boxes = self._read(model.code, features)
        place, learned = self.place, model.place
        if place is not None and learned is not None:
            sample, answers = place.answer(learned, place.maps(features))
            spread = interpolate(answers[None, None], scores.shape[1:], mode="bicubic", align_corners=True)[0]
            scores = torch.lerp(scores, spread.clamp(0.0, 1.0), self.config.filter_share)
        if not bool(scores.isfinite().all()):
            raise ValueError("the features are not finite: the weight file is broken, or the precision too low")
        proposals = Proposals(scores[0].cpu().numpy(), _calibrated(boxes[0], model.calibration).cpu().numpy())
        candidate = best_proposal(proposals, (shown.w, shown.h), self.config)
        if place is not None and learned is not None and candidate.score >= place.config.gate:
            model = replace(model, place=place.learn(learned, sample, (candidate.du, candidate.dv)))
        # How sure it is falls where something else answers too: that tells good frames from lost ones much better.
        rival = second_peak(proposals.scores, candidate, FINE_STRIDE)
        sure = candidate.score * (1 - min(rival, 1.0))
        if candidate.score < self.config.hold:  # chance; who follows it is far away when the object comes back
            return Candidate(0.0, 0.0, shown.w, shown.h, sure), 0, model
        return replace(candidate, score=sure), 0, model

    def _read(self, code: TemplateCode, features: Features) -> tuple[Tensor, Tensor]:
        """Return overlaps (N, h, w) and boxes (N, 4, h, w) as the head sees them."""
        output = self.head(code, features)
        return output.cls_logits[:, 0].sigmoid(), anchors.decode(output.box_deltas, code.size_wh, FINE_STRIDE)

    def _moved(self, search: CropGeometry, box: Box) -> list[CropGeometry]:
        """Return squares of other places and sizes that show the object, for the calibration."""
        dx, dy = _SHIFT * box.w, _SHIFT * box.h
        moves = ((dx, dy, 1.0), (-dx, -dy, 1.0), (dx, -dy, 0.93), (-dx, dy, 1.07))
        return [CropGeometry(search.cx + x, search.cy + y, search.side * s, search.size) for x, y, s in moves]

    def _calibrate(self, code: TemplateCode, features: Features, truth: Tensor) -> tuple[float, float, float, float]:
        """Return how the given box differs from the head's: the median over crops with boxes truth (N, 4)."""
        overlaps, boxes = self._read(code, features)
        cells = overlaps.shape[-1]
        offsets = anchors.cell_offsets(cells, FINE_STRIDE, truth.device)
        # Where another thing answers better than the object, the object's own cell is what is asked.
        near = ((offsets.view(1, 1, -1) - truth[:, :1, None]).abs() <= truth[:, 2:3, None] / 4 + FINE_STRIDE) & (
            (offsets.view(1, -1, 1) - truth[:, 1:2, None]).abs() <= truth[:, 3:4, None] / 4 + FINE_STRIDE
        )
        best = (overlaps * near).flatten(1).argmax(1)
        found = boxes.flatten(2).gather(2, best.view(-1, 1, 1).expand(-1, 4, 1))[:, :, 0]  # (N, 4)
        off = torch.cat([(truth[:, :2] - found[:, :2]) / found[:, 2:], (truth[:, 2:] / found[:, 2:]).log()], dim=1)
        dx, dy, dw, dh = (self.config.calibration * off.median(dim=0).values.clamp(-0.5, 0.5)).tolist()
        return dx, dy, dw, dh


def _calibrated(boxes: Tensor, calibration: tuple[float, float, float, float]) -> Tensor:
    dx, dy, dw, dh = calibration
    u, v, w, h = boxes
    return torch.stack([u + dx * w, v + dy * h, w * math.exp(dw), h * math.exp(dh)])


def _centred(box: Box, size: int) -> tuple[float, float, float, float]:
    return box.cx - size / 2, box.cy - size / 2, box.w, box.h
