"""Statistics of spectral norm, of kernels and of biases with two axes."""

import jax
import numpy as np
import pytest

from jaxreg._spectral_state import stop_at_zeros, zero_for_bias
from jaxreg._trees import Kernel

W = np.ones((3, 4), np.float32)
U = np.ones(4, np.float32)
STEP = (2 * W, 3 * U, np.float32(4))
KERNEL = Kernel(("kernel",), (), -1, stacked=False)
BIAS = Kernel(("bias",), (), -1, stacked=False)


def test_kernels_start_and_go_on():
    assert zero_for_bias(KERNEL, W, U) is U
    assert stop_at_zeros(KERNEL, 0 * W, 0 * U, STEP) is STEP


@pytest.mark.parametrize(
    ("w", "u", "goes_on"), [(W, U, True), (0 * W, U, False), (W, 0 * U, False)]
)
def test_a_bias_stops_at_zeros(w, u, goes_on):
    found = jax.jit(lambda *arrays: stop_at_zeros(BIAS, *arrays, STEP))(w, u)
    expected = STEP if goes_on else (w, 0 * U, 0)
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_layers_of_a_stack_stop_one_by_one():
    step = [np.stack([array, array]) for array in STEP]
    run = jax.jit(lambda *arrays: stop_at_zeros(BIAS._replace(stacked=True), *arrays, step))
    found = run(np.stack([W, 0 * W]), np.stack([U, U]))
    for array, go, stop in zip(found, STEP, (0 * W, 0 * U, 0), strict=True):
        np.testing.assert_array_equal(array, np.stack([go, np.broadcast_to(stop, go.shape)]))
