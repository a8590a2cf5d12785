"""What all NNX modules of dropout and noise do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx

from jaxreg import nnx
from tests.nnx_rows import KEY, ROWS, assert_equal, different, zoneout_cell

pytestmark = pytest.mark.slow

every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def test_every_module_has_a_row():
    names = {str(row).partition("-")[0] for row in ROWS}
    classes = {n: getattr(nnx, n) for n in nnx.__all__ if isinstance(getattr(nnx, n), type)}
    stochastic = {n for n, module in classes.items() if issubclass(module, nnx.Stochastic)}
    assert stochastic - {"LockedDropoutCell", "Stochastic"} <= names <= set(nnx.__all__)


@every_row
def test_a_module_is_its_function(row):
    layer = row.build(row.strength, bits=jax.random.bits)
    expected = row.function(KEY, *row.inputs, bits=jax.random.bits)
    assert_equal(layer(*row.inputs, rngs=KEY), expected)
    assert different([expected, row.evaluated(*row.inputs)]) == 2


@every_row
def test_evaluation(row):
    expected = row.evaluated(*row.inputs)
    layer = row.build(row.strength, rngs=fnx.Rngs(0))
    assert_equal(layer(*row.inputs, deterministic=True), expected)
    assert_equal(fnx.view(layer, deterministic=True)(*row.inputs), expected)
    layer.eval()
    assert_equal(layer(*row.inputs), expected)
    assert_equal(row.build(row.strength, deterministic=True)(*row.inputs), expected)


@every_row
def test_streams_advance_under_nnx_jit_and_not_under_jax_jit(row):
    rngs = fnx.Rngs(0)
    layers = [row.build(row.strength, rngs=rngs) for _ in range(2)]
    eager = fnx.clone(layers[0])
    plain = fnx.clone(layers[0])
    run = fnx.jit(lambda layer, inputs: layer(*inputs))
    drawn = [[run(layer, row.inputs) for _ in range(9)] for layer in layers]
    assert different(drawn[0]) > 1
    assert different(drawn) == 2
    for result in drawn[0][:2]:
        assert_equal(eager(*row.inputs), result)
    repeat = jax.jit(lambda layer, inputs: layer(*inputs))
    assert different(repeat(plain, row.inputs) for _ in range(3)) == 1


@pytest.mark.parametrize("build", [nnx.Dropout, zoneout_cell, ROWS[-2].build])
def test_an_axis_of_devices_gives_each_its_own_key(build):
    layer, inputs = build(0.5, axis_name="d"), next(r.inputs for r in ROWS if r.build is build)

    @partial(jax.vmap, in_axes=None, axis_size=9, axis_name="d")
    def on_devices(inputs):
        return layer(*inputs, rngs=KEY)

    assert different(zip(*jax.tree.leaves(on_devices(inputs)), strict=True)) > 1


@every_row
def test_split_and_merge_continue_where_the_module_stood(row):
    layer = row.build(row.strength, rngs=fnx.Rngs(0))
    layer(*row.inputs)
    graph, state = fnx.split(layer)
    merged = fnx.merge(graph, state, copy=True)
    for _ in range(2):
        assert_equal(merged(*row.inputs), layer(*row.inputs))


@every_row
def test_a_key_is_needed_unless_a_strength_is_zero(row):
    layer = row.build(row.strength)
    layer.rngs = None
    with pytest.raises(ValueError, match=rf"`rngs` must be given to {type(layer).__name__} .*Rngs"):
        layer(*row.inputs)
    if row.can_be_off:
        off = row.build(0.0)
        off.rngs = None
        plain = row.build(0.0, deterministic=True)
        assert_equal(off(*row.inputs), plain(*row.inputs))


@every_row
def test_a_wrong_strength_raises_in_the_constructor(row):
    if row.wrong is not None:
        with pytest.raises(ValueError, match=r"`\w+` must be .*, got (1\.5|-1)\."):
            row.build(row.wrong)


@every_row
def test_gradients_reach_inputs_and_parameters(row):
    layer = row.build(row.strength, rngs=fnx.Rngs(0))

    def loss(layer, inputs):
        results = layer(*inputs, rngs=KEY)
        return sum(jnp.sum(a**2) for a in jax.tree.leaves(results) if a.dtype == jnp.float32)

    gradients = fnx.jit(fnx.grad(loss, argnums=(0, 1)))(layer, row.inputs)
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)
