"""Average the weights of two runs of one network: what both learned stays, what one alone has seen weighs half.

    python tools/average_weights.py FIRST.safetensors SECOND.safetensors --out MEAN.safetensors

The result takes the second file's configuration, and says where both came from. An embedding head is left out: it reads
the features of one backbone, and is trained again. Source: Wortsman et al. 2022 (model soups), section 2.
"""

import argparse
import dataclasses
from pathlib import Path

from tracker import checkpoint


def average(first: Path, second: Path, out: Path) -> None:
    """Write the mean of two weight files. Raises ValueError where they are not of one network."""
    a, b = checkpoint.load(first), checkpoint.load(second)
    names = {name for name in b.tensors if not name.startswith("embedding.")}
    if names != {name for name in a.tensors if not name.startswith("embedding.")}:
        raise ValueError(f"{first} and {second} are not weights of one network")
    tensors = {}
    for name in sorted(names):
        mine, other = a.tensors[name], b.tensors[name]
        if mine.shape != other.shape:
            raise ValueError(f"{name} is {tuple(mine.shape)} in {first} and {tuple(other.shape)} in {second}")
        tensors[name] = ((mine.float() + other.float()) / 2).to(other.dtype) if other.is_floating_point() else other
    mean_of = {
        f"mean_of_{number}_{key}": text for number, one in ((1, a), (2, b)) for key, text in one.provenance.items()
    }
    checkpoint.save(out, dataclasses.replace(b, tensors=tensors, provenance=mean_of, metrics={}))


def main() -> None:
    """Read the command line and average."""
    parser = argparse.ArgumentParser(description="Average the weights of two runs of one network.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    average(args.first, args.second, args.out)


if __name__ == "__main__":
    main()
