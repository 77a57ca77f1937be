"""Watch a training run: videos tracked with the weights so far, the best of them kept, and pictures to look at."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from tracker import checkpoint
from tracker.builder import build_tracker
from tracker.data.pair_sheet import pair_sheet
from tracker.data.pairs import Pairs
from tracker.data.sequence import Sequence
from tracker.data.tracks import read_tracks
from tracker.evaluation import follow_sequence, map_sequences, read_frame
from tracker.geometry import check_initial_box
from tracker.metrics import mean_score, score_track
from tracker.models import anchors
from tracker.models.graphs import HeadGraph
from tracker.models.siamese import SiameseNetwork
from tracker.network_builder import load_network
from tracker.whole_file import write_whole

BEST = "best.safetensors"
_LOG = "validation.csv"
_SAMPLES = "samples"
METRIC = "validation_auc"  # of the weight file's metrics


@dataclass(frozen=True, slots=True)
class Watch:
    """Hold the videos to track with the weights so far, and the pairs to draw."""

    sequences: tuple[Sequence, ...]
    samples: tuple[Pairs, ...]

    def look(self, weights: Path, step: int) -> float:
        """Return the mean success AUC of a weight file; keep a copy of it if it is the best of its folder.

        Beside the file lie then `validation.csv`, a line each look, which is written last, and `samples/`, pictures of
        what it sees.
        """
        folder = weights.parent
        network, config = load_network(weights)
        tracker = build_tracker(network, config)
        tracks = map_sequences(lambda: tracker, follow_sequence, self.sequences, workers=1)
        auc = mean_score(score_track(track.boxes_xywh, s.boxes_xywh) for s, track in tracks).success_auc
        if auc > best_auc(folder):
            loaded = checkpoint.load(weights)
            checkpoint.save(folder / BEST, replace(loaded, metrics=loaded.metrics | {METRIC: auc}))
        self._draw(network, folder / _SAMPLES / f"step_{step:06d}.png")
        _append(folder / _LOG, step, auc)
        return auc

    def _draw(self, network: SiameseNetwork, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        sheet = pair_sheet(self.samples, [read_pairs(network, pairs) for pairs in self.samples])
        cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def best_auc(folder: Path) -> float:
    """Return the score of the best weights kept in a run's folder, -1 where there are none."""
    best = folder / BEST
    return checkpoint.load(best).metrics[METRIC] if best.is_file() else -1.0


def has_looked(folder: Path, step: int) -> bool:
    """Return whether a run's weights were looked at after a step, to the end."""
    return any(int(line.partition(",")[0]) == step for line in _looks(folder / _LOG))


def forget(folder: Path) -> None:
    """Remove what was seen of an earlier run in a folder, the best weights among it."""
    for name in (BEST, _LOG):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / _SAMPLES, ignore_errors=True)


def read_sequences(folder: Path, frames: int) -> tuple[Sequence, ...]:
    """Return the tracks of `folder/tracks.jsonl` as videos of at most so many frames; stills are none.

    Raises ValueError where no video is left, and where one has pictures that are not there or cannot be begun with:
    rather now than at the first look.
    """
    index = folder / "tracks.jsonl"
    found = []
    for at, track in enumerate(read_tracks(index)):
        shown = track.frames[:frames]
        missing = next((frame.image for frame in shown if not frame.image.is_file()), None)
        if missing is not None:
            raise ValueError(f"{index} names the picture {missing}, which is not there")
        if len(shown) > 1:
            boxes = np.array([frame.box_xywh for frame in shown])
            found.append(Sequence(f"{track.video}:{at}", tuple(frame.image for frame in shown), boxes))
            try:
                check_initial_box(found[-1].first_box(), read_frame(shown[0].image).shape[:2])
            except ValueError as error:
                raise ValueError(f"{index}: {track.video} cannot be tracked from {shown[0].image}: {error}") from error
    if not found:
        raise ValueError(f"{index} holds stills alone: there is no video to track")
    return tuple(found)


@torch.inference_mode()
def read_pairs(network: SiameseNetwork, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return what a network sees in one template's searches: scores (K, h, w) in [0, 1] and the best boxes (K, 4).

    Boxes are (u, v, w, h), crop pixels, (u, v) less the middle.
    """
    device = network.mean.device
    template = network.embed(pairs.template.unsqueeze(0).to(device))
    features = network.features(pairs.searches.to(device))
    head = network.anchor_head
    if head is not None:
        code = head.encode(template, pairs.template_box.unsqueeze(0).to(device), network.stride)
        scores, boxes = HeadGraph(network)(features.deep, features.fine, *code)
    else:
        scores = network(template, features.deep)[:, 0].sigmoid()
        sizes = pairs.template_box[2:].to(device).expand(len(scores), 2)
        still = torch.zeros(len(scores), 4, *scores.shape[1:], device=device)
        boxes = anchors.decode(still, sizes, network.stride)
    best = scores.flatten(1).argmax(1)
    found = boxes.flatten(2).gather(2, best.view(-1, 1, 1).expand(-1, 4, 1))[:, :, 0]
    return scores.cpu(), found.cpu()


def _append(path: Path, step: int, auc: float) -> None:
    kept = [line for line in _looks(path) if int(line.partition(",")[0]) < step]  # a resumed run looks again
    write_whole(path, "\n".join(["step,success_auc", *kept, f"{step},{auc:.4f}", ""]))


def _looks(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
