"""The Siamese network: one backbone for both inputs, one head for the pair, one that embeds an object alone."""

from typing import cast

import torch
from torch import Tensor, nn

from tracker.models.backbones import Backbone, Features
from tracker.models.ensemble import EnsembleBackbone, EnsembleRefiner
from tracker.models.heads import AnchorHead, SiamFCHead
from tracker.models.refiner import BoxRefiner

# Mean and standard deviation of natural images, RGB in 0..255 (the ImageNet values that backbones are trained with).
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


class SiameseNetwork(nn.Module):
    """Embed template and search images with shared weights and read the pair with a head.

    Images are RGB in 0..255, uint8 or float, (N, 3, H, W); the normalisation is part of the network. The parts may
    run in bfloat16, each by the type of its weights; features are handed on as float32. A network without a head only
    embeds. `embedding` turns pooled features into vectors that tell objects apart, where there is one, `filter_neck`
    narrows joined features to what the online filter reads, and `refiner` corrects boxes. `regressor`, from the deep
    features to those of a teacher, is there only while the network is taught. `fine_weight` is that of the fine
    features where they are joined with the deep ones, see `graphs.filter_maps`; 0: the deep ones alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        embedding: nn.Module | None = None,
        filter_neck: nn.Module | None = None,
        refiner: BoxRefiner | EnsembleRefiner | None = None,
        fine_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.embedding = embedding
        self.filter_neck = filter_neck
        self.refiner = refiner
        self.fine_weight = fine_weight
        self.regressor: nn.Module | None = None
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    @property
    def stride(self) -> int:
        """Pixels of an image that a cell of the deep features moves by."""
        return cast(Backbone, self.backbone).stride

    @property
    def anchor_head(self) -> AnchorHead | None:
        """The head, where it is one that finds boxes."""
        return None if self.head is None or isinstance(self.head, SiamFCHead) else cast(AnchorHead, self.head)

    @property
    def bears_bfloat16(self) -> bool:
        """Whether the network may run in bfloat16 without changing what a tracker decides."""
        return cast(Backbone, self.backbone).bears_bfloat16

    @property
    def backbones(self) -> list[nn.Module]:
        """The backbones of an ensemble; of another network the one it has."""
        return list(self.backbone.members) if isinstance(self.backbone, EnsembleBackbone) else [self.backbone]

    def members(self, features: Features) -> list[Features]:
        """Return the features of each member of an ensemble; of another network the features themselves."""
        return self.backbone.split(features) if isinstance(self.backbone, EnsembleBackbone) else [features]

    def embed(self, images: Tensor) -> Tensor:
        """Return deep features (N, C, h, w) of images (N, 3, H, W)."""
        return cast(Backbone, self.backbone)(self._normalise(images))

    def features(self, images: Tensor) -> Features:
        """Return fine and deep features, float32, of images (N, 3, H, W), from one pass."""
        return self._features(self._normalise(images))

    def features_of_pixels(self, images: Tensor) -> Features:
        """Return the same of images whose channels lie last, (N, H, W, 3).

        They are normalised row by row and turned afterwards: where a graph is compiled for a convolution that wants
        its channels last, the turn is none, and a twentieth of siamrpn_mobile's update is saved in OpenVINO.
        """
        width = images.shape[2]
        mean, std = (values.flatten().repeat(width) for values in (self.mean, self.std))
        rows = (images.flatten(2).float() - mean) / std
        return self._features(self._cast(rows.view(*rows.shape[:2], width, 3).permute(0, 3, 1, 2)))

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """Return the SiamFC head's response for template (N or 1, C, a, b) and search features (N, C, H, W)."""
        if self.head is None:
            raise RuntimeError("this network has no head")
        output: Tensor = self.head(template, search)
        return output

    def _features(self, normalised: Tensor) -> Features:
        fine, deep = cast(Backbone, self.backbone).features(normalised)
        return Features(fine.float(), deep.float())

    def _normalise(self, images: Tensor) -> Tensor:
        return self._cast((images.float() - self.mean) / self.std)

    def _cast(self, images: Tensor) -> Tensor:
        return images.to(next(self.backbone.parameters()).dtype)
