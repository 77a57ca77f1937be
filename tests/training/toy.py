"""A problem that trains in milliseconds: say from four random pixels where the object is.

`python -m tests.training.toy FOLDER` trains it there and prints every step, for a test to kill it.
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tracker.data.pairs import Pairs
from tracker.training.trainer import Schedule, Steps, Trainer

STEPS = 30
BATCH = 4
PLAIN = Steps()
SCHEDULE = Schedule(STEPS, warmup_steps=3, lr_start=0.05, lr_end=0.005)


class ToyPairs(Dataset[Pairs]):
    """Pairs of 2x2 pixels; the centres are a fixed linear map of them, with some noise."""

    def __init__(self, length: int = STEPS * BATCH) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pairs:
        generator = torch.Generator().manual_seed(index)
        searches = torch.randint(0, 256, (2, 3, 2, 2), generator=generator, dtype=torch.uint8)
        values = searches.flatten(1).float() / 255
        centres = values[:, :2] - values[:, 5:7] + 0.01 * torch.randn(2, 2, generator=generator)
        boxes = torch.cat([centres, torch.ones(2, 2)], dim=1)
        template = torch.zeros(3, 2, 2, dtype=torch.uint8)
        return Pairs(template, searches, torch.tensor([0.0, 0.0, 1.0, 1.0]), boxes, torch.tensor([True, True]))


def objective(network: nn.Module, pairs: Pairs) -> Tensor:
    found = network(pairs.searches.flatten(0, 1).flatten(1).float() / 255)
    return (found - pairs.boxes[..., :2].flatten(0, 1)).square().mean()


def make_trainer(
    folder: Path, seed: int = 0, save_every: int = 5, schedule: Schedule = SCHEDULE, steps: Steps = PLAIN
) -> Trainer:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    return Trainer(network, objective, optimizer, schedule, folder, save_every, steps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for progress in make_trainer(Path(sys.argv[1])).run(ToyPairs(), BATCH, workers=0):
        print(progress.step, progress.loss, flush=True)
        time.sleep(0.05)  # so that the kill comes before the end
