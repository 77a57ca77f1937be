import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.tolerances import assert_close
from tracker import checkpoint
from tracker.config import parse
from tracker.data.pair_sheet import pair_sheet
from tracker.data.pairs import Pairs
from tracker.network_builder import build_network, load_network
from tracker.training.watch import Watch, best_auc, has_looked, read_pairs, read_sequences

ROOT = Path(__file__).parents[2]


def index(folder: Path, *counts: int) -> Path:
    rows = []
    for video, count in enumerate(counts):
        frames = []
        for i in range(count):
            name = f"v{video}_{i}.png"
            picture = np.random.default_rng(video).integers(0, 255, (80, 100, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / name), picture)
            frames.append({"image": name, "box": [20, 20, 30, 24]})
        rows.append({"video": f"v{video}", "track": "1", "class": "thing", "frames": frames})
    (folder / "tracks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def pairs(search_size: int, template_size: int) -> Pairs:
    generator = torch.Generator().manual_seed(0)
    template = torch.randint(0, 256, (3, template_size, template_size), generator=generator, dtype=torch.uint8)
    searches = torch.randint(0, 256, (2, 3, search_size, search_size), generator=generator, dtype=torch.uint8)
    box = torch.tensor([0.0, 0.0, 60.0, 40.0])
    return Pairs(template, searches, box, torch.stack([box, box + 5]), torch.tensor([True, False]))


def test_videos_are_cut_and_stills_left_out(tmp_path: Path) -> None:
    found = read_sequences(index(tmp_path, 5, 1, 2), frames=3)
    assert [len(sequence.image_paths) for sequence in found] == [3, 2]
    assert found[0].boxes_xywh[0].tolist() == [20, 20, 30, 24]
    with pytest.raises(ValueError, match="stills alone"):
        read_sequences(index(tmp_path, 1), frames=3)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("picture", r"v1 cannot be tracked from .*v1_0.png: cannot read image"),
        ("box", "v1 cannot be tracked from .*outside"),
    ],
)
def test_video_that_cannot_be_begun_with_is_named_at_once(tmp_path: Path, broken: str, complaint: str) -> None:
    rows = index(tmp_path, 2, 2) / "tracks.jsonl"
    if broken == "picture":
        (tmp_path / "v1_0.png").write_bytes(b"no picture")
    else:
        first, second = rows.read_text().splitlines()
        rows.write_text(f"{first}\n{second.replace('[20, 20, 30, 24]', '[200, 20, 30, 24]')}\n")
    with pytest.raises(ValueError, match=complaint):
        read_sequences(tmp_path, frames=3)


def test_best_weights_are_kept_and_worse_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.safetensors"
    loaded = checkpoint.load(ROOT / "weights" / "mobilenetv3_online.safetensors")
    watch = Watch(read_sequences(index(tmp_path, 3), frames=3), ())
    monkeypatch.setattr(Watch, "_draw", lambda *_: None)  # a model without a head has no pairs to answer
    assert best_auc(tmp_path) == -1
    for step, metrics in ((10, {"of": 1.0}), (20, {"of": 2.0})):  # the same weights: the second is no better
        checkpoint.save(weights, checkpoint.Checkpoint(loaded.tensors, loaded.config, loaded.provenance, metrics))
        auc = watch.look(weights, step)
    assert auc > 0.8  # nothing moves
    assert best_auc(tmp_path) == auc
    assert checkpoint.load(tmp_path / "best.safetensors").metrics["of"] == 1
    assert (tmp_path / "validation.csv").read_text().splitlines() == [
        "step,success_auc",
        f"10,{auc:.4f}",
        f"20,{auc:.4f}",
    ]
    assert has_looked(tmp_path, 20) and not has_looked(tmp_path, 2)
    watch.look(weights, 10)  # resumed from before step 20
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == 2


def test_answers_of_the_anchor_head_are_those_of_tracking() -> None:
    network = load_network("siamrpn_resnet18", "cpu")[0].float()
    shown = pairs(257, 129)
    scores, boxes = read_pairs(network, shown)
    assert scores.shape == (2, 33, 33) and boxes.shape == (2, 4)
    with torch.inference_mode():
        code = network.head.encode(network.embed(shown.template[None]), shown.template_box[None], 16)
        logits = network.head(code, network.features(shown.searches[:1])).cls_logits
    assert_close(scores[:1], logits[:, 0].sigmoid(), "float32")


def test_answers_of_siamfc_have_the_template_s_size_at_the_peak() -> None:
    config = parse((ROOT / "configs" / "siamfc_alexnet.toml").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    scores, boxes = read_pairs(build_network(config).eval(), pairs(255, 127))
    assert scores.shape == (2, 17, 17)
    row, column = divmod(int(scores[0].argmax()), 17)
    assert boxes[0].tolist() == pytest.approx([(column - 8) * 8, (row - 8) * 8, 60, 40], rel=1e-5)


def test_sheet_shows_scores_below_searches_and_the_found_box() -> None:
    shown = pairs(257, 129)
    plain = pair_sheet([shown])
    scores = torch.zeros(2, 33, 33)
    scores[1, 16, 16] = 1
    sheet = pair_sheet([shown], [(scores, torch.tensor([[30.0, 0.0, 20.0, 20.0], [0.0, 0.0, 10.0, 10.0]]))])
    assert plain.shape == (257, 129 + 2 * 257, 3)
    assert sheet.shape == (514, 129 + 2 * 257, 3)
    assert sheet[257:, 129 : 129 + 257].max() == 0
    assert sheet[257 + 128, 129 + 257 + 128].tolist() == [255, 255, 255]
    left, top = round(129 + 257 / 2 + 20), round(257 / 2 - 10)
    assert sheet[top, left].tolist() == [255, 214, 0]
