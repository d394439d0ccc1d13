"""The one way in which this room compiles: strict IEEE arithmetic, cached on disk, typed for the checker.

    @kernel
    def total(values: Floats) -> float: ...

No fastmath and no threads: the same input gives the same bits. Division by zero gives NaN or infinity,
which `extract` turns into a declared absence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile `function` with Numba at its first call; later processes read the machine code from the cache."""
    return cast(_Function, numba.njit(cache=True, error_model="numpy", nogil=True)(function))
