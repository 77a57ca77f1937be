"""The mean of two runs of one network: it knows much of what each learned, where one alone forgot."""

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from tracker import checkpoint

Lost = Literal["nothing", "head", "figures"]


def average(first: Path, second: Path, share: float, out: Path) -> Lost:
    """Write first + share * (second - first) of two weight files; return what of the embedding was lost by it.

    Configuration and tensors that are no weights are the second file's; the provenance names both. An embedding head
    reads the features of one backbone: it stays where both files hold the same one, as a model and what was fine-tuned
    from it do, else it is left out and trained again. What was measured of it, the threshold of `same` among it, stays
    where both hold the same backbone too. Raises ValueError for a share outside 0 to 1 and where the files
    are not of one network. Sources: Wortsman et al. 2022, "Model soups", section 2, and "Robust fine-tuning of
    zero-shot models", section 3.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the second file must be 0 to 1, got {share:g}")
    a, b = checkpoint.load(first), checkpoint.load(second)
    embeds = _same(a, b, "embedding.")
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
    figures: dict[str, float] = {}
    if embeds and _same(a, b, "backbone."):
        facts |= {
            n: text for n, text in b.provenance.items() if n.startswith("embedding") and a.provenance.get(n) == text
        }
        figures = {n: found for n, found in b.metrics.items() if n.startswith("verify_") and a.metrics.get(n) == found}
    checkpoint.save(out, dataclasses.replace(b, tensors=tensors, provenance=facts, metrics=figures))
    if not embeds:
        return "head"
    measured = any(name.startswith("verify_") for one in (a, b) for name in one.metrics)
    return "figures" if measured and not figures else "nothing"


def _same(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint, part: str) -> bool:
    """Return whether two files hold the same tensors of a part."""
    ours, theirs = ({n: t for n, t in one.tensors.items() if n.startswith(part)} for one in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
