"""Embedding and comparing objects, in every runtime."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.verifiers import THRESHOLD, make_network, running, thing, write_weights
from tests.videos import paint
from tracker import verifier as verifier_module
from tracker.builder import RuntimeName
from tracker.crop import cut, mean_colour
from tracker.data.pair_lists import ListedPair
from tracker.export import export
from tracker.geometry import Box, CropGeometry
from tracker.toml_tree import to_toml
from tracker.verifier import Verifier, _cut_sharp, embed_file, load_verifier, object_region, pair_similarities
from tracker.zoo import DEFAULT_MODEL, find_weights

ROOT = Path(__file__).parent.parent
BOX = Box(160.0, 120.0, 44.0, 52.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "drawn.safetensors", {"verify_threshold": THRESHOLD})


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, config = make_network()
    folder = tmp_path_factory.mktemp("graphs")
    export(running(network), to_toml(config), folder, {}, {"verify_threshold": THRESHOLD})
    return folder


@pytest.fixture(scope="module")
def verifier(weights: Path) -> Verifier:
    return load_verifier(weights, "cpu", "torch")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.astype(np.float64) @ b.astype(np.float64))


# ---- what a vector is ----


def test_vector_is_of_norm_1_and_the_same_each_time(verifier: Verifier) -> None:
    first, second = verifier.embed(thing(0)), verifier.embed(thing(0))
    assert first.shape == (128,) and first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(first, second)
    assert verifier.similarity(first, second) == pytest.approx(1, abs=1e-6)


def test_things_are_told_apart(verifier: Verifier) -> None:
    vectors = [verifier.embed(thing(seed)) for seed in range(5)]
    moved = [verifier.embed(np.roll(thing(seed), 3, axis=1)[2:]) for seed in range(5)]
    for at, vector in enumerate(vectors):
        assert [verifier.same(vector, other) for other in moved] == [other == at for other in range(5)]


def test_object_is_known_wherever_its_box_lies(verifier: Verifier) -> None:
    here, there = paint(BOX), paint(Box(90.0, 70.0, 44.0, 52.0))
    first, second = verifier.embed(here, BOX), verifier.embed(there, Box(90.0, 70.0, 44.0, 52.0))
    beside = verifier.embed(here, Box(90.0, 70.0, 44.0, 52.0))
    assert verifier.similarity(first, second) > verifier.similarity(first, beside) + 0.02


def test_picture_without_a_box_is_all_object_on_its_mean_colour(verifier: Verifier) -> None:
    small = thing(1, 40)
    ground = np.empty((200, 200, 3), np.uint8)
    ground[:] = np.round(mean_colour(small))
    ground[80:120, 80:120] = small
    marked = verifier.embed(ground, Box(100.0, 100.0, 40.0, 40.0))
    assert verifier.similarity(verifier.embed(small), marked) > 0.999


def test_region_is_the_one_of_the_object_s_own_size(verifier: Verifier) -> None:
    assert object_region(verifier.localiser, BOX) == verifier.localiser.regions(BOX)[0]


# ---- pictures of any kind and size ----


def test_grey_alpha_and_16_bit_pictures_are_converted(verifier: Verifier) -> None:
    colour = thing(2)
    grey = colour.mean(axis=2).round().astype(np.uint8)
    plain = verifier.embed(np.repeat(grey[..., np.newaxis], 3, axis=2))
    assert np.array_equal(verifier.embed(grey), plain)
    assert np.array_equal(verifier.embed(grey[..., np.newaxis]), plain)
    alpha = np.dstack([colour, np.full(colour.shape[:2], 7, np.uint8)])
    for other in (alpha, colour.astype(np.uint16) * 257):
        assert np.array_equal(verifier.embed(other), verifier.embed(colour))


def test_files_of_any_colour_mode_give_the_same_vector(verifier: Verifier, tmp_path: Path) -> None:
    colour = (thing(3) // 64 * 85).astype(np.uint8)  # few colours, for a palette
    bgr = colour[..., ::-1]
    cv2.imwrite(str(tmp_path / "plain.png"), bgr)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([bgr, np.full(bgr.shape[:2], 7, np.uint8)]))
    cv2.imwrite(str(tmp_path / "deep.png"), bgr.astype(np.uint16) * 257)
    wanted = verifier.embed(colour)
    for name in ("plain", "alpha", "deep"):
        assert np.array_equal(embed_file(verifier, tmp_path / f"{name}.png"), wanted), name
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(colour).quantize(64, dither=0).save(tmp_path / "palette.png")
    assert cosine(embed_file(verifier, tmp_path / "palette.png"), wanted) > 0.999
    pillow.fromarray(colour).convert("1").save(tmp_path / "bits.png")
    assert np.isfinite(embed_file(verifier, tmp_path / "bits.png")).all()


@pytest.mark.parametrize("times", [3, 8, 20])
def test_large_picture_is_shrunk_and_not_sampled(verifier: Verifier, times: int) -> None:
    small = thing(1, 120)
    large = np.repeat(np.repeat(small, times, axis=0), times, axis=1)
    noise = np.random.default_rng(0).choice([-60, 60], large.shape)
    noisy = np.clip(large.astype(np.int16) + noise, 0, 255).astype(np.uint8)  # a mean over pixels takes it away
    wanted = verifier.embed(small)
    assert verifier.similarity(verifier.embed(noisy), wanted) > 0.96
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracker.verifier._COARSEST", 1e9)
        assert verifier.similarity(verifier.embed(noisy), wanted) < 0.95


def test_shrunk_crop_shows_what_the_plain_one_does() -> None:
    ramp = np.tile(np.linspace(0, 255, 1500).astype(np.uint8)[np.newaxis, :, np.newaxis], (1200, 1, 3))
    for region in (CropGeometry(700.0, 500.0, 900.0, 129), CropGeometry(100.0, 1100.0, 900.0, 129)):
        plain, sharp = cut(ramp, region, mean_colour(ramp)), _cut_sharp(ramp, region)
        inside = np.zeros((129, 129), bool)
        step = region.frame_per_crop
        rows, columns = ((np.arange(129) - 64) * step + centre for centre in (region.cy, region.cx))
        inside[np.ix_((rows > step) & (rows < 1200 - step), (columns > step) & (columns < 1500 - step))] = True
        assert inside.sum() > 3000
        assert np.abs(sharp.astype(int) - plain)[inside].max() <= 1
        assert np.abs(sharp.astype(int) - plain)[~inside].max(initial=0) <= 130  # only the seam may differ


@pytest.mark.parametrize("shape", [(4, 40_000), (40_000, 4), (4, 4), (5, 700)])
def test_odd_shapes_have_a_vector(verifier: Verifier, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.linalg.norm(verifier.embed(picture)) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_picture_of_more_than_a_hundred_megapixels_has_a_vector(verifier: Verifier) -> None:
    small = thing(1, 110)
    large = cv2.resize(small, (11_000, 11_000), interpolation=cv2.INTER_NEAREST)
    assert verifier.similarity(verifier.embed(large), verifier.embed(small)) > 0.98


# ---- what cannot be embedded or compared ----


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"got shape \(0, 5, 3\)"),
        (np.zeros((50, 50, 2), np.uint8), r"got shape \(50, 50, 2\)"),
        (np.full((50, 50, 3), np.nan), "dtype float64"),
        (np.zeros((50, 50, 3), bool), "dtype bool"),
        (np.zeros((1, 1, 3), np.uint8), "an object of 1x1 pixels is too small .* it needs 4 on each side"),
        (np.zeros((3, 90, 3), np.uint8), "an object of 90x3 pixels is too small"),
        ([[0]], "must be a numpy array .* got list"),
    ],
)
def test_picture_that_is_none_is_refused(verifier: Verifier, image: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=message):
        verifier.embed(image)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(500.0, 50.0, 10.0, 10.0), "lies outside"),
        (Box(50.0, 50.0, 0.0, 10.0), "positive width"),
        (Box(50.0, 50.0, float("nan"), 10.0), "must be finite"),
        (Box(50.0, 50.0, 500.0, 10.0), "larger than"),
        (Box(50.0, 50.0, 3.0, 10.0), "an object of 3x10 pixels is too small"),
    ],
)
def test_box_that_is_none_is_refused(verifier: Verifier, box: Box, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verifier.embed(thing(0), box)


def test_file_that_is_none_is_named(verifier: Verifier, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    for name, message in (
        ("broken.png", "damaged or not an image"),
        ("empty.png", "damaged or not an image"),
        ("missing.png", "No such file"),
        ("dot.png", "dot.png: an object of 1x1 pixels is too small"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            embed_file(verifier, tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("obtaining file position failed"), "one.png: obtaining file position failed"),  # NumPy's, of a pipe
        (MemoryError("977. MiB"), "one.png: it takes more memory than there is"),
    ],
)
def test_whatever_keeps_a_file_from_being_read_is_named(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(verifier_module, "read_image", fail)
    with pytest.raises(ValueError, match=f"cannot read image {message}"):
        embed_file(verifier, Path("one.png"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_network_that_gives_no_vector_is_named(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def embed(pooled: np.ndarray) -> np.ndarray:
        return np.full((len(pooled), 128), value, np.float32)

    monkeypatch.setattr(verifier.localiser.runtime, "embed", embed)
    with pytest.raises(ValueError, match="the embedding is not finite: the weight file is broken"):
        verifier.embed(thing(0))


def test_vectors_that_do_not_fit_are_refused(verifier: Verifier) -> None:
    vector = verifier.embed(thing(0))
    with pytest.raises(ValueError, match=r"shape \(128,\) and \(64,\) cannot be compared"):
        verifier.similarity(vector, vector[:64])
    with pytest.raises(ValueError, match="cannot be compared"):
        verifier.similarity(vector[np.newaxis], vector[np.newaxis])
    with pytest.raises(ValueError, match="not finite"):
        verifier.same(vector, np.full(128, np.nan, np.float32))


# ---- thresholds ----


def test_threshold_is_the_model_s_unless_one_is_given(verifier: Verifier) -> None:
    a, b = verifier.embed(thing(0)), verifier.embed(thing(1))
    similarity = verifier.similarity(a, b)
    assert verifier.threshold == THRESHOLD
    assert similarity < THRESHOLD and not verifier.same(a, b)
    assert verifier.same(a, b, threshold=similarity)  # at the threshold it is the same
    assert not verifier.same(a, b, threshold=np.nextafter(similarity, 2))
    with pytest.raises(ValueError, match="a threshold must be a number"):
        verifier.same(a, b, threshold=float("nan"))
    bare = Verifier(verifier.localiser, None)
    assert bare.same(a, b, threshold=0.0)
    with pytest.raises(ValueError, match="no threshold of its own; give one"):
        bare.same(a, b)


# ---- pairs ----


def test_pictures_of_pairs_are_embedded_once(
    verifier: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        cv2.imwrite(str(path), thing(seed)[..., ::-1])
    pairs = [ListedPair(paths[a], paths[b], a == b) for a in range(3) for b in range(3)]
    embedded = []
    plain = verifier.embed
    monkeypatch.setattr(Verifier, "embed", lambda _self, image, box=None: embedded.append(1) or plain(image, box))
    found = pair_similarities(verifier, pairs)
    assert len(embedded) == 3
    assert found.shape == (9,) and found.dtype == np.float64
    assert found[[0, 4, 8]] == pytest.approx(1, abs=1e-6)
    assert found[1] == found[3] < THRESHOLD


# ---- runtimes and models ----


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_graphs_embed_as_torch_does(verifier: Verifier, graphs: Path, runtime: RuntimeName) -> None:
    other = load_verifier(graphs, "cpu", runtime, threads=1)
    assert other.threshold == THRESHOLD
    for seed in range(3):
        assert cosine(other.embed(thing(seed)), verifier.embed(thing(seed))) > 0.999
    frame = paint(BOX)
    assert cosine(other.embed(frame, BOX), verifier.embed(frame, BOX)) > 0.999


def test_verifying_needs_no_torch(graphs: Path) -> None:
    code = f"""
