"""Fully-convolutional backbones: images in, feature maps out, shared by template and search."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tracker.models.depthwise import DepthwiseConv2d

FINE_STRIDE = 8  # of the fine features of every backbone, pixels


class Features(NamedTuple):
    """Hold two maps of one pass, each symmetrical around the middle of the image.

    The middle of a map of n cells, cell (n - 1) / 2, looks at the middle of an image whose size the backbone names.
    """

    fine: Tensor  # (N, c, h, w), stride 8: shapes and edges, for measuring place and size
    deep: Tensor  # (N, C, h, w), the backbone's stride: what the thing is, for finding it

    def detached(self) -> "Features":
        """Return the maps without their gradient, for what reads them and must not change them."""
        return Features(self.fine.detach(), self.deep.detach())


class Backbone(Protocol):
    """Embed normalised images (N, 3, H, W)."""

    stride: int  # of the deep features, pixels
    channels: int  # of the deep features
    fine_channels: int
    bears_bfloat16: bool  # whether it may be computed in that format without changing what a tracker decides

    def __call__(self, images: Tensor) -> Tensor:
        """Return the deep features."""

    def features(self, images: Tensor) -> Features:
        """Return fine and deep features."""


def _conv(channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return convolution without padding, BatchNorm and ReLU."""
    return [
        nn.Conv2d(channels[0], channels[1], kernel, stride, groups=groups),
        nn.BatchNorm2d(channels[1]),
        nn.ReLU(inplace=True),
    ]


def fuse_batch_norm(network: nn.Module) -> None:
    """Fold each BatchNorm that follows a convolution in an `nn.Sequential` into it, in place; for inference only."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            conv, norm = module[i], module[i + 1]
            if isinstance(conv, nn.Conv2d | DepthwiseConv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var]
                module[i], module[i + 1] = fused, nn.Identity()


class SiamFCAlexNet(nn.Module):
    """Embed images as the AlexNet of SiamFC does: (N, 3, H, W) -> (N, 256, h, w), total stride 8, no padding.

    127 px give 6x6 cells, 255 px give 22x22. Source: Bertinetto et al. 2016, table 1 (its channel maps count the two
    groups of conv2, conv4 and conv5 apart).
    """

    stride = 8
    channels = 256
    fine_channels = 256
    bears_bfloat16 = True  # see MobileNetV3Small

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_conv((3, 96), 11, stride=2),
            nn.MaxPool2d(3, 2),
            *_conv((96, 256), 5, groups=2),
            nn.MaxPool2d(3, 2),
            *_conv((256, 384), 3),
            *_conv((384, 384), 3, groups=2),
            nn.Conv2d(384, 256, 3, groups=2),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def features(self, images: Tensor) -> Features:
        """Return the maps after pool2 (N, 256, h, w) and after conv5 (N, 256, h, w) of normalised images."""
        fine = self.layers[:8](images)
        return Features(fine, self.layers[8:](fine))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 256, h, w) of normalised images (N, 3, H, W)."""
        features: Tensor = self.layers(images)
        return features


