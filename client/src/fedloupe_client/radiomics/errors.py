"""What can be wrong with a case's images and mask when features are asked for.

raise EmptyRegion("the mask holds no voxel", where="mask", remedy="draw the tumour, or leave the case out")
"""

from __future__ import annotations

from fedloupe.errors import FedLoupeError


class EmptyRegion(FedLoupeError):
    """The mask holds no voxel."""

    code = "FL-401"
    title = "tumour mask is empty"


class GridMismatch(FedLoupeError):
    """Image and mask are not three-dimensional arrays of one shape, or the spacing is not positive."""

    code = "FL-402"
    title = "image and mask are not on one grid"


class NonFiniteIntensity(FedLoupeError):
    """An image holds NaN or infinity inside the mask."""

    code = "FL-403"
    title = "image is not finite inside the tumour"


class IntensityUnknown(FedLoupeError):
    """A sequence comes without its intensity kind."""

    code = "FL-404"
    title = "intensity kind of a sequence is unknown"