import sys
for name in ("torch", "numba", "openvino"):
    sys.modules[name] = None  # importing it fails, as where it is not installed
import numpy as np
from tracker import load_verifier
verifier = load_verifier({str(graphs)!r}, runtime="onnx")
picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
print(verifier.same(verifier.embed(picture), verifier.embed(picture)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ})
    assert done.stdout.strip() == "True", done.stderr


def test_model_without_an_embedding_head_is_refused() -> None:
    for runtime in ("torch", "onnx"):
        with pytest.raises(ValueError, match="no embedding head, so it cannot compare"):
            load_verifier("mobilenetv3_online", "cpu", runtime)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown model 'nothing'"):
        load_verifier("nothing", "cpu", "torch")


def test_weights_without_a_threshold_have_none(tmp_path: Path) -> None:
    assert load_verifier(write_weights(tmp_path / "bare.safetensors", {}), "cpu", "torch").threshold is None


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "torch"])
def test_shipped_model_knows_the_object_again(runtime: RuntimeName) -> None:
    verifier = load_verifier(DEFAULT_MODEL, "cpu", runtime, threads=1)
    in_torch = load_verifier(find_weights(DEFAULT_MODEL), "cpu", "torch")
    assert verifier.threshold is not None and verifier.threshold == in_torch.threshold
    here, there = paint(BOX), paint(Box(90.0, 70.0, 40.0, 48.0))
    first, second = verifier.embed(here, BOX), verifier.embed(there, Box(90.0, 70.0, 40.0, 48.0))
    assert verifier.same(first, second)
    assert not verifier.same(first, verifier.embed(here, Box(70.0, 180.0, 44.0, 52.0)))
    assert cosine(first, in_torch.embed(here, BOX)) > 0.999
