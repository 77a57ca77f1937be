"""One training run from configuration to weight file."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tracker import checkpoint, config as configuration
from tracker.builder import build_network, build_optimizer, inference_dtype, pair_config
from tracker.data.pairs import PairDataset
from tracker.data.tracks import read_tracks
from tracker.training.objectives import siamfc_objective
from tracker.training.trainer import Schedule, Trainer

_REPORT_EVERY = 50  # steps


def train(
    config_path: Path, data: Path, out: Path, workers: int, threads: int, overrides: Sequence[str]
) -> Iterator[str]:
    """Train, write `out/weights.safetensors`, and yield a line of progress every few steps."""
    torch.set_num_threads(threads)
    config = configuration.parse(config_path.read_text(encoding="utf-8"), overrides)
    settings = config.train
    if settings is None:
        raise ValueError(f"{config_path} has no [train] table")
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    pairs_per_step = settings.batch * settings.data.searches_per_template
    steps = settings.pairs // pairs_per_step
    schedule = Schedule(steps, settings.warmup_pairs // pairs_per_step, settings.lr_start, settings.lr_end)
    dataset = PairDataset(
        read_tracks(data / "tracks.jsonl"),
        settings.data.weights,
        pair_config(config, settings),
        settings.seed,
        steps * settings.batch,
    )
    dtype = inference_dtype(device)
    objective = siamfc_objective(
        network.backbone.stride, settings.label_radius, None if dtype == torch.float32 else dtype
    )
    trainer = Trainer(network, objective, build_optimizer(network, settings), schedule, out)
    mean_loss = 0.0
    for progress in trainer.run(dataset, settings.batch, workers):
        mean_loss += progress.loss / _REPORT_EVERY
        if progress.step % _REPORT_EVERY == 0:
            yield (
                f"step {progress.step}/{steps}  loss {mean_loss:.4f}  {progress.pairs_per_s:.1f} pairs/s"
                f"  waiting {progress.waiting:.0%}"
            )
            mean_loss = 0.0
