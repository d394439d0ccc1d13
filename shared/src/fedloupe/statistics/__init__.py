"""Statistics over patients of several hospitals from sums: exact, and blind to how the patients are spread over sites.

Moments.sum([Moments.of(north), Moments.of(south)]) == Moments.of(np.concatenate([north, south]))    # bit for bit
"""

from fedloupe.statistics.moments import Moments, Products, correlation
from fedloupe.statistics.ring import OutOfRange

__all__ = ["Moments", "OutOfRange", "Products", "correlation"]
