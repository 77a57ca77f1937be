import numpy as np
import torch

from tests.tolerances import assert_close
from tracker.models.correlation import cross_correlation
from tracker.models.embedding import EmbeddingHead
from tracker.pooling import POOLED_CELLS


def make() -> EmbeddingHead:
    torch.manual_seed(0)
    return EmbeddingHead(channels=6, narrowed=4, dimensions=8).eval()


def features(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 6, POOLED_CELLS, POOLED_CELLS, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_embeddings_are_those_of_plain_loops() -> None:
    head, pooled = make(), features(3)
    found = head(pooled).numpy()
    assert found.shape == (3, 8)
    weights, bias = head.reduce.weight.double().numpy(), head.reduce.bias.double().numpy()
    out, out_bias = head.project.weight.double().numpy(), head.project.bias.double().numpy()
    wanted = np.zeros((3, 8))
    for n, sample in enumerate(pooled.double().numpy()):
        scaled = 5.0 * sample / np.sqrt((sample**2).sum())
        narrow = []
        for i in range(POOLED_CELLS):
            for j in range(POOLED_CELLS):
                narrow += [
                    max(float(row @ scaled[:, i, j]) + float(b), 0.0) for row, b in zip(weights, bias, strict=True)
                ]
        vector = out @ np.array(narrow) + out_bias
        wanted[n] = vector / np.sqrt((vector**2).sum())
    assert_close(found, wanted, "float32")


@torch.inference_mode()
def test_scale_of_the_features_does_not_matter_and_nothing_is_no_nan() -> None:
    head, pooled = make(), features(2)
    assert_close(head(1000 * pooled).numpy(), head(pooled).numpy(), "float32")
    assert torch.isfinite(head(torch.zeros_like(pooled))).all()


@torch.inference_mode()
def test_cosine_is_the_correlation_of_two_maps_of_one_cell() -> None:
    a, b = make()(features(1)), make()(features(1, seed=1))
    response = cross_correlation(a.view(1, -1, 1, 1), b.view(1, -1, 1, 1))
    assert_close(response.numpy().reshape(()), (a @ b.T).numpy().reshape(()), "float32")
