"""exp in binary32, to the bit what the Rust crate `micromath` 2.1 computes up to 88, and tanh built from it.

x is a whole and a fractional number of factors of two; e to the fraction is four terms of its
Taylor series, in Horner form, and the whole number is added to the exponent field.
"""

import numpy as np

F = np.float32
EPSILON = F(2.0**-23)
E = F(np.e)


@np.errstate(over="ignore", invalid="ignore")
def expf(x):
    """exp(x), elementwise; infinite above 88."""
    given = np.asarray(x, F)
    x = np.where(given > F(88), F(0), given)
    twos = np.where(np.abs(x) < F(1000), x, np.copysign(F(1000), x)) * F(1.44269504)
    whole = np.trunc(twos)
    fraction = (twos - whole) * F(0.693147181)
    series = np.ones_like(x)
    for i in (4, 3, 2, 1):
        series = F(1) + (fraction / F(i)) * series
    bits = series.view(np.int32)
    exponent = (bits >> 23) + whole.astype(np.int32)
    y = ((bits & 0x7FFFFF) | (np.maximum(exponent, 0) << 23)).astype(np.int32).view(F)
    y = np.where(exponent < 0, F(0), y)
    y = np.where(x == 0, F(1), y)
    y = np.where(np.abs(x - F(1)) < EPSILON, E, y)
    y = np.where(np.abs(x + F(1)) < EPSILON, F(1) / E, y)
    return np.where(given > F(88), F(np.inf), y)


def tanhf(x):
    """tanh(x), elementwise."""
    x = np.asarray(x, F)
    bounded = np.clip(x, F(-1000), F(10))
    return np.where(x > F(10), F(1), F(1) - F(2) / (expf(F(2) * bounded) + F(1)))
