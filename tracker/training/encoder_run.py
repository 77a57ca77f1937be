"""One training run of an encoder from configuration to weight file."""

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tracker.data.batches import BatchDataset, LabelledBatch
from tracker.data.labelled import LabelledSamples, with_rotations
from tracker.encoder_builder import (
    build_encoder,
    build_encoder_optimizer,
    build_loss,
    is_sequential,
    read_samples,
)
from tracker.encoder_config import EncoderConfig
from tracker.network_builder import inference_dtype
from tracker.toml_tree import read, to_toml
from tracker.training.metric_objectives import metric_objective
from tracker.training.mining import BalancedBatches
from tracker.training.provenance import revision, short_name
from tracker.training.ranges import check_encoder
from tracker.training.run_folder import alone, check_same_run, claim, has_weights, write_weights
from tracker.training.trainer import Schedule, Steps, Trainer

_REPORT_EVERY = 50  # steps


def train_encoder(config: Path, data: Path, out: Path, overrides: Sequence[str], threads: int) -> Iterator[str]:
    """Train on the samples below `data` and yield a line of progress every few steps.

    With each saved state goes `out/weights.safetensors`. A run goes on from its state in `out`, which must be of this
    configuration and these samples; a finished one keeps its files as they are. Raises ValueError for what does not
    fit, and where another run is at work in `out`.
    """
    torch.set_num_threads(threads)
    chosen = read(EncoderConfig, config.read_text(encoding="utf-8"), overrides)
    check_encoder(chosen)
    samples = _samples(chosen, data)
    dataset = _dataset(chosen, samples)
    facts = {
        "command": _command(config, data, out, overrides),
        "data": f"{len(samples.values)} samples of {len(samples.names)} classes in {short_name(data)}, "
        f"sha256 {_hash(samples)}",
        "revision": revision(),
    }
    with alone(out):
        yield from _run(_trainer(chosen, out, facts["data"]), dataset, to_toml(chosen), facts)


def _run(trainer: Trainer[LabelledBatch], dataset: BatchDataset, config: str, facts: dict[str, str]) -> Iterator[str]:
    """Go on from where the trainer stands to the end, and yield the lines of progress. config: TOML text."""
    if trainer.step == trainer.schedule.steps:
        yield f"the run in {trainer.run_dir} is finished already: it has taken its {trainer.step} steps"
    if trainer.step and not has_weights(trainer):
        write_weights(trainer, config, facts)
    recent = []
    for progress in trainer.run(dataset, batch=1, workers=0):
        recent.append(progress)
        last = progress.step == trainer.schedule.steps
        if progress.saved:
            write_weights(trainer, config, facts)
        if progress.step % _REPORT_EVERY == 0 or last:
            seconds = sum(one.seconds for one in recent) / len(recent)
            loss = sum(one.loss for one in recent) / len(recent)
            left = (trainer.schedule.steps - progress.step) * seconds / 60
            yield f"step {progress.step}/{trainer.schedule.steps}  loss {loss:.4f}  {left:.0f} min left"
            recent = []


def _samples(config: EncoderConfig, data: Path) -> LabelledSamples:
    samples = read_samples(config, data)
    if not config.data.rotations:
        return samples
    if config.data.layout == "sequences":
        raise ValueError("data.rotations turns pictures; sequences have none")
    return with_rotations(samples)


def _dataset(config: EncoderConfig, samples: LabelledSamples) -> BatchDataset:
    train = config.train
    batches = BalancedBatches(samples.labels, samples.names, train.classes, train.samples, train.seed)
    return BatchDataset(samples, batches, train.distortion, train.steps)


def _hash(samples: LabelledSamples) -> str:
    """Return the sha256 of all that is learned from."""
    digest = hashlib.sha256("\n".join(samples.names).encode())
    digest.update(samples.labels.tobytes())
    for value in samples.values:
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _trainer(config: EncoderConfig, out: Path, data: str) -> Trainer[LabelledBatch]:
    """Return a trainer that stands where the run in `out` ended. Raises ValueError for one of another kind."""
    train, text = config.train, to_toml(config)
    check_same_run(out, text, data, lambda known: read(EncoderConfig, known))
    torch.manual_seed(train.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_encoder(config).to(device)
    network.train()
    fastest = inference_dtype(device)
    # Convolutions bear half precision; the states of an LSTM add up rounding over all steps.
    dtype = None if fastest == torch.float32 or is_sequential(config) else fastest
    trainer = Trainer(
        network,
        metric_objective(build_loss(network, config.model, train), is_sequential(config), dtype),
        build_encoder_optimizer(network, train),
        Schedule(train.steps, train.warmup_steps, train.lr_start, train.lr_end, "cosine"),
        out,
        steps=Steps(ema=train.ema),
    )
    if trainer.step < train.steps:
        claim(out, text, data)
    return trainer


def _command(config: Path, data: Path, out: Path, overrides: Sequence[str]) -> str:
    words = ["siamtrack", "encoder", "train", short_name(config), "--data", short_name(data), "--out", short_name(out)]
    return shlex.join(words + [word for override in overrides for word in ("--set", override)])
