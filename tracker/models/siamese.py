"""The Siamese network: one backbone for both inputs, one head for the pair."""

import torch
from torch import Tensor, nn

# Mean and standard deviation of natural images, RGB in 0..255 (the ImageNet values that backbones are trained with).
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


class SiameseNetwork(nn.Module):
    """Embed template and search images with shared weights and read the pair with a head.

    Images are RGB in 0..255, uint8 or float, (N, 3, H, W); the normalisation is part of the network. The backbone may run
    in bfloat16; the head always runs in float32.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def embed(self, images: Tensor) -> Tensor:
        """Return features (N, C, h, w) of images (N, 3, H, W)."""
        normalised = (images.to(self.mean.dtype) - self.mean) / self.std
        features: Tensor = self.backbone(normalised.to(next(self.backbone.parameters()).dtype))
        return features

    def forward(self, template: Tensor, images: Tensor) -> Tensor:
        """Return the head's output for template features (N or 1, C, a, b) and search images (N, 3, H, W)."""
        output: Tensor = self.head(template.float(), self.embed(images).float())
        return output
