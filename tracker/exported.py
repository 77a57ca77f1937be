"""A model exported as graphs: a folder of files, and `model.json` with their hashes and what they are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

FORMAT = "siamtrack-graphs-2"
CARD = "model.json"
GRAPHS = BACKBONE, CODE, HEAD, EMBEDDING, REFINER = "backbone", "code", "head", "embedding", "refiner"
# How a graph may be written: the endings of its files, and what runs it here, the fastest first. Programs of torch are
# for other programs: torch unpickles parts of them, and a model that is given must not run code.
ENDINGS = {"onnx": (".onnx",), "openvino": (".xml", ".bin"), "torch": (".pt2",)}
RUNTIMES = {"onnx": ("openvino", "onnx"), "openvino": ("openvino",), "torch": ()}


@dataclass(frozen=True, slots=True)
class Exported:
    """Hold what a folder of graphs says of itself."""

    config: str  # TOML
    stride: int  # of the deep features, pixels
    fine_weight: float  # of the fine features in the online filter's maps, part of the graph
    bears_bfloat16: bool  # whether runtimes may compute in that format
    outputs: Mapping[str, tuple[str, ...]]  # of each graph, in their order
    provenance: Mapping[str, str]
    sha256: Mapping[str, str]  # of each graph's files, one after the other
    precision: str = "float32"  # of the graphs' convolutions; "int8" where they were quantised
    metrics: Mapping[str, float] = field(default_factory=dict)  # as the weight file has them
    format: str = FORMAT
    kind: str = "onnx"  # of the graphs' files, see `ENDINGS`

    def path(self, folder: Path, graph: str) -> Path:
        """Return the file of a graph that runtimes are given."""
        return self.files(folder, graph)[0]

    def files(self, folder: Path, graph: str) -> list[Path]:
        """Return all files of a graph."""
        return [folder / f"{graph}{ending}" for ending in ENDINGS[self.kind]]

    def inputs(self, graph: str) -> tuple[str, ...]:
        """Return the names of what a graph takes, in their order; an ONNX graph leaves out what it has no use for."""
        codes = self.outputs.get(CODE, ())
        return {
            BACKBONE: ("images",),
            CODE: ("deep", "object_wh"),
            HEAD: ("deep", "fine", *codes),
            EMBEDDING: ("pooled",),
            REFINER: ("template", "window"),
        }[graph]


def begin(folder: Path, source: Path | None = None) -> None:
    """Make a folder for graphs, without what an export before left there, its card first: the rest is no model.

    Raises ValueError where it is the folder that the graphs are made from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source is not None and folder.samefile(source):
        raise ValueError(f"{folder} holds the graphs that are read: give another folder to write to")
    if not (folder / CARD).exists():
        return
    (folder / CARD).unlink()
    for graph in GRAPHS:
        for ending in chain.from_iterable(ENDINGS.values()):
            (folder / f"{graph}{ending}").unlink(missing_ok=True)


def write_card(folder: Path, exported: Exported) -> None:
    """Write `model.json` beside the graphs."""
    text = json.dumps(asdict(exported), indent=1, sort_keys=True)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> Exported:
    """Read what a folder holds and check its graphs' hashes. Raises ValueError naming the file that does not fit."""
    exported = read_claims(folder)
    for graph, claimed in exported.sha256.items():
        files = exported.files(folder, graph)
        missing = next((path for path in files if not path.is_file()), None)
        if missing is not None:
            raise ValueError(f"{missing} is missing; export the model again")
        if digest(*files) != claimed:
            names = " or ".join(map(str, files))
            raise ValueError(f"{names} was changed after it was written (sha256 differs); export the model again")
    return exported


def read_claims(folder: Path) -> Exported:
    """Read what a folder says that it holds. Raises ValueError naming the card where it cannot be read."""
    card = folder / CARD
    if not card.is_file():
        raise ValueError(f"{folder} holds no exported graphs, for there is no {card}; give a weight file, or export it")
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
    if exported.kind not in tuple(ENDINGS):
        raise ValueError(f"{card} is of graphs of another kind, {exported.kind!r}; export the model again")
    if exported.sha256.keys() != exported.outputs.keys():
        raise ValueError(f"{card} has no hash of each graph; export the model again")
    return exported


def digest(*paths: Path) -> str:
    """Return the sha256 of files, one after the other."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
