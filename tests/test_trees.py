"""Which leaves of a parameter tree hold kernels."""

import numpy as np

from jaxreg._trees import find_kernels, is_kernel


def test_a_stack_of_vectors_holds_no_kernel():
    params = {"factor": np.zeros((3, 4)), "kernel": np.zeros((3, 4, 5))}
    factors, kernels = find_kernels(params, is_kernel, -1, stacked=True)
    assert factors is None
    assert kernels.path == ("kernel",)
    factors, kernels = find_kernels(params, is_kernel, -1, stacked=False)
    assert factors.path == ("factor",)
    assert kernels.path == ("kernel",)
