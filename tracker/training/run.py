"""One training run from configuration to weight file."""

import shlex
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from tracker import checkpoint
from tracker.config import Config, TrainConfig, parse
from tracker.data.pairs import PairDataset, Pairs
from tracker.data.shard_pairs import ShardPairs
from tracker.data.storage import Place
from tracker.models.siamese import SiameseNetwork
from tracker.network_builder import build_network, inference_dtype
from tracker.toml_tree import to_toml
from tracker.training.board import Board
from tracker.training.distributed import rank, synchronise_batch_norm, world_size
from tracker.training.pair_source import open_pairs
from tracker.training.provenance import revision, short_name
from tracker.training.ranges import check_training
from tracker.training.recipe import build_objective, build_optimizer
from tracker.training.run_folder import WEIGHTS, alone, check_same_run, claim, has_weights, write_weights
from tracker.training.start import recipe, refiners_of, start_from
from tracker.training.trainer import Progress, Schedule, Steps, Trainer
from tracker.training.watch import Watch, best_auc, forget, has_looked, read_pairs, read_sequences

_REPORT_EVERY = 50  # steps
_VALIDATION_FRAMES = 60  # of each track: trackers that fail do so early
_SAMPLES = 6  # templates drawn with what the network sees in their searches
_SKIPPED_SHARE = 0.01  # of the draws, that may meet pictures that cannot be read: beyond, the data are broken
_SKIPPED_FREE = 20  # of them that end no run however short
BUFFER_MB = 256  # of shards: some thousand tracks, next to which one more tells a draw little


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Say how a run is done; beside where it starts none of it changes what is learned.

    On shards, workers and buffer say which tracks are drawn together: a run goes on with its own.
    """

    workers: int  # processes that prepare pairs
    threads: int  # of the network
    init: Path | None = None  # weight file to start from
    validation: Path | None = None  # folder of tracks to follow with the weights so far
    validate_every: int = 1000  # steps
    tensorboard: bool = False
    buffer_mb: int = BUFFER_MB  # of pictures that each worker holds of shards, 10^6 bytes


def train(config: Path, data: Place, out: Path, overrides: Sequence[str], options: RunOptions) -> Iterator[str]:
    """Train on `data/tracks.jsonl`, or on shards, and yield a line of progress every few steps.

    With each saved state goes `out/weights.safetensors`, so a run that was stopped leaves a file that tracks, or, of a
    model without a head, one to start others from; what tracks best by `options.validation` is kept beside it, see
    `watch.Watch`. A run goes on from its state in `out`, which must be of this configuration and these data; a finished
    one keeps its files as they are. Where there is no state it starts from the weight file `options.init`: at that
    file's step if it comes from an unfinished run of this configuration, on these data and in as many processes, else
    at the first. In several processes, see `distributed`, the first alone writes. Raises ValueError for what does not
    fit, and where another run is at work in `out`.
    """
    torch.set_num_threads(options.threads)
    chosen, settings = _read(config, overrides)
    if options.validation is not None and chosen.model.head == "none":
        raise ValueError("a model without a head is taught features, not to track: leave --validation out")
    source = open_pairs(chosen, data, _schedule(settings).steps, options.workers, options.buffer_mb)
    watch = _watch(source.pairs, options)
    network = _network(chosen)
    said = {"command": _command(config, data, out, overrides, options.init), "data": source.fact}
    with alone(out):
        trainer = _trainer(chosen, network, out, source.fact, options.init)
        head = _embedding_facts(trainer, options.init)
        facts = _Facts(said | {"revision": revision()} | head.said, head.figures)
        yield from _run(trainer, source.pairs, chosen, facts, watch, options)
    if source.pairs.skipped:
        yield f"{source.pairs.skipped} draws met pictures that cannot be read; siamtrack data check names them"
    if chosen.model.embedding != "none" and not facts.figures:
        yield "the embedding head has not learned these features: for siamtrack verify, see siamtrack train-verifier"


def _run(
    trainer: Trainer[Pairs],
    dataset: PairDataset | ShardPairs,
    config: Config,
    facts: "_Facts",
    watch: Watch | None,
    options: RunOptions,
) -> Iterator[str]:
    """Go on from where the trainer stands to the end, and yield the lines of progress."""
    out = trainer.run_dir
    board = Board(out / "tensorboard") if options.tensorboard and rank() == 0 else None
    if trainer.step == trainer.schedule.steps:
        yield f"the run in {out} is finished already: it has taken its {trainer.step} steps"
    if trainer.step:
        if not has_weights(trainer):
            _write_weights(trainer, config, facts)
    elif options.init is not None and config.model.refiners not in (("none",), refiners_of(options.init)):
        yield "the refiner starts from nothing: without 100,000 pairs for it, leave it out, see train.refine_weight"
    try:
        yield from _steps(trainer, dataset, config, facts, watch, board, options)
    finally:
        if board is not None:
            board.close()


def _steps(
    trainer: Trainer[Pairs],
    dataset: PairDataset | ShardPairs,
    config: Config,
    facts: "_Facts",
    watch: Watch | None,
    board: Board | None,
    options: RunOptions,
) -> Iterator[str]:
    """Train to the end, write what there is to write, and yield the lines of progress."""
    settings = config.train
    assert settings is not None
    due = trainer.step > 0 and _is_due(trainer, options.validate_every)
    if watch is not None and due and not has_looked(trainer.run_dir, trainer.step):  # a kill came before its end
        yield _look(watch, trainer, board)
    recent: list[Progress] = []
    for progress in trainer.run(dataset, settings.batch, options.workers):
        recent.append(progress)
        last = progress.step == trainer.schedule.steps
        looks = watch is not None and _is_due(trainer, options.validate_every)
        if progress.saved or looks:
            _write_weights(trainer, config, facts)
        if board is not None:
            board.step(progress, trainer.schedule.lr(progress.step - 1))
        if progress.step % _REPORT_EVERY == 0 or last:
            yield _report(recent, trainer.schedule.steps)
            recent = []
            _check_skipped(dataset.skipped, progress.step * settings.batch)  # of this process
        if watch is not None and looks:
            yield _look(watch, trainer, board)


def _is_due(trainer: Trainer[Pairs], validate_every: int) -> bool:
    return trainer.step % validate_every == 0 or trainer.step == trainer.schedule.steps


def _look(watch: Watch, trainer: Trainer[Pairs], board: Board | None) -> str:
    """Track with the weights as they stand in the run's folder and return a line on it."""
    out, step = trainer.run_dir, trainer.step
    auc = watch.look(out / WEIGHTS, step)
    if board is not None:
        board.validation(step, auc)
    return f"step {step}: success AUC {auc:.3f} on validation, the best so far {best_auc(out):.3f}"


