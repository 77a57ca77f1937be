"""`siamtrack encoder`: train an encoder that says whether two things are the same, and measure it."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from tracker.fewshot import Accuracy, Classifier, Similarity

Threads = Annotated[
    int | None, typer.Option(help="Threads of the network; as many as cores are free, up to 4, if not given", min=1)
]
Weights = Annotated[
    Path, typer.Argument(help="Weight file of an encoder, such as weights/encoders/omniglot.safetensors")
]
Reading = Annotated[
    Literal["nearest", "prototypes", "matching", "relation"],
    typer.Option("--classifier", help="How the few labelled samples are read"),
]


def encoder_train_command(
    config: Annotated[Path, typer.Argument(help="Configuration, or the name of one that ships: encoders/omniglot")],
    data: Annotated[Path, typer.Option(help="Folder of the samples, in the layout that the configuration names")],
    out: Annotated[Path, typer.Option(help="Folder of the run: state, log and weights.safetensors")],
    threads: Threads = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value")] = None,
) -> int:
    """Train an encoder on samples with classes; a run that was stopped goes on where it was."""
    _require_torch()
    from tracker.threads import free_threads
    from tracker.training.encoder_run import train_encoder
    from tracker.zoo import find_config

    try:
        for line in train_encoder(find_config(config), data, out, overrides or (), threads or free_threads()):
            typer.echo(line, err=True)
    except FloatingPointError as error:
        typer.echo(f"siamtrack: error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo("siamtrack: stopped; the same command goes on from the last save", err=True)
        return 130
    typer.echo(f"the weights are in {out / 'weights.safetensors'}", err=True)
    return 0


def oneshot_command(
    weights: Weights,
    data: Annotated[Path, typer.Option(help="Folder of Omniglot's one-shot runs, or of all_runs.zip, or that file")],
    classifier: Reading = "nearest",
    views: Annotated[
        int, typer.Option(help="Distorted copies whose embeddings are averaged with the picture's", min=0)
    ] = 0,
) -> int:
    """Measure an encoder on the 20-way one-shot runs of Omniglot."""
    _require_torch()
    from tracker.data.omniglot import read_runs
    from tracker.encoder_builder import load_encoder
    from tracker.encoding import one_shot_shares
    from tracker.fewshot import mean_accuracy

    network, config = load_encoder(weights)
    if config.data.layout != "omniglot":
        raise ValueError(f"{weights} embeds {config.data.layout}, not the characters of Omniglot")
    if views and config.train.distortion is None:
        raise ValueError(f"--views needs a distortion, and the configuration in {weights} has no [train.distortion]")
    shares = []
    chosen = _classifier(classifier, network.metric, config.train.temperature)
    runs = read_runs(data, config.data.size)
    for name, share in one_shot_shares(network, runs, chosen, config.train.distortion, views):
        typer.echo(f"{name}: {share:.3f}", err=True)
        shares.append(share)
    _tell(mean_accuracy(shares), "runs")
    return 0


def episodes_command(
    weights: Weights,
    data: Annotated[Path, typer.Option(help="Folder of samples of classes that were not trained on")],
    ways: Annotated[int, typer.Option(help="Classes of an episode", min=1)] = 5,
    shots: Annotated[int, typer.Option(help="Labelled samples of each class", min=1)] = 1,
    queries: Annotated[int, typer.Option(help="Samples of each class to be told", min=1)] = 5,
    count: Annotated[int, typer.Option(help="Episodes", min=1)] = 600,
    seed: Annotated[int, typer.Option(help="Of the draw of the episodes")] = 0,
    classifier: Reading = "nearest",
) -> int:
    """Measure an encoder on N-way K-shot episodes drawn from samples with classes."""
    _require_torch()
    import numpy as np

    from tracker.encoder_builder import is_sequential, load_encoder, read_samples
    from tracker.encoding import embed_samples
    from tracker.fewshot import EpisodeSize, episode_accuracy, episodes, mean_accuracy

    network, config = load_encoder(weights)
    samples = read_samples(config, data)
    drawn = episodes(samples.labels, EpisodeSize(ways, shots, queries), count, np.random.default_rng(seed))
    embeddings = embed_samples(network, samples.values, is_sequential(config))
    chosen = _classifier(classifier, network.metric, config.train.temperature)
    _tell(mean_accuracy([episode_accuracy(embeddings, episode, chosen) for episode in drawn]), "episodes")
    return 0


def encoder_pairs_command(
    weights: Weights,
    pairs: Annotated[Path, typer.Option(help="List of pairs: .csv under the header a,b,same, or a pairs.txt of LFW")],
    images: Annotated[Path, typer.Option(help="Folder below which the pictures of the list lie")],
) -> int:
    """Measure how well an encoder tells pairs of pictures that show the same from others."""
    _require_torch()
    import numpy as np

    from tracker.data.pair_lists import read_pairs
    from tracker.encoder_builder import load_encoder
    from tracker.encoding import pair_similarities
    from tracker.verification import area, equal_error_rate, fold_accuracy, roc_curve

    network, config = load_encoder(weights)
    listed = read_pairs(pairs, images)
    same, folds = np.array([pair.same for pair in listed]), np.array([pair.fold for pair in listed])
    similarities = pair_similarities(network, config.data, listed)
    curve = roc_curve(similarities[same], similarities[~same])
    typer.echo(f"AUC {area(curve):.4f}, EER {equal_error_rate(curve):.4f} on {len(listed)} pairs")
    if folds.any():
        judged = fold_accuracy(similarities, same, folds)
        typer.echo(f"accuracy {judged.value:.4f} ({judged.low:.4f} to {judged.high:.4f}) over {folds.max() + 1} folds")
    return 0


def _classifier(name: str, similarity: "Similarity", temperature: float) -> "Classifier":
    from tracker import fewshot

    return {
        "nearest": fewshot.nearest_neighbour(similarity),
        "prototypes": fewshot.prototypes,
        "matching": fewshot.matching(temperature),
        "relation": fewshot.relation(similarity),
    }[name]


def _tell(accuracy: "Accuracy", problems: str) -> None:
    typer.echo(f"accuracy {accuracy.mean:.4f} +- {accuracy.half_width:.4f} over {accuracy.problems} {problems}")


def _require_torch() -> None:
    if find_spec("torch") is None:
        raise ValueError("encoders need torch: pip install 'siamtrack[train]'")
