"""The models that ship with the package: where their files lie, and what those say of themselves."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tracker.config import parse
from tracker.exported import CARD

DEFAULT_MODEL = "siamrpn_mobile"
WEIGHT_FORMAT = "siamtrack-1"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Say what a weight file is: where it lies, its size and parameters, and the scores that were measured with it."""

    name: str
    path: Path
    size_bytes: int
    parameters: int
    description: str
    metrics: dict[str, float]  # such as otb_auc (0..1) and update_ms


def zoo() -> list[ModelCard]:
    """Return the models that ship with the package, by name. Raises ValueError for a file that cannot be read."""
    return [read_model_card(path) for path in sorted(weights_folder().glob("*.safetensors"))]


def weights_folder() -> Path:
    """Return the folder of the weights, in an installed package or in a checkout."""
    package = Path(__file__).parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def find_config(name_or_path: str | Path) -> Path:
    """Return the file of a configuration that ships, in an installed package or in a checkout, or the path itself.

    Raises ValueError naming what is neither.
    """
    package = Path(__file__).parent
    installed = package / "configs"
    folder = installed if installed.is_dir() else package.parent / "configs"
    for path in (folder / f"{name_or_path}.toml", Path(name_or_path)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml")))
    raise ValueError(f"no configuration {str(name_or_path)!r}; give a file or one of: {known}")


def shipped_weights(name: str) -> Path | None:
    """Return the weight file of a model that ships, None for another name."""
    path = weights_folder() / f"{name}.safetensors"
    return path if _is_name(name) and path.is_file() else None


def _is_name(name_or_path: str) -> bool:
    """Return whether this may be a model's name: "./NAME", "NAME/" and ".." are paths."""
    return Path(name_or_path).name == name_or_path != ".."


def find_weights(name_or_path: str | Path | None) -> Path:
    """Return the weight file of a zoo model, of the default one for None, or the file itself.

    Raises ValueError naming what is no model and no file.
    """
    by_name = shipped_weights(str(name_or_path or DEFAULT_MODEL))
    if by_name is not None:
        return by_name
    path = Path(name_or_path or DEFAULT_MODEL)
    if path.is_file():
        return path
    known = ", ".join(file.stem for file in sorted(weights_folder().glob("*.safetensors")))
    raise ValueError(f"unknown model {str(name_or_path)!r}; give a weight file or one of: {known}")


def find_graphs(name_or_path: str | Path | None) -> Path | None:
    """Return the folder of exported graphs, of a zoo model or as it is given; None where there is none."""
    name = str(name_or_path or DEFAULT_MODEL)
    by_name = weights_folder() / "graphs" / name
    if _is_name(name) and by_name.is_dir():
        return by_name
    path = Path(name_or_path or DEFAULT_MODEL)
    return path if path.is_dir() else None


def find_file(name_or_path: str | Path | None, runtime: str) -> Path:
    """Return the file that tells a model from others: its weights or, where a runtime takes them, its graphs' card.

    Raises ValueError naming what is no model and no file.
    """
    graphs = find_graphs(name_or_path)
    if graphs is not None and (runtime != "torch" or is_folder(name_or_path)):
        return graphs / CARD
    return find_weights(name_or_path)


def is_folder(name_or_path: str | Path | None) -> bool:
    """Return whether graphs are asked for by their folder: there are no weights beside them then."""
    return name_or_path is not None and find_graphs(name_or_path) == Path(name_or_path)


def read_model_card(path: Path) -> ModelCard:
    """Return what a weight file says of itself. Raises ValueError for a file that cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            meta = dict(file.metadata() or {})
            parameters = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the weight file {path} ({error}); fetch it again") from error
    if meta.get("format") != WEIGHT_FORMAT:
        raise ValueError(f"{path} is no siamtrack weight file (format {meta.get('format')!r}, not {WEIGHT_FORMAT!r})")
    return ModelCard(
        name=path.stem,
        path=path,
        size_bytes=path.stat().st_size,
        parameters=parameters,
        description=parse(meta["config"]).description,
        metrics=json.loads(meta["metrics"]),
    )
