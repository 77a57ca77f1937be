"""Write the curves of a run for TensorBoard."""

from pathlib import Path

from tracker.training.trainer import Progress


class Board:
    """Write scalars into a folder that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path) -> None:
        """Open the folder. Raises ValueError where TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError("TensorBoard is not installed: pip install 'siamtrack[train]'") from error
        self._writer = SummaryWriter(str(folder))

    def step(self, progress: Progress, lr: float) -> None:
        """Add one step's loss, learning rate, pairs a second and share of waiting."""
        figures = {"loss": progress.loss, "lr": lr, "pairs_per_s": progress.pairs_per_s, "waiting": progress.waiting}
        for name, value in figures.items():
            self._writer.add_scalar(f"train/{name}", value, progress.step)

    def close(self) -> None:
        """Write what is left to disk."""
        self._writer.close()

    def validation(self, step: int, success_auc: float) -> None:
        """Add the score of the weights after a step, and write all to disk."""
        self._writer.add_scalar("validation/success_auc", success_auc, step)
        self._writer.flush()
