"""Float arrays, for what would be loops over hundreds of numbers a tick."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def sums_before(values: FloatArray) -> FloatArray:
    """Sums of the first 0..len(values) values, so that a window's sum is one difference."""
    sums = np.zeros(len(values) + 1)
    values.cumsum(out=sums[1:])
    return sums
