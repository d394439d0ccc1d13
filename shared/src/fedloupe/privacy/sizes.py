"""How many patients carry the noise of an epsilon.

too_few(59, epsilon=3)                                   # True: docs/privacy.md has what that costs
"""

from __future__ import annotations

FEW = 100
"""Training patients of a site below which an epsilon up to `TIGHT` is warned of."""
TIGHT = 3.0


def too_few(patients: int, epsilon: float) -> bool:
    """Whether so few training patients are drowned by the noise of this epsilon, as a rule of thumb."""
    return epsilon <= TIGHT and patients < FEW
