"""Spectral norm of large kernels, of sharded ones, and its contract with more than one step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import reparam, testing
from tests.reparam.helpers import kernel, matrix

KEY = jax.random.key(4)
vector = jax.jit(reparam.spectral_norm_vector, static_argnames=("steps", "axis"))
norm = jax.jit(reparam.spectral_norm, static_argnames=("steps", "axis"))
sigma_of = jax.jit(reparam.spectral_norm_sigma, static_argnames=("steps", "axis"))
SHAPES = [(64, 64), (784, 128), (256, 10), (128, 1), (3, 3, 3, 64), (3, 3, 64, 128), (512, 512)]


def largest_singular_value(w):
    return np.linalg.svd(matrix(w, -1), compute_uv=False)[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("magnitude", [1, 1e30, 1e-30])
def test_sigma_against_the_singular_value_decomposition(shape, magnitude):
    for seed in range(3):
        w = kernel(*shape, seed=seed) - np.float32(0.3)
        exact = largest_singular_value(w) * magnitude
        scaled = (w * magnitude).astype(np.float32)
        reached = sigma_of(scaled, vector(KEY, scaled))
        np.testing.assert_allclose(reached, exact, rtol=1e-3)
        assert reached <= exact * (1 + 1e-6)


def test_sigma_of_a_large_kernel():
    """Without orthogonal blocks it is 2e-4 off in float32."""
    w = kernel(1024, 1024) - np.float32(0.3)
    np.testing.assert_allclose(sigma_of(w, vector(KEY, w)), largest_singular_value(w), rtol=1e-4)


def test_sigma_of_power_iteration_is_further_off():
    """The control of the tests above, and what 300 steps of training on one weight come to."""
    w = kernel(256, 256) - np.float32(0.3)
    exact = largest_singular_value(w)
    u = vector(KEY, w, steps=0)
    assert sigma_of(w, norm(w, u, steps=15)[1]) < exact * (1 - 5e-3)
    np.testing.assert_allclose(sigma_of(w, norm(w, u, steps=300)[1]), exact, rtol=1e-3)


# Finite differences do not see that the iteration is held constant.
ITERATED = {
    f"{axis}-{name}": check
    for axis, size in ((-1, 8), (0, 16))
    for name, check in testing.contract(
        partial(reparam.spectral_norm, steps=2, axis=axis),
        (jnp.asarray(kernel(16, 8)), jnp.full(size, size**-0.5)),
    ).items()
    if name.endswith("[float32]")  # Narrow dtypes are in test_contract.py.
}


@pytest.mark.parametrize("cell", ITERATED)
def test_the_contract_with_steps(cell):
    ITERATED[cell]()


SHARDED = [
    ((16, 8), -1, PartitionSpec("a", None)),
    ((16, 8), -1, PartitionSpec(None, "b")),
    ((16, 8), -1, PartitionSpec("a", "b")),
    ((3, 3, 8, 16), -1, PartitionSpec(None, None, "a", "b")),
    ((8, 4, 6), (1, 2), PartitionSpec("a", "b", None)),
]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda k: k.name)
@pytest.mark.parametrize(("shape", "axis", "spec"), SHARDED, ids=str)
def test_kernels_may_be_sharded(shape, axis, spec, kind):
    """Also for weight norm and weight standardization."""

    def run(w, u):
        scale = reparam.weight_norm_scale(w, axis=axis)
        normalized, u = reparam.spectral_norm(w, u, steps=3, axis=axis)
        standard = reparam.weight_standardization(w, axis=axis)
        return reparam.weight_norm(w, scale=scale**2, axis=axis), normalized, standard, u

    def both(w, u):
        results, pullback = jax.vjp(run, w, u)
        return results, pullback(jax.tree.map(jnp.ones_like, results))[0]

    w = jnp.asarray(kernel(*shape))
    u = vector(KEY, w, axis=axis, steps=1)
    expected = jax.jit(both)(w, u)
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        w = jax.device_put(w, NamedSharding(mesh, spec))
        u = jax.device_put(u, NamedSharding(mesh, PartitionSpec()))
        first = vector(KEY, w, axis=axis, steps=1)
        actual = jax.jit(both)(w, u)
        assert actual[0][1].sharding.spec == w.sharding.spec or kind is AxisType.Auto
        assert actual[0][3].sharding.is_fully_replicated or kind is AxisType.Auto
    np.testing.assert_allclose(first, u, rtol=1e-5, atol=1e-6)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=2e-6)
