from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tolerances import assert_close
from tracker.models import encoders
from tracker.models.correlation import cross_correlation
from tracker.models.encoders import (
    CharacterCNN,
    ClipEncoder,
    LSTMEncoder,
    RelationHead,
    Sequences,
    SiameseEncoder,
    TimeDelayEncoder,
    WeightedL1,
)


def unit(count: int, dimensions: int = 8, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.normalize(drawn, dim=1)


def sequences(lengths: list[int], channels: int = 3, steps: int | None = None) -> Sequences:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(len(lengths), steps or max(lengths), channels, generator=generator)
    return Sequences(values, torch.tensor(lengths))


def built(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def seen(network: nn.Module, inputs: object) -> nn.Module:
    """Let BatchNorm see what comes: fresh statistics would leave of any picture nothing but the biases."""
    network.train()
    for _ in range(40):
        network(inputs)
    return network.eval()


SEQUENTIAL: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: LSTMEncoder(3, 6, 5),
    "time_delay": lambda: TimeDelayEncoder(3, 6, 5),
}


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_sequence_embeds_with_norm_one_and_padding_is_without_effect(name: str) -> None:
    network = built(SEQUENTIAL[name])
    batch = sequences([7, 1, 4, 12])
    found = network(batch)
    assert found.shape == (4, 5)
    assert_close(found.norm(dim=1).detach(), np.ones(4), "float32")
    for row, values, length in zip(found, *batch, strict=True):
        alone = network(Sequences(values[None, :length], length.view(1)))
        assert_close(alone[0].detach(), row.detach(), "float32")
    noisy = batch.values.clone()
    noisy[1, 1:] = 100.0
    assert_close(network(Sequences(noisy, batch.lengths)).detach(), found.detach(), "float32")


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_order_of_a_sequence_matters(name: str) -> None:
    network = built(SEQUENTIAL[name])
    batch = sequences([9])
    assert not torch.allclose(network(batch), network(Sequences(batch.values.flip(1), batch.lengths)), atol=1e-3)


@pytest.mark.parametrize("name", SEQUENTIAL)
@pytest.mark.parametrize(("lengths", "said"), [([0, 3], "0 to 3"), ([2, 9], "2 to 9"), ([3], "as many lengths")])
def test_lengths_that_do_not_fit_are_refused(name: str, lengths: list[int], said: str) -> None:
    values = torch.zeros(2, 5, 3)
    with pytest.raises(ValueError, match=said):
        built(SEQUENTIAL[name])(Sequences(values, torch.tensor(lengths)))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (8, 3), (33, 1)])
def test_pictures_embed_with_norm_one_whatever_their_type(size: int, channels: int) -> None:
    network = built(lambda: CharacterCNN(size, channels, 4, 10))
    images = torch.randint(0, 256, (3, channels, size, size), generator=torch.Generator().manual_seed(0))
    found = seen(network, images)(images.to(torch.uint8))
    assert found.shape == (3, 10)
    assert_close(found.norm(dim=1).detach(), np.ones(3), "float32")
    assert torch.equal(found, network(images.float()))
    assert not torch.allclose(found[0], found[1], atol=1e-4)


def test_place_of_a_stroke_matters() -> None:
    network = built(lambda: CharacterCNN(24, 1, 4, 10))
    images = torch.zeros(2, 1, 24, 24)
    images[0, 0, 4:8, 4:20] = 255
    images[1, 0, 16:20, 4:20] = 255
    found = network(images)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels a side .* got 1"):
        CharacterCNN(1, 1, 4, 10)
    with pytest.raises(ValueError, match=r"\(N, C, 16, 16\), got \(2, 1, 1, 1\)"):
        CharacterCNN(16, 1, 4, 10)(torch.zeros(2, 1, 1, 1))


