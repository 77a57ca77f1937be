"""What a trial is judged by: a weighted mean of success AUCs, in which each set counts once, not each video."""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Items

from tools.tuning.videos import Group, Scores

Shares = dict[str, dict[str, float]]  # of a group's kind in the objective; in all they are 1
AUC, OVERLAP = 0, 1  # places in what is measured of a kind


def make_shares(groups: Items[Group], weights: Mapping[str, float]) -> Shares:
    """Return what each group's kinds count: the weight of kind times set (1 where none is given), by groups of a set.

    Raises ValueError where nothing counts.
    """
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group in groups:
        for kind in group.videos:
            members[group.set_name, kind].append(group.name)
    counts = {key: weights.get(key[0], 1.0) * weights.get(key[1], 1.0) for key in members}
    total = sum(counts.values())
    if not total > 0:
        raise ValueError("nothing counts: all weights are 0, or there is no video")
    shares: Shares = {group.name: {} for group in groups}
    for key, names in members.items():
        for name in names:
            shares[name][key[1]] = counts[key] / total / len(names)
    return shares


def part(shares: Shares, scores: Scores, name: str) -> float:
    """Return what a group adds to the objective."""
    return sum(share * scores[name][kind][AUC] for kind, share in shares[name].items())


def objective(shares: Shares, scores: Scores) -> float:
    """Return the mean of the success AUCs; scores may be those of some groups, which then stand for all."""
    total = sum(sum(shares[name].values()) for name in scores)
    return sum(part(shares, scores, name) for name in scores) / total


def set_means(groups: Items[Group], scores: Scores, measure: int) -> dict[str, dict[str, float]]:
    """Return the mean of a measure by kind and set, each group counting once."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        for kind in group.videos:
            values[kind][group.set_name].append(scores[group.name][kind][measure])
    return {kind: {name: sum(v) / len(v) for name, v in by_set.items()} for kind, by_set in values.items()}
