"""One training run of an encoder from configuration to weight file."""

import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from tracker import checkpoint
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
from tracker.training.provenance import hardware, revision, short_name, shrunk
from tracker.training.trainer import Schedule, Steps, Trainer
from tracker.whole_file import write_whole

_REPORT_EVERY = 50  # steps


def train_encoder(config: Path, data: Path, out: Path, overrides: Sequence[str], threads: int) -> Iterator[str]:
    """Train on the samples below `data` and yield a line of progress every few steps.

    With each saved state goes `out/weights.safetensors`. A run goes on from its state in `out`. Raises ValueError for
    what does not fit.
    """
    torch.set_num_threads(threads)
    chosen = read(EncoderConfig, config.read_text(encoding="utf-8"), overrides)
    samples = _samples(chosen, data)
    dataset = _dataset(chosen, samples)
    trainer = _trainer(chosen, out)
    facts = {
        "command": _command(config, data, out, overrides),
        "data": f"{len(samples.values)} samples of {len(samples.names)} classes in {short_name(data)}",
        "revision": revision(),
    }
    if trainer.step:  # a kill may have come between the state and the weights
        _write_weights(trainer, chosen, facts)
    recent = []
    for progress in trainer.run(dataset, batch=1, workers=0):
        recent.append(progress)
        last = progress.step == trainer.schedule.steps
        if progress.saved:
            _write_weights(trainer, chosen, facts)
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


def _trainer(config: EncoderConfig, out: Path) -> Trainer[LabelledBatch]:
    """Return a trainer that stands where the run in `out` ended. Raises ValueError for one of another configuration."""
    train = config.train
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
    kept = out / "config.toml"
    if trainer.step and kept.exists() and read(EncoderConfig, kept.read_text(encoding="utf-8")) != config:
        raise ValueError(f"{out} holds a run of another configuration, see {kept}; choose another folder")
    write_whole(kept, to_toml(config))
    return trainer


def _write_weights(trainer: Trainer[LabelledBatch], config: EncoderConfig, facts: dict[str, str]) -> None:
    provenance = facts | {
        "steps": str(trainer.step),
        "hours": f"{trainer.seconds / 3600:.4f}",
        "hardware": hardware(),
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    tensors = {name: shrunk(tensor.cpu()) for name, tensor in trainer.result.state_dict().items()}
    weights = checkpoint.Checkpoint(tensors, to_toml(config), provenance, metrics={})
    checkpoint.save(trainer.run_dir / "weights.safetensors", weights)


def _command(config: Path, data: Path, out: Path, overrides: Sequence[str]) -> str:
    words = ["siamtrack", "encoder", "train", short_name(config), "--data", short_name(data), "--out", short_name(out)]
    return shlex.join(words + [word for override in overrides for word in ("--set", override)])
