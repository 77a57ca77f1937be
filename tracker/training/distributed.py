"""Train in several processes, started by `torchrun`: each sees its share of a batch, all take the same step.

Alone, every function here is without effect, so that one code serves both. A step of W processes with batch B is that
of one process with batch W B: gradients, the counts that losses are divided by and the statistics of BatchNorm are
those of the whole batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import Function


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, for the time of the context; without torchrun do nothing."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # While the first process tracks the validation videos the others wait.
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=6))
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; 0 writes what is written."""
    return dist.get_rank() if world_size() > 1 else 0


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; no gradient flows through it."""
    return _summed(value.detach()) / world_size()


def check_same_everywhere(value: int, name: str) -> None:
    """Raise ValueError unless a number is the same in all processes: they must share the folder that it came from."""
    if world_size() == 1:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = torch.tensor([value], device=device)
    found = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    if any(int(other) != value for other in found):
        numbers = ", ".join(str(int(other)) for other in found)
        raise ValueError(f"the processes stand at {name} {numbers}: give all the same --out, on a disk that they share")


def average_gradients(network: nn.Module) -> None:
    """Replace every gradient by its mean over all processes, in one message."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(mean.view_as(gradient))


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let each BatchNorm2d of a network take its statistics from all processes, in place; alone do nothing.

    torch's own SyncBatchNorm does so on GPUs only.
    """
    if world_size() == 1:
        return
    for name, module in [*network.named_modules()]:
        if isinstance(module, nn.BatchNorm2d):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, SyncedBatchNorm(module))


class SyncedBatchNorm(nn.Module):
    """Normalise as `nn.BatchNorm2d` does (Ioffe and Szegedy 2015), over the samples of all processes.

    Parameters and buffers have the names that they have there, so weights go from one to the other.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, plain: nn.BatchNorm2d) -> None:
        """Take over the parameters and buffers of a BatchNorm that learns both and has a momentum."""
        super().__init__()
        assert plain.momentum is not None
        self.weight, self.bias = plain.weight, plain.bias
        for name, buffer in plain.named_buffers():
            self.register_buffer(name, buffer)
        self.momentum = plain.momentum
        self.eps = plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, H, W) normalised."""
        wide = x.float()
        if self.training:
            mean, var = self._statistics(wide)
        else:
            mean, var = self.running_mean, self.running_var
        factor = self.weight * (var + self.eps).rsqrt()
        offset = self.bias - mean * factor
        return (wide * factor.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)).to(x.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the channels over all processes; the running ones follow."""
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums: Tensor = _SumOverRanks.apply(torch.cat([count, x.sum((0, 2, 3))]))  # type: ignore[no-untyped-call]
        total, mean = sums[0].detach(), sums[1:] / sums[0].detach()
        squares: Tensor = _SumOverRanks.apply((x - mean.view(1, -1, 1, 1)).square().sum((0, 2, 3)))  # type: ignore[no-untyped-call]
        var = squares / total
        with torch.no_grad():
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(squares.detach() / (total - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        return mean, var


class _SumOverRanks(Function):
    """Sum a tensor over all processes; each one's loss depends on every summand, so gradients are summed too."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return _summed(value)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        return _summed(grad)


def _summed(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, as a new tensor."""
    total = value.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total