def _report(recent: Sequence[Progress], steps: int) -> str:
    """Return a line on the mean of the last steps, and how long the rest takes at their pace."""
    seconds = sum(progress.seconds for progress in recent)
    loss = sum(progress.loss for progress in recent) / len(recent)
    pairs = sum(progress.pairs_per_s * progress.seconds for progress in recent) / seconds
    waiting = sum(progress.waiting * progress.seconds for progress in recent) / seconds
    step = recent[-1].step
    left = (steps - step) * seconds / len(recent) / 60
    time_left = f"{left:.0f} min left" if left < 120 else f"{left / 60:.1f} h left"
    return f"step {step}/{steps}  loss {loss:.4f}  {pairs:.1f} pairs/s  waiting {waiting:.0%}  {time_left}"


def _watch(dataset: PairDataset | ShardPairs, options: RunOptions) -> Watch | None:
    if options.validation is None or rank() != 0:  # the others wait in their next step
        return None
    shown = copy(dataset)  # what it holds of shards goes with it: the workers hold their own
    samples = tuple(shown[at] for at in range(min(_SAMPLES, len(shown))))
    return Watch(read_sequences(options.validation, _VALIDATION_FRAMES), samples)


def _check_skipped(skipped: int, drawn: int) -> None:
    """Raise ValueError where so many draws met unreadable pictures that the data cannot be trusted."""
    if skipped > _SKIPPED_FREE + _SKIPPED_SHARE * drawn:
        raise ValueError(
            f"{skipped} of {drawn} draws met pictures that cannot be read, more than {_SKIPPED_SHARE:.0%}; "
            "see what siamtrack data check says of the data"
        )


def sample_pairs(config: Path, data: Place, count: int, overrides: Sequence[str]) -> list[Pairs]:
    """Return the first `count` templates with their searches that `train` would see, of shards with one worker.

    Raises ValueError as it does.
    """
    chosen, settings = _read(config, overrides)
    dataset = open_pairs(chosen, data, _schedule(settings).steps, 1, BUFFER_MB).pairs
    return [dataset[at] for at in range(min(count, len(dataset)))]


def _read(config: Path, overrides: Sequence[str]) -> tuple[Config, TrainConfig]:
    chosen = parse(config.read_text(encoding="utf-8"), overrides)
    if chosen.train is None:
        raise ValueError(f"{config} has no [train] table")
    check_training(chosen)
    return chosen, chosen.train


