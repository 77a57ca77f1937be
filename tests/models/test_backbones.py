import copy
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid

from tests.tolerances import assert_close
from tracker.models.backbones import (
    EfficientNetLite0,
    MobileNetV3Small,
    ResNet18,
    SiamFCAlexNet,
    _SqueezeExcite,
    fuse_batch_norm,
)
from tracker.models.depthwise import DepthwiseConv2d

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


@pytest.fixture(scope="module")
def alexnet() -> SiamFCAlexNet:
    """Return a network whose BatchNorm has seen data, in evaluation mode."""
    torch.manual_seed(0)
    network = SiamFCAlexNet()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def resnet() -> ResNet18:
    torch.manual_seed(1)
    network = ResNet18()
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def mobilenet() -> MobileNetV3Small:
    torch.manual_seed(2)
    return lively(MobileNetV3Small())


@pytest.fixture(scope="module")
def efficientnet() -> EfficientNetLite0:
    torch.manual_seed(3)
    return lively(EfficientNetLite0())


def lively(network: AnyNetwork) -> AnyNetwork:
    """Return a network whose answers depend on all that it sees, in evaluation mode."""
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.2)
        else:
            nn.init.kaiming_normal_(parameter)
    return network.eval()


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def embed(network: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        features: Tensor = network(batch)
    return features


@pytest.mark.parametrize(("size", "cells"), [(87, 1), (127, 6), (191, 14), (255, 22)])
def test_alexnet_sizes(alexnet: SiamFCAlexNet, size: int, cells: int) -> None:
    assert embed(alexnet, images(1, 3, size, size)).shape == (1, alexnet.channels, cells, cells)


def test_alexnet_has_the_channels_of_the_paper(alexnet: SiamFCAlexNet) -> None:
    convolutions = [m for m in alexnet.modules() if isinstance(m, nn.Conv2d)]
    # Table 1 counts the input maps of one group: 3, 48, 256, 192, 192.
    assert [tuple(m.weight.shape) for m in convolutions] == [
        (96, 3, 11, 11),
        (256, 48, 5, 5),
        (384, 256, 3, 3),
        (384, 192, 3, 3),
        (256, 192, 3, 3),
    ]
    assert all(m.padding == (0, 0) for m in convolutions)


@pytest.mark.parametrize("cells", [1, 2])
def test_alexnet_moves_with_the_image(alexnet: SiamFCAlexNet, cells: int) -> None:
    shift, size = cells * alexnet.stride, 127
    image = images(1, 3, size + shift, size + shift)
    whole = embed(alexnet, image)
    assert_close(embed(alexnet, image[..., :size, shift:]), whole[..., :6, cells:], "float32")
    assert_close(embed(alexnet, image[..., shift:, :size]), whole[..., cells:, :6], "float32")
    # A shift that is no multiple of the stride does not: the test can tell.
    assert not torch.allclose(embed(alexnet, image[..., :size, 3 : size + 3]), whole[..., :6, :6], rtol=0.1)


def test_alexnet_sees_a_template_the_same_wherever_it_lies(alexnet: SiamFCAlexNet) -> None:
    template, search = images(1, 3, 127, 127), images(1, 3, 191, 191, seed=1)
    search[..., 24:151, 40:167] = template  # cells 3 down and 5 to the right
    found = embed(alexnet, search)[..., 3:9, 5:11]
    assert_close(found, embed(alexnet, template), "float32")
    # Response cell 5 of 9 stands for an offset of 8 px, which is where the template's middle lies.
    assert (5 - (9 - 1) / 2) * alexnet.stride == 40 + 127 / 2 - 191 / 2


def test_cells_of_alexnet_lie_symmetrically_in_the_crop(alexnet: SiamFCAlexNet) -> None:
    image = images(1, 3, 103, 103)
    assert_close(embed(mirrored(alexnet), image.flip(3)), embed(alexnet, image).flip(3), "float32")


def test_fused_batch_norm_changes_nothing(alexnet: SiamFCAlexNet) -> None:
    plain = copy.deepcopy(alexnet).double()
    fused = copy.deepcopy(plain)
    fuse_batch_norm(fused)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    batch = images(2, 3, 95, 103, dtype=torch.float64)
    assert_close(embed(fused, batch), embed(plain, batch), "float64")


@pytest.mark.parametrize("name", ["alexnet", "resnet", "mobilenet", "efficientnet"])
def test_layout_in_memory_changes_nothing(name: str, request: pytest.FixtureRequest) -> None:
    network = request.getfixturevalue(name)
    batch = images(2, 3, 97, 97)
    features = embed(network, batch)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert_close(embed(last, batch.contiguous(memory_format=torch.channels_last)), features, "float32")


def test_images_of_a_batch_do_not_touch(alexnet: SiamFCAlexNet) -> None:
    batch = images(3, 3, 95, 95)
    assert_close(embed(alexnet, batch)[1:2], embed(alexnet, batch[1:2]), "float32")


@pytest.mark.parametrize(("size", "cells"), [(33, 3), (113, 8), (128, 8), (129, 9)])
def test_sizes_of_padded_backbones(
    resnet: ResNet18, mobilenet: MobileNetV3Small, efficientnet: EfficientNetLite0, size: int, cells: int
) -> None:
    for network in (resnet, mobilenet, efficientnet):
        assert embed(network, images(1, 3, size, size)).shape == (1, network.channels, cells, cells)
        assert cells == -(-size // network.stride)


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "efficientnet"])
@pytest.mark.parametrize(("width", "symmetric"), [(65, True), (81, True), (64, False), (72, False)])
def test_padded_cells_lie_symmetrically_in_16_n_plus_1(
    name: str, width: int, symmetric: bool, request: pytest.FixtureRequest
) -> None:
    network = request.getfixturevalue(name)
    image = images(1, 3, 33, width)
    features = embed(network, image).flip(3)
    flipped = embed(mirrored(network), image.flip(3))
    assert torch.allclose(flipped, features, rtol=0, atol=1e-5 * float(features.abs().max())) == symmetric


