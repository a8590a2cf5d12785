"""Curves of metrics as hypothesis draws them, and the settings that make its draws repeatable."""

import math

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LENGTH = 32  # All curves are padded to it, so that one compiled scan runs them.

five_hundred = settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # It measures the machine.
)

# Without subnormal numbers, which many devices flush to zero.
_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
_KINDS = st.sampled_from(["any", "awkward", "descent", "ties", "constant"])


@st.composite
def curves(draw):
    """Float32 values: any, awkward ones among them, an offset with noise, few levels, or one."""
    length, kind = draw(st.integers(1, LENGTH)), draw(_KINDS)
    if kind == "any":
        elements = _FINITE
    elif kind == "awkward":
        elements = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]) | _FINITE
    elif kind == "descent":
        offset, slope = draw(st.floats(-1e3, 1e3)), draw(st.floats(0, 0.5))
        noise = draw(st.lists(st.floats(-1, 1), min_size=length, max_size=length))
        return np.float32(offset - slope * np.arange(length) + noise)
    else:
        levels = draw(st.lists(_FINITE, min_size=1, max_size=1 if kind == "constant" else 4))
        elements = st.sampled_from(levels)
    return np.float32(draw(st.lists(elements, min_size=length, max_size=length)))


def padded(curve):
    """The curve at its full length; what is appended comes after all that is compared."""
    return np.pad(curve, (0, LENGTH - len(curve)), constant_values=-np.inf)