def _schedule(settings: TrainConfig) -> Schedule:
    per_step = settings.batch * settings.data.searches_per_template * world_size()
    if per_step > settings.pairs:
        step = f"train.batch * train.data.searches_per_template * processes = {per_step}"
        raise ValueError(f"train.pairs = {settings.pairs} must hold a step, {step}, and a step a pair")
    steps, warmup_steps = settings.pairs // per_step, settings.warmup_pairs // per_step
    return Schedule(steps, warmup_steps, settings.lr_start, settings.lr_end, settings.lr_fall)


def _network(config: Config) -> SiameseNetwork:
    """Return a network that is to be trained; from here on torch draws as the run's seed says."""
    assert config.train is not None
    torch.manual_seed(config.train.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network: SiameseNetwork = build_network(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    _check_sizes(network.eval(), config)
    network.train()
    synchronise_batch_norm(network)
    return network


def _trainer(config: Config, network: SiameseNetwork, out: Path, data: str, init: Path | None) -> Trainer[Pairs]:
    """Return a trainer that stands where the run in `out`, or else the weight file, ended. data: see `PairSource`."""
    settings = config.train
    assert settings is not None
    text = to_toml(config)
    check_same_run(out, text, data, recipe, "choose another folder, where --init starts from its weights")
    fastest = inference_dtype(network.mean.device)
    dtype = None if fastest == torch.float32 else fastest
    objective = build_objective(network, config, settings, dtype)
    trainer = Trainer(
        network,
        objective,
        build_optimizer(network, settings),
        _schedule(settings),
        out,
        steps=Steps(settings.clip_norm, settings.ema),
    )
    if init is not None and not trainer.step:
        start_from(init, trainer, config, data)
    if rank() == 0 and trainer.step < trainer.schedule.steps:
        if not trainer.step:
            forget(out)
        claim(out, text, data)
    return trainer


def _check_sizes(network: SiameseNetwork, config: Config) -> None:
    """Raise ValueError where the network does not read crops of the sizes that it is to be trained with."""
    assert config.train is not None and config.crop is not None
    sizes = config.crop.template_size, config.train.search_size
    template, search = (torch.zeros(1, 3, size, size, dtype=torch.uint8) for size in sizes)
    box = torch.tensor([[0.0, 0.0, sizes[0] / 2, sizes[0] / 2]])
    try:
        if network.head is None:
            network.features(search.to(network.mean.device))
        else:
            read_pairs(network, Pairs(template[0], search, box[0], box, torch.tensor([True])))
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the network reads no crops of crop.template_size = {sizes[0]} and train.search_size = {sizes[1]} pixels"
            f" ({reason}); see the sizes in the configurations that ship"
        ) from error


@dataclass(frozen=True, slots=True)
class _Facts:
    """Hold what the weight file says beside the weights."""

    said: dict[str, str]  # of where they come from
    figures: dict[str, float]  # that were measured


def _embedding_facts(trainer: Trainer[Pairs], init: Path | None) -> _Facts:
    """Return what the file that the run started from says of its embedding head.

    That holds for as long as the backbone, whose features the head reads, keeps its weights; else nothing is known.
    """
    before = trainer.run_dir / WEIGHTS
    start = before if trainer.step and before.is_file() else init
    learned = [name for name, parameter in trainer.network.named_parameters() if parameter.requires_grad]
    moves = any(name.startswith("backbone.") for name in learned)
    if start is None or moves or not any(name.startswith("embedding.") for name in learned):
        return _Facts({}, {})
    loaded = checkpoint.load(start)
    return _Facts(
        {name: text for name, text in loaded.provenance.items() if name.startswith("embedding")},
        {name: figure for name, figure in loaded.metrics.items() if name.startswith("verify_")},
    )


def _write_weights(trainer: Trainer[Pairs], config: Config, facts: _Facts) -> None:
    assert config.train is not None
    pairs = trainer.step * config.train.batch * config.train.data.searches_per_template * world_size()
    write_weights(
        trainer,
        to_toml(config),
        facts.said | {"pairs": str(pairs), "processes": str(world_size())},
        facts.figures,
    )


def _command(config_path: Path, data: Place, out: Path, overrides: Sequence[str], init: Path | None) -> str:
    words = ["siamtrack", "train", short_name(config_path), "--data", short_name(data), "--out", short_name(out)]
    words += ["--init", short_name(init)] if init is not None else []
    return shlex.join(words + [word for override in overrides for word in ("--set", override)])