def test_cells_of_resnet_are_a_stride_apart(resnet: ResNet18) -> None:
    """The shortcuts alone, from conv1 on, look at pixel 16 i: the step of an impulse shows it, away from the border."""
    image = images(1, 3, 33, 257)
    moved = image.roll(resnet.stride, dims=3)
    margin = 7  # cells: the field of a cell reaches 105 pixels to each side
    features, shifted = embed(resnet, image), embed(resnet, moved)
    assert_close(shifted[..., margin + 1 : -margin], features[..., margin : -margin - 1], "float32")


def test_mobilenet_has_the_convolutions_of_the_paper(mobilenet: MobileNetV3Small) -> None:
    # Howard et al. 2019, table 2, of the first eight blocks: widened and narrowed channels, kernel, stride.
    table = [(16, 16, 3, 2), (72, 24, 3, 2), (88, 24, 3, 1), (96, 40, 5, 2), (240, 40, 5, 1), (240, 40, 5, 1)]
    table += [(120, 48, 5, 1), (144, 48, 5, 1)]
    depthwise = [m for m in mobilenet.modules() if isinstance(m, DepthwiseConv2d)]
    assert [(len(m.weight), m.kernel, m.stride) for m in depthwise] == [
        (wide, kernel, stride) for wide, _, kernel, stride in table
    ]
    blocks = [*mobilenet.layer1, *mobilenet.layer2, *mobilenet.layer3[:-1]]
    assert [block.block[-1][0].out_channels for block in blocks] == [narrow for _, narrow, _, _ in table]
    assert mobilenet.layer3[-1][0].weight.shape == (288, 48, 1, 1)


def test_efficientnet_has_the_convolutions_of_the_paper(efficientnet: EfficientNetLite0) -> None:
    # Tan and Le 2019, table 1: widened and narrowed channels, kernel and stride of the first eleven blocks.
    table = [(32, 16, 3, 1), (96, 24, 3, 2), (144, 24, 3, 1), (144, 40, 5, 2), (240, 40, 5, 1), (240, 80, 3, 2)]
    table += [(480, 80, 3, 1), (480, 80, 3, 1), (480, 112, 5, 1), (672, 112, 5, 1), (672, 112, 5, 1)]
    blocks = [*efficientnet.layer1, *efficientnet.layer2, *efficientnet.layer3[:-1]]
    depthwise = [block.block[-2][0] for block in blocks]
    assert [
        (len(m.weight), block.block[-1][0].out_channels, m.kernel, m.stride)
        for m, block in zip(depthwise, blocks, strict=True)
    ] == table
    assert [at for at, block in enumerate(blocks) if block.adds] == [2, 4, 6, 7, 9, 10]
    assert efficientnet.layer3[-1][0].weight.shape == (672, 112, 1, 1)


@pytest.mark.parametrize(
    ("name", "side", "shape"),
    [
        ("alexnet", 127, (256, 12, 12)),
        ("resnet", 129, (128, 17, 17)),
        ("mobilenet", 129, (24, 17, 17)),
        ("efficientnet", 129, (40, 17, 17)),
    ],
)
def test_one_pass_gives_fine_and_deep_features(
    name: str, side: int, shape: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    network = request.getfixturevalue(name)
    image = images(1, 3, side, side)
    with torch.inference_mode():
        fine, deep = network.features(image)
        flipped = mirrored(network).features(image.flip(3))
    assert torch.equal(deep, embed(network, image))
    assert fine.shape[1:] == shape
    assert_close(flipped.fine, fine.flip(3), "float32")  # symmetrical too


def mirrored(network: nn.Module) -> nn.Module:
    """Return the network with every kernel flipped from left to right."""
    flipped = copy.deepcopy(network)
    for module in flipped.modules():
        if isinstance(module, nn.Conv2d | DepthwiseConv2d):
            module.weight.data = module.weight.data.flip(3)
    return flipped


def test_channels_are_weighed_by_the_hard_sigmoid_of_what_the_map_holds() -> None:
    torch.manual_seed(3)
    block = _SqueezeExcite(6, 4)
    with torch.no_grad():
        block.fc2.weight.mul_(30)  # so that factors are 0, between and 1
        maps = torch.randn(5, 6, 3, 4)
        squeezed = torch.relu(maps.mean((2, 3)) @ block.fc1.weight[:, :, 0, 0].T + block.fc1.bias)
        factors = hardsigmoid(squeezed @ block.fc2.weight[:, :, 0, 0].T + block.fc2.bias)
        assert (factors == 0).any() and (factors == 1).any() and ((factors > 0) & (factors < 1)).any()
        assert_close(block(maps), maps * factors[:, :, None, None], "float32")
