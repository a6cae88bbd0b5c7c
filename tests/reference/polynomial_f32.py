"""exp2, exp, tanh and GELU in binary32 as `dt-core/BLOB.md` specifies them for math = polynomial (GELU: for any).

All operations are on float32 arrays: each rounds once, to nearest even.
"""

import numpy as np

F = np.float32

ROUNDING = F(12582912)
LOG2E = F(1.442695)
EXP2 = [F(c) for c in (0.693147, 0.24022242, 0.055507336, 0.009671513, 0.0013264725)]
TANH = [F(c) for c in (-0.3333328, 0.13331442, -0.053739715, 0.020639086, -0.005704985)]
GELU = [F(c) for c in (1, 1.1510005, 0.45959583, 0.052146632, -0.0071987184, 0.00048810212)]


@np.errstate(over="ignore", invalid="ignore")
def exp2f(x):
    """2 to the power of x, elementwise."""
    x = np.asarray(x, F)
    inside = (x >= F(-125)) & (x <= F(127))
    bounded = np.where(inside, x, F(0))
    whole = (bounded + ROUNDING) - ROUNDING
    rest = bounded - whole
    power = EXP2[4]
    for c in (*EXP2[3::-1], F(1)):
        power = power * rest + c
    # A power of two within the normal numbers: exact.
    y = np.ldexp(power, whole.astype(np.int32)).astype(F)
    y = np.where(x < F(-125), F(0), np.where(x > F(127), F(np.inf), y))
    return np.where(np.isnan(x), x, y)


@np.errstate(over="ignore")
def expf(x):
    """exp(x), elementwise."""
    return exp2f(np.asarray(x, F) * LOG2E)


@np.errstate(over="ignore", invalid="ignore")
def tanhf(x):
    """tanh(x), elementwise."""
    x = np.asarray(x, F)
    size = np.abs(x)
    small = np.where(size < F(0.625), size, F(0))
    square = small * small
    cubic = TANH[4]
    for c in TANH[3::-1]:
        cubic = cubic * square + c
    small = small + small * (square * cubic)
    large = F(1) - F(2) / (expf(F(2) * size) + F(1))
    y = np.where(size < F(0.625), small, large)
    return np.where(np.isnan(x), x, np.copysign(y, x))


@np.errstate(over="ignore", invalid="ignore")
def geluf(x):
    """x times the normal distribution function of x, elementwise."""
    x = np.asarray(x, F)
    size = np.abs(x)
    power = GELU[5]
    for c in GELU[4::-1]:
        power = power * size + c
    return np.where(x < F(0), F(0), x) - size * exp2f(-power)