def test_clips_embed_by_their_frames_in_order() -> None:
    network = built(lambda: ClipEncoder(CharacterCNN(8, 1, 4, 6), 6, 6, 5))
    values = torch.randint(0, 256, (2, 4, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    lengths = torch.tensor([4, 2])
    found = seen(network, Sequences(values, lengths))(Sequences(values, lengths))
    assert found.shape == (2, 5)
    assert_close(found.norm(dim=1).detach(), np.ones(2), "float32")
    assert_close(network(Sequences(values[1:, :2], lengths[1:]))[0].detach(), found[1].detach(), "float32")
    assert not torch.allclose(network(Sequences(values.flip(1), lengths))[0], found[0], atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_padding_of_clips_is_without_effect(training: bool) -> None:
    network = built(lambda: ClipEncoder(CharacterCNN(8, 1, 4, 6), 6, 6, 5)).train(training)
    values = torch.randint(0, 256, (3, 4, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    lengths = torch.tensor([4, 2, 3])
    longer = torch.cat([values, torch.zeros_like(values)], dim=1)
    assert torch.equal(network(Sequences(longer, lengths)), network(Sequences(values, lengths)))
    with pytest.raises(ValueError, match="lengths must be 1 to 4"):
        network(Sequences(values, torch.tensor([4, 5, 1])))


def test_half_precision_does_not_reach_the_norm() -> None:
    network = built(lambda: CharacterCNN(16, 1, 4, 200))
    images = torch.randint(0, 256, (3, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        found = SiameseEncoder(network, encoders.cosine_similarity).embed(images)
    assert found.dtype == torch.float32
    assert_close(found.norm(dim=1).detach(), np.ones(3), "float32")


# Metrics


def test_metrics_are_what_their_names_say() -> None:
    a, b = unit(5, seed=1), unit(5, seed=2)
    assert_close(encoders.l1_similarity(a, b), -np.abs(a.numpy() - b.numpy()).sum(1), "float64")
    assert_close(encoders.l2_similarity(a, b), -np.linalg.norm(a.numpy() - b.numpy(), axis=1), "float64")
    cosines = [float(x @ y) / float(x.norm() * y.norm()) for x, y in zip(a, b, strict=True)]
    assert_close(encoders.cosine_similarity(a, b), cosines, "float64")
    # |a - b|^2 = 2 - 2 a b of vectors of norm 1: both order pairs alike
    assert_close(encoders.l2_similarity(a, b).square(), 2 - 2 * encoders.cosine_similarity(a, b), "float64")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cosine_is_the_cross_correlation_of_maps_of_one_cell(dtype: torch.dtype) -> None:
    a, b = unit(6, seed=1).to(dtype), unit(6, seed=2).to(dtype)
    maps = cross_correlation(a.view(6, 8, 1, 1), b.view(6, 8, 1, 1))
    assert maps.shape == (6, 1, 1, 1)
    assert_close(encoders.cosine_similarity(a, b), maps.flatten(), "float64" if dtype == torch.float64 else "float32")


LEARNED: dict[str, Callable[[], nn.Module]] = {
    "weighted_l1": lambda: WeightedL1(8),
    "relation": lambda: RelationHead(8, 4),
}
PLAIN = {"l1": encoders.l1_similarity, "l2": encoders.l2_similarity, "cosine": encoders.cosine_similarity}


@pytest.mark.parametrize("name", [*PLAIN, *LEARNED])
def test_metric_is_the_same_both_ways_and_broadcasts(name: str) -> None:
    metric = PLAIN[name] if name in PLAIN else built(LEARNED[name]).double()
    a, b = unit(3, seed=1), unit(4, seed=2)
    every = metric(a.unsqueeze(1), b.unsqueeze(0))
    assert every.shape == (3, 4)
    assert_close(metric(b.unsqueeze(0), a.unsqueeze(1)).detach(), every.detach(), "float64")
    assert_close(metric(a, b[:3]).detach(), every.diagonal().detach(), "float64")
    if name in PLAIN:
        assert (metric(a, a) >= every[:, :3].amax(1) - 1e-6).all()  # nothing is more alike than itself


def test_weighted_l1_is_a_weighted_sum_of_differences() -> None:
    metric = built(lambda: WeightedL1(8)).double()
    weight, bias = metric.weigh.weight.detach().numpy()[0], float(metric.weigh.bias.detach())
    a, b = unit(5, seed=1), unit(5, seed=2)
    expected = [float((weight * np.abs(x - y)).sum()) + bias for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert_close(metric(a, b).detach(), expected, "float64")


def test_equal_vectors_have_a_finite_gradient() -> None:
    a = unit(2).requires_grad_()
    (gradient,) = torch.autograd.grad(encoders.l2_similarity(a, a.detach()).sum(), a)
    assert torch.isfinite(gradient).all()


# The seam


def letters(texts: list[str]) -> np.ndarray:
    """Stand in for the encoder of a text model: how often each letter comes."""
    return np.array([[text.lower().count(chr(97 + k)) for k in range(26)] for text in texts], np.float32)


def test_any_callable_is_an_encoder() -> None:
    network = SiameseEncoder(letters, encoders.cosine_similarity)
    similarities = network(["a green frog", "a green frog"], ["gone a fergr", "pivot"])
    assert similarities.shape == (2,)
    assert similarities[0] > 0.99 > 0.3 > similarities[1]
    assert list(network.parameters()) == []


def test_both_sides_share_the_weights() -> None:
    network = SiameseEncoder(built(SEQUENTIAL["lstm"]), encoders.cosine_similarity)
    batch = sequences([4, 6])
    assert_close(network(batch, batch).detach(), np.ones(2), "float32")
    assert len(list(network.parameters())) == len(list(LSTMEncoder(3, 6, 5).parameters()))


@pytest.mark.parametrize(
    "found", [np.zeros(3, np.float32), np.zeros((2, 3), np.int64), np.zeros((2, 3, 4), np.float32)], ids=str
)
def test_encoder_that_gives_no_vectors_is_refused(found: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"an encoder must give vectors \(N, D\) of floats"):
        SiameseEncoder(lambda _: found, encoders.cosine_similarity).embed("anything")
