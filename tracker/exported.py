"""A model exported as graphs: a folder of ONNX files, and `model.json` with their hashes and what they are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

FORMAT = "siamtrack-graphs-1"
CARD = "model.json"
BACKBONE, CODE, HEAD, EMBEDDING, REFINER = "backbone", "code", "head", "embedding", "refiner"


@dataclass(frozen=True, slots=True)
class Exported:
    """Hold what a folder of graphs says of itself."""

    config: str  # TOML
    stride: int  # of the deep features, pixels
    fine_weight: float  # of the fine features in the online filter's maps, part of the graph
    bears_bfloat16: bool  # whether runtimes may compute in that format
    outputs: Mapping[str, tuple[str, ...]]  # of each graph, in their order
    provenance: Mapping[str, str]
    sha256: Mapping[str, str]  # of each graph's file
    precision: str = "float32"  # of the graphs' convolutions; "int8" where they were quantised
    metrics: Mapping[str, float] = field(default_factory=dict)  # as the weight file has them
    format: str = FORMAT

    def path(self, folder: Path, graph: str) -> Path:
        """Return the file of a graph."""
        return folder / f"{graph}.onnx"


def write_card(folder: Path, exported: Exported) -> None:
    """Write `model.json` beside the graphs."""
    text = json.dumps(asdict(exported), indent=1, sort_keys=True)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> Exported:
    """Read what a folder holds and check its graphs' hashes. Raises ValueError naming the file that does not fit."""
    card = folder / CARD
    try:
        read = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {card} ({error}); export the model again") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise ValueError(f"{card} is of another version than {FORMAT}; export the model again with this siamtrack")
    try:
        exported = Exported(**{**read, "outputs": {name: tuple(names) for name, names in read["outputs"].items()}})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{card} does not say what it should ({error}); export the model again") from error
    if exported.sha256.keys() != exported.outputs.keys():
        raise ValueError(f"{card} has no hash of each graph; export the model again")
    for graph, claimed in exported.sha256.items():
        path = exported.path(folder, graph)
        if not path.is_file():
            raise ValueError(f"{path} is missing; export the model again")
        if digest(path) != claimed:
            raise ValueError(f"{path} was changed after it was written (sha256 differs); export the model again")
    return exported


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
