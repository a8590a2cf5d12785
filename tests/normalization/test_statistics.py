"""Moments of selected elements, within a device and across devices, against float64 NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import statistics
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_close,
    compiled,
    conditionals,
    draw,
    refuses,
    with_gradients,
)
from tests.references import batch_norm as reference

X = draw(2, 4, 3, mean=3)
MASKS = {
    "per_feature": np.arange(24).reshape(2, 4, 3) % 5 != 0,
    "lower_rank": np.array([1, 0, 1], bool),
    "size_one": np.array([[1], [0], [1], [1]], bool),
    "bool": np.array([[[1], [1], [0], [1]], [[0], [0], [1], [0]]], bool),
    "float": np.array([[[0.5], [1], [0], [2]], [[0], [0], [-1], [0]]], np.float32),
    "int": np.array([[1, 2, 0], [1, 0, 0], [0, 1, 1], [3, 0, 1]], np.int8),
    "small_float": np.array([[[1e-3]], [[0]]], np.float16),
    "full_rank": np.array([[[1], [0], [1], [1]], [[0], [1], [0], [0]]], bool),
    "only_features": np.array([[[1, 0, 1]]], bool),
    "scalar": np.ones((), bool),
}


def assert_moments(result, x, axes, mask=None, rtol=1e-5):
    assert_all_close(result, reference.moments(x, axes, mask), rtol=rtol, atol=1e-6)
    assert {a.dtype for a in result} == {jnp.dtype("float32")}


@few("axis", [(0, 2), 0, 1, -1, ()])
def test_moments_without_a_mask(axis):
    axes = axis if isinstance(axis, tuple) else (axis % 3,)
    assert_moments(compiled(normalization.moments, X, axis=axis), X, axes)


@few("axes", [(0, 1), (1,), (0, 1, 2)])
@few("name", MASKS)
def test_masked_moments(name, axes):
    mask = MASKS[name]
    result = compiled(normalization.moments, X, axis=axes, where=mask)
    assert_moments(result, X, axes, mask != 0)


def test_no_elements_have_moments_of_zero():
    result = compiled(normalization.moments, np.zeros((0, 2), np.float32), axis=0)
    np.testing.assert_array_equal(result, np.zeros((3, 2)))


def test_the_second_pass_is_taken_where_it_is_needed():
    """On either side of the bound, and for one feature out of many, as accurate as float64."""
    run = jax.jit(lambda x: normalization.moments(x, axis=0))
    for mean in (0, 1, 3.8, 4.0, 30, 1e4):
        x = draw(4096, 3)
        x[:, 1] += mean
        np.testing.assert_allclose(run(x).var, x.astype(np.float64).var(0), rtol=5e-6)
    outlier = np.full((4096, 3), 1e4, np.float32) + draw(4096, 3)
    outlier[0] = 0
    np.testing.assert_allclose(run(outlier).var, outlier.astype(np.float64).var(0), rtol=5e-6)


def test_the_second_pass_leaves_out_what_is_masked():
    x = draw(64, 2, mean=1e3)
    mask = np.arange(64)[:, None] % 3 > 0
    result = compiled(normalization.moments, x, axis=0, where=mask)
    assert_moments(result, x, (0,), mask)


def test_only_a_cpu_chooses():
    """A conditional would make a GPU wait for the host."""
    run = jax.jit(lambda x: normalization.moments(x, axis=0))
    traced = run.trace(jax.ShapeDtypeStruct((8, 3), jnp.float32))
    assert conditionals(traced) == {"cpu": 1, "cuda": 0, "tpu": 0}
    assert traced.lower().compile().as_text().count(" conditional(") == 1


def test_moments_of_padding_with_nan_are_differentiable():
    x = np.array([1.0, np.nan, 3.0, np.inf], np.float32)
    mask = np.array([1, 0, 1, 0])

    @jax.jit
    def gradient(x, of_mean, of_var):
        _, pull = jax.vjp(lambda x: normalization.moments(x, axis=0, where=mask)[:2], x)
        return pull((of_mean, of_var))[0]

    np.testing.assert_array_equal(gradient(x, 1.0, 0.0), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(gradient(x, 0.0, 1.0), [-1, 0, 1, 0])


def test_the_variance_of_complex_numbers_is_real():
    x = draw(8, 2, mean=1) + 1j * draw(8, 2, seed=1)
    dx = draw(8, 2, seed=2) + 1j * draw(8, 2, seed=3)

    @jax.jit
    def run(x, dx):
        return jax.jvp(lambda x: normalization.moments(x, axis=0)[:2], (x,), (dx,))

    (mean, var), (of_mean, of_var) = run(x, dx)
    assert var.dtype == jnp.float32
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, x.var(0), rtol=1e-5)
    np.testing.assert_allclose(of_mean, dx.mean(0), rtol=1e-5)
    deviation = x - x.mean(0)
    expected = 2 * np.mean((deviation.conj() * dx).real, 0)
    np.testing.assert_allclose(of_var, expected, rtol=1e-4, atol=1e-6)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_counts_of_many_elements_are_exact(dtype):
    """A bfloat16 sum of ones stops at 256, a float16 one at 2048."""
    x = np.ones((5001, 1), dtype)
    result = compiled(normalization.moments, x, axis=0, where=np.ones((5001, 1), dtype))
    assert (result.mean[0], result.var[0], result.count[0]) == (1, 0, 5001)


@pytest.mark.parametrize(("elements", "counter"), [(2**24, "f32"), (2**24 + 2, "i32")])
def test_elements_beyond_2_to_the_24_are_counted_by_integers(elements, counter):
    """Float32 sums of ones would stop there."""
    x = jax.ShapeDtypeStruct((elements, 1), jnp.float32)
    mask = jax.ShapeDtypeStruct((elements, 1), bool)
    program = jax.make_jaxpr(lambda x, m: statistics.count_along(x, (0,), m))(x, mask)
    assert f"{counter}[1] = reduce_sum" in str(program)


@few("gathered", [True, False])
def test_moments_and_gradients_across_devices(monkeypatch, gathered):
    """Of unequal counts; many devices add up in place of gathering the moments of each."""
    monkeypatch.setattr(statistics, "_MOST_GATHERED", 8 if gathered else 7)
    x = draw(8, 4, 2, mean=3)
    dy = (draw(2, seed=1), draw(2, seed=2))
    mask = np.arange(4) < (np.arange(8) % 5)[:, None]
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))

    def local(x, mask):
        return normalization.moments(x, axis=(0, 1), where=mask[..., None], axis_name="d")

    @jax.jit
    def run(dy, x):
        whole = jax.shard_map(local, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P())
        y, pull = jax.vjp(lambda x: whole(x, mask), x)
        return y, pull(normalization.Moments(*dy, jnp.zeros(2)))[0]

    program = run.lower(dy, x).compile()
    collectives = re.findall(r"= .* all-reduce(?:-start)?\(", program.as_text())
    assert len(collectives) == (1 if gathered else 2)
    result, dx = program(dy, x)
    assert_moments(result, x, (0, 1), mask[..., None])
    mean, _, count = reference.moments(x, (0, 1), mask[..., None])
    expected = mask[..., None] * (dy[0] + 2 * dy[1] * (x - mean)) / count
    np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-6)


def test_moments_across_a_mapped_axis_of_arrays_without_a_mask():
    x = draw(3, 4, 2, mean=50)
    dy = draw(3, 2, seed=1)

    def local(x):
        result = normalization.moments(x, axis=0, axis_name="d")
        return result.var, result

    _, (dx,), result = with_gradients(
        lambda x: jax.vmap(local, axis_name="d")(x), dy, x, has_aux=True
    )
    for ours, theirs in zip(result, reference.moments(x, (0, 1)), strict=True):
        np.testing.assert_allclose(ours, np.broadcast_to(theirs, (3, 2)), rtol=1e-5)
    expected = 2 * (x - x.mean((0, 1), dtype=np.float64)) / 12 * dy.sum(0)
    np.testing.assert_allclose(dx, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("axis", [2, -3, (0, 0)])
def test_wrong_axes_raise(axis):
    refuses(ValueError, "`axis` must", normalization.moments, draw(4, 2), axis=axis)


def test_integers_have_no_moments():
    message = "`x` must have a floating-point dtype, got int32"
    refuses(TypeError, message, normalization.moments, np.ones((4, 2), np.int32), axis=0)


GROUPS = [[0, 1, 2], [5, 4, 3, 7, 6]]


@few("mapped", ["checked", "unchecked", "pmap", "vmap"])
def test_groups_of_devices_have_their_own_moments(mapped):
    """JAX itself takes no groups under ``vmap`` and where ``shard_map`` checks what varies."""
    x = draw(8, 4, 2, mean=3)
    dy = draw(2, 8, 2, seed=1)
    mask = np.arange(4) < (np.arange(8) % 5)[:, None]
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))

    def local(x, mask):
        where = mask[..., None]
        options = {"axis_name": "d", "axis_index_groups": GROUPS, "where": where}
        return normalization.moments(x, axis=0, **options)

    def on_mesh(x, mask):
        one = lambda x, m: jax.tree.map(lambda a: a[None], local(x[0], m[0]))  # noqa: E731
        specs = {"in_specs": P("d"), "out_specs": P("d"), "check_vma": mapped == "checked"}
        return jax.shard_map(one, mesh=mesh, **specs)(x, mask)

    maps = {"pmap": jax.pmap(local, axis_name="d"), "vmap": jax.vmap(local, axis_name="d")}
    _, (dx,), result = with_gradients(
        lambda x: ((m := maps.get(mapped, on_mesh)(x, mask))[:2], m), tuple(dy), x, has_aux=True
    )
    result, dx = jax.tree.map(np.asarray, (result, dx))
    for group in GROUPS:
        mean, var, count = reference.moments(x[group], (0, 1), mask[group][..., None])
        for ours, theirs in zip(result, (mean, var, count), strict=True):
            np.testing.assert_allclose(ours[group], [theirs] * len(group), rtol=1e-5)
        of_mean, of_var = dy[:, group].astype(np.float64).sum(1)
        slope = mask[group][..., None] * (of_mean + 2 * of_var * (x[group] - mean)) / count
        np.testing.assert_allclose(dx[group], slope, rtol=1e-3, atol=1e-5)


def test_groups_that_miss_a_device_are_refused():
    def local(x):
        options = {"axis_name": "d", "axis_index_groups": [[0, 1], [1, 3]]}
        return normalization.moments(x, axis=0, **options)

    message = r"`axis_index_groups` must contain each index of 'd', 0 to 3, once, got \(\(0, 1\), "
    refuses(ValueError, message, jax.vmap(local, axis_name="d"), jnp.ones((4, 3)))
