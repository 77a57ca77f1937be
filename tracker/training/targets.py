"""What a head should answer: label maps for training."""

from torch import Tensor

from tracker.models.anchors import cell_offsets


def response_labels(
    boxes: Tensor, positive: Tensor, cells: int, stride: int, radius_px: float, share: float = 0.0
) -> Tensor:
    """Return label maps (N, 1, cells, cells): 1 where a cell lies in an ellipse around the object's centre, else 0.

    boxes: (N, 4), the object's (u, v) less the middle of the search crop and its (w, h), in crop pixels. The ellipse
    has the radii max(radius_px, share * side). positive: (N,) bool; a pair that does not match has no positive cell.
    Source: Bertinetto et al. 2016, eq. 4, whose discs are share = 0.
    """
    offsets = cell_offsets(cells, stride)
    radii = (share * boxes[:, 2:]).clamp(min=radius_px)
    du = (offsets.view(1, 1, cells) - boxes[:, 0].view(-1, 1, 1)) / radii[:, 0].view(-1, 1, 1)
    dv = (offsets.view(1, cells, 1) - boxes[:, 1].view(-1, 1, 1)) / radii[:, 1].view(-1, 1, 1)
    inside = (du.square() + dv.square() <= 1) & positive.view(-1, 1, 1)
    return inside.float().unsqueeze(1)
