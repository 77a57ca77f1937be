"""The head is trained on pooled features; the rest of the model is not touched."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tracker import checkpoint
from tracker.builder import load_tracker
from tracker.cli import main
from tracker.config import parse
from tracker.data.tracks import ObjectTrack, TrackFrame
from tracker.models.embedding import EmbeddingHead
from tracker.network_builder import load_network
from tracker.training import verifier
from tracker.training.verifier import (
    HeldPairs,
    PooledViews,
    Recipe,
    embed_all,
    figures,
    held_pairs,
    held_tracks,
    train_verifier,
)
from tracker.zoo import find_weights

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "weights" / "mobilenetv3_online.safetensors"


def videos(folder: Path, count: int, frames: int = 3) -> Path:
    """Write tracks of as many videos, each of a square of its own colours and grain."""
    rows = []
    for video in range(count):
        rng = np.random.default_rng(video)
        grain = int(rng.integers(1, 9))
        patch = rng.integers(0, 256, (40 // grain + 1, 40 // grain + 1, 3), dtype=np.uint8)
        patch = np.kron(patch, np.ones((grain, grain, 1), np.uint8))[:40, :40]
        shown = []
        for i in range(frames):
            picture = rng.integers(90, 130, (120, 140, 3), dtype=np.uint8)
            picture[40:80, 50 + i : 90 + i] = patch
            cv2.imwrite(str(folder / f"{video}_{i}.png"), picture)
            shown.append({"image": f"{video}_{i}.png", "box": [50 + i, 40, 40, 40]})
        rows.append({"video": f"v{video}", "track": "1", "class": "thing", "frames": shown})
    (folder / "tracks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def test_only_the_embedding_head_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_REPORT_EVERY", 50)
    out = tmp_path / "out.safetensors"
    lines = list(train_verifier(MODEL, videos(tmp_path, 40), out, Recipe(steps=150, quartets=6), "the command"))
    losses = [float(line.partition("loss ")[2]) for line in lines if "loss" in line]
    floor = np.log(3)  # each view has three others of its object, which share the softmax
    assert len(losses) == 3 and losses[2] - floor < 0.3 * (losses[0] - floor)
    before, after = checkpoint.load(MODEL), checkpoint.load(out)
    for name, tensor in before.tensors.items():
        if not name.startswith("embedding."):
            assert torch.equal(after.tensors[name], tensor)
    learned = {name for name in after.tensors if name.startswith("embedding.")}
    assert learned == {f"embedding.{name}" for name in EmbeddingHead(1).state_dict()}
    assert parse(after.config).model.embedding == "pooled"
    assert parse(after.config).online == parse(before.config).online
    assert after.provenance["embedding"].startswith("the command; 150 steps")
    assert "v39" not in after.provenance["embedding_data"] and "sha256" in after.provenance["embedding_data"]
    assert 0.5 < after.metrics["verify_auc"] <= 1
    assert 0 < after.metrics["verify_threshold"] < 1
    network, _ = load_network(out, "cpu")
    assert isinstance(network.embedding, EmbeddingHead)


def test_the_same_seed_gives_the_same_head(tmp_path: Path) -> None:
    data = videos(tmp_path, 24, frames=2)
    found = []
    for name, model in (("a", str(MODEL)), ("b", MODEL.stem)):
        out = tmp_path / f"{name}.safetensors"
        assert main(["train-verifier", model, "--data", str(data), "--out", str(out), "--steps", "3"]) == 0
        found.append(checkpoint.load(out).tensors)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_model_that_lost_its_head_gets_another(tmp_path: Path) -> None:
    loaded = checkpoint.load(find_weights("siamrpn_mobile"))  # whose score needs one
    bare = {name: tensor for name, tensor in loaded.tensors.items() if not name.startswith("embedding.")}
    checkpoint.save(tmp_path / "bare.safetensors", replace(loaded, tensors=bare))
    out = tmp_path / "out.safetensors"
    list(train_verifier(tmp_path / "bare.safetensors", videos(tmp_path, 24, frames=2), out, Recipe(steps=2), ""))
    assert checkpoint.load(out).tensors.keys() == loaded.tensors.keys()
    assert load_tracker(out, "cpu", runtime="torch")


def test_too_few_tracks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tracks\.jsonl has fewer than 20 tracks"):
        list(train_verifier(MODEL, videos(tmp_path, 19), tmp_path / "out.safetensors", Recipe(), ""))
    assert not (tmp_path / "out.safetensors").exists()


def track(video: str, label: str, frames: int = 2) -> ObjectTrack:
    return ObjectTrack("set", video, label, tuple(TrackFrame(Path(f"{i}"), (0, 0, 1, 1)) for i in range(frames)))


def test_too_few_videos_are_refused_before_the_training(tmp_path: Path) -> None:
    data = videos(tmp_path, 21, frames=2)
    rows = [json.loads(row) for row in (data / "tracks.jsonl").read_text().splitlines()]
    text = "\n".join(json.dumps(row | {"video": f"v{at % 3}"}) for at, row in enumerate(rows))
    (data / "tracks.jsonl").write_text(text)
    with pytest.raises(ValueError, match="come from 3 videos; 4 are needed, 2 to learn from and 2 to measure on"):
        next(train_verifier(MODEL, data, tmp_path / "out.safetensors", Recipe(), ""))


# By their sha256, 8, 14, 29, 31 and 35 of v0, v1, ... are the first that are multiples of seven.
@pytest.mark.parametrize(
    ("numbers", "held"),
    [
        ((8, 14, 29, 0, 1), {8, 14, 29}),  # as the hash says
        ((0, 1, 2, 3), None),  # none
        ((8, 0, 1, 2), None),  # one
        ((8, 14, 29, 31), None),  # all
        ((8, 14, 29, 31, 0), None),  # all but one
    ],
)
def test_some_videos_are_held_and_some_are_free(numbers: tuple[int, ...], held: set[int] | None) -> None:
    tracks = [track(f"v{number}", "thing") for number in numbers for _ in range(3)]
    found = held_tracks(tracks)
    names = {one.video for one, kept in zip(tracks, found, strict=True) if kept}
    assert not names & {one.video for one, kept in zip(tracks, found, strict=True) if not kept}
    assert names == {f"v{number}" for number in held} if held else len(names) == 2
    assert held_tracks(tracks[::-1]).tolist() == found.tolist()[::-1]


def test_few_videos_are_trained_and_measured_on(tmp_path: Path) -> None:
    data = videos(tmp_path, 20, frames=2)
    rows = [json.loads(row) for row in (data / "tracks.jsonl").read_text().splitlines()]
    text = "\n".join(json.dumps(row | {"video": f"v{at % 4}"}) for at, row in enumerate(rows))
    (data / "tracks.jsonl").write_text(text)
    list(train_verifier(MODEL, data, tmp_path / "out.safetensors", Recipe(steps=2), ""))
    assert "verify_threshold" in checkpoint.load(tmp_path / "out.safetensors").metrics


def test_pairs_are_of_held_videos_and_of_their_kinds() -> None:
    tracks = [track("a", "Dog"), track("b", "dog"), track("a", "cat"), track("c", "dog")]
    # Each view's embedding is the unit vector of its track; the learned one would give -1.
    numbers = np.repeat(np.arange(4), 4)
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [-1, 0, 0]], np.float32)[numbers]
    pooled = PooledViews(np.zeros((16, 1, 5, 5), np.float16), numbers, np.tile([0, 0, 1, 1], 4))
    pairs = held_pairs(vectors, pooled, tracks, np.array([True, True, True, False]))
    assert set(pairs.same.round(6)) == {1.0} and len(pairs.same) > 10
    assert set(pairs.different.round(6)) == {0.6, 0.0}
    assert set(pairs.same_class.round(6)) == {0.6}
    assert set(pairs.same_video.round(6)) == {0.0}
    found = figures(pairs)
    assert found["verify_auc"] == found["verify_auc_same_class"] == found["verify_tar_at_far_01"] == 1.0
    assert found["verify_eer"] == 0.0
    assert found["verify_threshold"] == pytest.approx(1.0)


def test_threshold_is_a_number_where_the_most_similar_pair_is_of_two_things() -> None:
    none = np.array([])
    found = figures(HeldPairs(np.array([0.6, 0.8]), np.array([0.1, 0.9]), none, none))
    assert found["verify_tar_at_far_01"] == 0.0
    assert found["verify_threshold"] == np.nextafter(0.9, 1)  # what is more alike than these two is the same


def test_all_are_embedded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = EmbeddingHead(3)
    features = np.random.default_rng(0).random((7, 3, 5, 5)).astype(np.float16)
    whole = embed_all(head, features)
    monkeypatch.setattr(verifier, "_BATCH", 3)
    assert np.allclose(embed_all(head, features), whole, atol=1e-6)