class _BasicBlock(nn.Module):
    """Add two 3x3 convolutions to their input (He et al. 2016, figure 2); BatchNorm is folded into them."""

    def __init__(self, channels: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels[0], channels[1], 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels[1], channels[1], 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(channels[0], channels[1], 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, channels[1], ceil(H / stride), ceil(W / stride))."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.relu(self.conv1(x))) + shortcut)
        return out


class ResNet18(nn.Module):
    """Embed images as ResNet-18 does up to its third stage: (N, 3, H, W) -> (N, 256, ceil(H/16), ceil(W/16)).

    BatchNorm is folded into the convolutions. With padding of k // 2 everywhere, cell i looks at pixel 16 i + 0.5, so
    a size of 16 n + 1 puts the cells symmetrically around the middle of the crop. Source: He et al. 2016, table 1.
    """

    stride = 16
    channels = 256
    fine_channels = 128
    bears_bfloat16 = True

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_BasicBlock((64, 64), 1), _BasicBlock((64, 64), 1))
        self.layer2 = nn.Sequential(_BasicBlock((64, 128), 2), _BasicBlock((128, 128), 1))
        self.layer3 = nn.Sequential(_BasicBlock((128, 256), 2), _BasicBlock((256, 256), 1))

    def features(self, images: Tensor) -> Features:
        """Return the maps of the second stage (N, 128, h, w) and the third (N, 256, h, w) of normalised images."""
        fine = self.layer2(self.layer1(self.maxpool(self.relu(self.conv1(images)))))
        return Features(fine, self.layer3(fine))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 256, h, w) of normalised images (N, 3, H, W)."""
        return self.features(images).deep


class _SqueezeExcite(nn.Module):
    """Weigh channels by what the whole map holds (Hu et al. 2018, section 3, with the hard sigmoid of MobileNetV3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (N, C, H, W), each channel times a factor in [0, 1]."""
        # The hard sigmoid, written out: OpenVINO folds it into the convolution, and as one operator it does not.
        factors: Tensor = self.fc2(self.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * (factors / 6 + 0.5).clamp(0, 1)


class _Expansion(NamedTuple):
    """Describe an inverted residual; `squeezed` is 0 without squeeze and excitation."""

    channels: tuple[int, int]
    expanded: int
    kernel: int
    stride: int
    squeezed: int
    activation: type[nn.Module]


class _InvertedResidual(nn.Module):
    """Widen, convolve each channel apart, narrow (Howard et al. 2019, figure 4); BatchNorm is folded in."""

    def __init__(self, shape: _Expansion) -> None:
        super().__init__()
        (inputs, outputs), wide = shape.channels, shape.expanded
        layers: list[nn.Module] = []
        if wide != inputs:
            layers.append(nn.Sequential(nn.Conv2d(inputs, wide, 1), shape.activation()))
        depthwise = DepthwiseConv2d(wide, shape.kernel, shape.stride)
        layers.append(nn.Sequential(depthwise, shape.activation()))
        if shape.squeezed:
            layers.append(_SqueezeExcite(wide, shape.squeezed))
        layers.append(nn.Sequential(nn.Conv2d(wide, outputs, 1)))
        self.block = nn.Sequential(*layers)
        self.adds = inputs == outputs and shape.stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, channels[1], ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.block(x)
        return x + out if self.adds else out


class MobileNetV3Small(nn.Module):
    """Embed images as MobileNetV3-small does up to stride 16: (N, 3, H, W) -> (N, 288, ceil(H/16), ceil(W/16)).

    The deep features are the widened ones of the ninth block, the last before its stride: they tell things apart better
    than the 48 channels they are made of. BatchNorm is folded into the convolutions. Padding and sizes are those of
    `ResNet18`. Source: Howard et al. 2019, table 2.
    """

    stride = 16
    channels = 288
    fine_channels = 24
    # Its factors and hard activations lose more bits than plain convolutions do: features are off by 7 %, boxes by more
    # than a pixel, for a quarter of the time.
    bears_bfloat16 = False

    def __init__(self) -> None:
        super().__init__()
        relu, hswish = nn.ReLU, nn.Hardswish
        self.conv1 = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), hswish())
        self.layer1 = nn.Sequential(_InvertedResidual(_Expansion((16, 16), 16, 3, 2, 8, relu)))
        self.layer2 = nn.Sequential(
            _InvertedResidual(_Expansion((16, 24), 72, 3, 2, 0, relu)),
            _InvertedResidual(_Expansion((24, 24), 88, 3, 1, 0, relu)),
        )
        self.layer3 = nn.Sequential(
            _InvertedResidual(_Expansion((24, 40), 96, 5, 2, 24, hswish)),
            _InvertedResidual(_Expansion((40, 40), 240, 5, 1, 64, hswish)),
            _InvertedResidual(_Expansion((40, 40), 240, 5, 1, 64, hswish)),
            _InvertedResidual(_Expansion((40, 48), 120, 5, 1, 32, hswish)),
            _InvertedResidual(_Expansion((48, 48), 144, 5, 1, 40, hswish)),
            nn.Sequential(nn.Conv2d(48, 288, 1), hswish()),
        )

    def features(self, images: Tensor) -> Features:
        """Return the maps of stride 8 (N, 24, h, w) and stride 16 (N, 288, h, w) of normalised images."""
        fine = self.layer2(self.layer1(self.conv1(images)))
        return Features(fine, self.layer3(fine))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 288, h, w) of normalised images (N, 3, H, W)."""
        return self.features(images).deep


class EfficientNetLite0(nn.Module):
    """Embed images as EfficientNet-Lite0 does up to stride 16: (N, 3, H, W) -> (N, 672, ceil(H/16), ceil(W/16)).

    The deep features are the widened ones of its twelfth block, the last before its stride, see `MobileNetV3Small`.
    BatchNorm is folded into the convolutions. Padding and sizes are those of `ResNet18`. Source: Tan and Le 2019, table
    1, without squeeze and excitation and with ReLU6, as Google's Lite models have it.
    """

    stride = 16
    channels = 672
    fine_channels = 40
    bears_bfloat16 = True

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU6())
        self.layer1 = nn.Sequential(
            _InvertedResidual(_Expansion((32, 16), 32, 3, 1, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((16, 24), 96, 3, 2, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((24, 24), 144, 3, 1, 0, nn.ReLU6)),
        )
        self.layer2 = nn.Sequential(
            _InvertedResidual(_Expansion((24, 40), 144, 5, 2, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((40, 40), 240, 5, 1, 0, nn.ReLU6)),
        )
        self.layer3 = nn.Sequential(
            _InvertedResidual(_Expansion((40, 80), 240, 3, 2, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((80, 80), 480, 3, 1, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((80, 80), 480, 3, 1, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((80, 112), 480, 5, 1, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((112, 112), 672, 5, 1, 0, nn.ReLU6)),
            _InvertedResidual(_Expansion((112, 112), 672, 5, 1, 0, nn.ReLU6)),
            nn.Sequential(nn.Conv2d(112, 672, 1), nn.ReLU6()),
        )

    def features(self, images: Tensor) -> Features:
        """Return the maps of stride 8 (N, 40, h, w) and stride 16 (N, 672, h, w) of normalised images."""
        fine = self.layer2(self.layer1(self.conv1(images)))
        return Features(fine, self.layer3(fine))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 672, h, w) of normalised images (N, 3, H, W)."""
        return self.features(images).deep
