"""exp and tanh in binary32, to the bit what Rust's `libm` 0.2 computes.

Both follow the algorithms published with FreeBSD's msun (e_expf.c, s_expm1f.c, s_tanhf.c, after
Sun's fdlibm): take a multiple of ln 2, held in two parts, off the argument, evaluate a short
polynomial, scale back by a power of two. Constants and the order of roundings are binding; the
code here works on whole arrays, so every branch becomes a mask.

All operations are on float32 arrays: each rounds once, to nearest even.
"""

import numpy as np

F = np.float32

HALF_LN2 = F(0.34657359)
THREE_HALVES_LN2 = F(1.0397208)


@np.errstate(over="ignore", invalid="ignore")
def expf(x):
    """exp(x), elementwise."""
    x = np.asarray(x, F)
    k, hi, lo = _reduce(x, F(6.9314575195e-01), F(1.4286067653e-06))
    r = hi - lo
    rr = r * r
    c = r - rr * (F(1.6666625440e-1) + rr * F(-2.7667332906e-3))
    y = F(1) + (r * c / (F(2) - c) - lo + hi)
    # Exact in binary64, so the way back rounds once, also into the subnormals.
    y = np.ldexp(y.astype(np.float64), k).astype(F)
    y = np.where(np.abs(x) <= F(2.0**-13), F(1) + x, y)
    y = np.where(x >= F(88.722839), F(np.inf), y)
    y = np.where(x <= F(-103.972084), F(0), y)
    return np.where(np.isnan(x), x, y)


@np.errstate(invalid="ignore")
def tanhf(x):
    """tanh(x), elementwise."""
    x = np.asarray(x, F)
    size = np.abs(x)
    bounded = np.where(size > F(10), F(10), size)
    large = bounded > F(0.54930615)
    falling = bounded <= F(0.25541282)
    t = _expm1f(np.where(falling, F(-2), F(2)) * bounded)
    ratio = t / (t + F(2))
    y = np.where(large, F(1) - F(2) / (t + F(2)), np.where(falling, -ratio, ratio))
    y = np.where(size > F(10), F(1), y)
    y = np.where(size < F(2.0**-126), size, y)
    y = np.where(np.isnan(x), x, y)
    return np.copysign(y, x)


def _expm1f(x):
    """exp(x) − 1 for −ln 2 < x ≤ 20, all that tanh needs."""
    k, hi, lo = _reduce(x, F(6.9313812256e-01), F(9.0580006145e-06))
    r = hi - lo
    c = np.where(k == 0, F(0), (hi - r) - lo)
    half = F(0.5) * r
    square = r * half
    r1 = F(1) + square * (F(-3.3333212137e-2) + square * F(1.5807170421e-3))
    t = F(3) - r1 * half
    e = square * ((r1 - t) / (F(6) - r * t))
    unscaled = r - (r * e - square)
    e = r * (e - c) - c - square
    scale, inverse = np.ldexp(F(1), k), np.ldexp(F(1), -k)
    y = np.where(k < 23, (r - e + (F(1) - inverse)) * scale, (r - (e + inverse) + F(1)) * scale)
    below, above = F(-2) * (e - (r + F(0.5))), F(1) + F(2) * (r - e)
    y = np.where(k == 1, np.where(r < F(-0.25), below, above), y)
    y = np.where(k == -1, F(0.5) * (r - e) - F(0.5), y)
    y = np.where(k == 0, unscaled, y)
    return np.where(np.abs(x) < F(2.0**-25), x, y)


def _reduce(x, ln2_hi, ln2_lo):
    """k, hi, lo with x − k·ln 2 = hi − lo; k = 0 within half of ln 2."""
    size = np.abs(x)
    finite = np.where(size < F(200), x, F(0))
    k = np.trunc(F(1.4426950216) * finite + np.copysign(F(0.5), x))
    k = np.where(size <= THREE_HALVES_LN2, np.copysign(F(1), x), k)
    k = np.where(size <= HALF_LN2, F(0), k)
    return k.astype(np.int32), np.where(k == 0, x, x - k * ln2_hi), k * ln2_lo
