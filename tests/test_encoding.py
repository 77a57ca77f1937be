import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tests.test_encoder_builder import SHAPES, configured
from tests.tolerances import assert_close
from tests.training.test_encoder_run import pictures_of, verified
from tracker.data.distort import Distortion
from tracker.data.omniglot import read_runs
from tracker.data.pair_lists import ListedPair
from tracker.encoder_builder import build_encoder, is_sequential, load_encoder
from tracker.encoding import embed_samples, embed_views, one_shot_shares, pair_similarities
from tracker.fewshot import mean_accuracy, nearest_neighbour
from tracker.verification import area, equal_error_rate

OMNIGLOT = Path(__file__).parent.parent / "weights" / "encoders" / "omniglot.safetensors"
BENT = Distortion(rotate=20.0, shear=0.3, scale=0.2, shift=0.1, bend=0.03, stroke_chance=0.5)


def drawn(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize(
    ("encoder", "layout"), [("character_cnn", "pictures"), ("clip", "clips"), ("lstm", "sequences")]
)
def test_many_samples_embed_as_each_does_alone(encoder: str, layout: str) -> None:
    config = configured(f"model.encoder={encoder}", f"data.layout={layout}")
    torch.manual_seed(0)
    network = build_encoder(config).eval()
    rng = np.random.default_rng(0)
    dtype = np.float32 if layout == "sequences" else np.uint8
    values = [(99 * rng.random(SHAPES[layout])).astype(dtype) for _ in range(300)]  # more than are embedded at once
    if layout == "sequences":
        values[299] = values[299][:2]
    found = embed_samples(network, values, is_sequential(config))
    assert found.shape == (300, 6)
    for at in (0, 255, 256, 299):
        assert_close(embed_samples(network, [values[at]], is_sequential(config))[0], found[at], "float32")


def test_views_are_averaged_and_the_same_every_time() -> None:
    network = build_encoder(configured())
    network.train()
    network.embed(torch.from_numpy(np.stack(drawn(64))))  # BatchNorm sees pictures
    network.eval()
    pictures = drawn(3)
    plain = embed_samples(network, pictures, sequential=False)
    assert_close(embed_views(network, pictures, BENT, views=0), plain, "float32")
    assert_close(embed_views(network, pictures, None, views=4), plain, "float32")
    found = embed_views(network, pictures, BENT, views=4)
    assert torch.equal(found, embed_views(network, pictures, BENT, views=4))
    assert_close(found.norm(dim=1), np.ones(3), "float32")
    assert not torch.allclose(found, plain, atol=1e-5)


def test_weights_that_give_no_numbers_are_seen() -> None:
    network = build_encoder(configured()).eval()
    network.encoder.read.bias.data[0] = float("inf")
    with pytest.raises(ValueError, match="embeddings are not finite: the weights of the encoder are broken"):
        embed_samples(network, drawn(2), sequential=False)


def test_picture_of_a_pair_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    config = configured()
    with pytest.raises(ValueError, match=r"cannot read the picture .*a.png"):
        pair_similarities(
            build_encoder(config), config.data, [ListedPair(tmp_path / "a.png", tmp_path / "a.png", True)]
        )


def test_shipped_encoder_tells_digits_apart_that_are_no_letters_of_omniglot() -> None:
    """Measured on all ten digits of scikit-learn, 8x8 pixels, with a pixel of background around: AUC .814, EER .266."""
    network, config = load_encoder(OMNIGLOT)
    digits = load_digits()
    chosen = np.arange(len(digits.target)) % 4 == 0  # a quarter of them, for the time: AUC .81
    pictures = [np.pad(picture, ((0, 0), (5, 5), (5, 5))) for picture in pictures_of(digits, chosen, 38)]
    assert config.data.size == pictures[0].shape[-1]
    curve = verified(network, pictures, digits.target[chosen])
    assert area(curve) > 0.79
    assert equal_error_rate(curve) < 0.29


@pytest.mark.data
def test_shipped_encoder_has_its_accuracy_on_the_official_runs() -> None:
    """weights/encoders/README.md has .970; Koch et al. 2015 have .920."""
    network, config = load_encoder(OMNIGLOT)
    runs = read_runs(Path(os.environ["SIAMTRACK_DATA"]) / "verify" / "omniglot", config.data.size)
    shares = [share for _, share in one_shot_shares(network, runs, nearest_neighbour(network.metric), None, views=0)]
    assert mean_accuracy(shares).mean >= 0.965
