"""Embed and compare samples with a trained encoder: many at once, one-shot runs, episodes, pairs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from tracker.data.batches import stack
from tracker.data.distort import Distortion, distort
from tracker.data.labelled import read_picture
from tracker.data.omniglot import OneShotRun
from tracker.data.pair_lists import ListedPair
from tracker.encoder_config import SamplesConfig
from tracker.fewshot import Classifier, share_right
from tracker.models.encoders import Sequences, SiameseEncoder

_BATCH = 256  # samples at once: enough to be quick, and little memory


@torch.inference_mode()
def embed_samples(network: SiameseEncoder[Any], values: Sequence[NDArray[np.generic]], sequential: bool) -> Tensor:
    """Return embeddings (N, D) of samples as `data.labelled` has them. Raises ValueError for what is not finite."""
    found = []
    for first in range(0, len(values), _BATCH):
        batch, lengths = stack(values[first : first + _BATCH])
        found.append(network.embed(Sequences(batch, lengths) if sequential else batch))
    embeddings = torch.cat(found)
    if not torch.isfinite(embeddings).all():
        raise ValueError("embeddings are not finite: the weights of the encoder are broken")
    return embeddings


def embed_views(
    network: SiameseEncoder[Any], pictures: Sequence[NDArray[np.uint8]], distortion: Distortion | None, views: int
) -> Tensor:
    """Return the mean embedding (N, D), of norm 1, of each picture and of `views` distortions of it.

    The distortions are drawn from one seed, so the same picture always has the same embedding in the same place.
    """
    total = embed_samples(network, pictures, sequential=False)
    if distortion is not None:
        for view in range(views):
            rng = np.random.default_rng(view)
            total = total + embed_samples(network, [distort(each, distortion, rng) for each in pictures], False)
    return normalize(total, dim=1)


def one_shot_shares(
    network: SiameseEncoder[Any],
    runs: Sequence[OneShotRun],
    classifier: Classifier,
    distortion: Distortion | None,
    views: int,
) -> Iterator[tuple[str, float]]:
    """Yield name and share of right answers of each run."""
    for run in runs:
        support, queries = (embed_views(network, side, distortion, views) for side in (run.classes, run.items))
        scores = classifier(queries, support, torch.arange(len(run.classes)))
        yield run.name, share_right(scores, torch.from_numpy(run.answers))


@torch.inference_mode()
def pair_similarities(
    network: SiameseEncoder[Any], data: SamplesConfig, pairs: Sequence[ListedPair]
) -> NDArray[np.float64]:
    """Return the similarity (P,) of listed pictures; each is read and embedded once, however many pairs it is in.

    Raises ValueError for an encoder of anything but pictures, and naming a picture that cannot be read.
    """
    if data.layout != "pictures":
        raise ValueError(f"pairs are of pictures; this encoder embeds {data.layout}")
    paths = sorted({path for pair in pairs for path in (pair.first, pair.second)})
    at = {path: place for place, path in enumerate(paths)}
    parts = []
    for first in range(0, len(paths), _BATCH):  # a list may name more pictures than fit in memory
        pictures = [read_picture(path, data.size, data.channels) for path in paths[first : first + _BATCH]]
        parts.append(embed_samples(network, pictures, sequential=False))
    embeddings = torch.cat(parts)
    first_sides = embeddings[[at[pair.first] for pair in pairs]]
    second_sides = embeddings[[at[pair.second] for pair in pairs]]
    return network.metric(first_sides, second_sides).double().numpy()
