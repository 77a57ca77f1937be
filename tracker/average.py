"""The mean of two runs of one network: it knows much of what each learned, where one alone forgot."""

import dataclasses
from pathlib import Path

import torch

from tracker import checkpoint


def average(first: Path, second: Path, share: float, out: Path) -> bool:
    """Write first + share * (second - first) of two weight files; return False where an embedding head was left out.

    Configuration and tensors that are no weights are the second file's; the provenance names both. An embedding head
    reads the features of one backbone: it stays where both files hold the same one, as a model and what was fine-tuned
    from it do, else it is left out and trained again. Raises ValueError for a share outside 0 to 1 and where the files
    are not of one network. Sources: Wortsman et al. 2022, "Model soups", section 2, and "Robust fine-tuning of
    zero-shot models", section 3.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the second file must be 0 to 1, got {share:g}")
    a, b = checkpoint.load(first), checkpoint.load(second)
    embeds = _same_embedding(a, b)
    names = [{name for name in one.tensors if embeds or not name.startswith("embedding.")} for one in (a, b)]
    if names[0] != names[1]:
        parts = ", ".join(sorted({name.partition(".")[0] for name in names[0] ^ names[1]}))
        raise ValueError(
            f"{first} and {second} are not weights of one network: they differ in what they have of {parts}"
        )
    tensors = {}
    for name in sorted(names[1]):
        mine, other = a.tensors[name], b.tensors[name]
        if mine.shape != other.shape:
            raise ValueError(f"{name} is {tuple(mine.shape)} in {first} and {tuple(other.shape)} in {second}")
        mean = torch.lerp(mine.float(), other.float(), share)
        tensors[name] = mean.to(other.dtype) if other.is_floating_point() else other
    mean_of = {
        f"mean_of_{number}_{key}": text for number, one in ((1, a), (2, b)) for key, text in one.provenance.items()
    }
    facts = {**mean_of, "mean_share": f"{share:g} of the second"}
    checkpoint.save(out, dataclasses.replace(b, tensors=tensors, provenance=facts, metrics={}))
    return embeds


def _same_embedding(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> bool:
    heads = [{n: t for n, t in one.tensors.items() if n.startswith("embedding.")} for one in (a, b)]
    return heads[0].keys() == heads[1].keys() and all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
