"""Memory that dropout costs in the gradient of a network, under every transformation.

Bytes are counted in compiled programs, with and without dropout.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import dropout, noise

LAYERS, BATCH, WIDTH = 8, 512, 128
KEY = jax.random.key(13)
ACTIVATIONS = LAYERS * BATCH * WIDTH * 4
FUNCTIONS = (
    dropout.dropout,
    dropout.classical_dropout,
    dropout.spatial_dropout,
    dropout.gaussian_dropout,
    dropout.alpha_dropout,
    noise.salt_and_pepper,
)
WITH_JAX_BITS = partial(dropout.dropout, bits=jax.random.bits)


def nothing(key, x, *, rate):
    return x


def plain(layer):
    return layer


def written_out(layer, x, inputs):
    """Replaces ``jax.lax.scan``, without a loop in the program."""
    for i in range(LAYERS):
        x, _ = layer(x, jax.tree.map(lambda leaf, i=i: leaf[i], inputs))
    return x, None


def dense(x, kernels):
    """An output layer without dropout, as networks have."""
    return x @ kernels[-1]


def dropped(x, kernels):
    """No output layer: dropout feeds the loss."""
    return x


def loss(
    kernels, x, rate, *, drop, wrap=plain, loop=written_out, activation=jnp.tanh, output=dense
):
    """Loss of a network of equal layers, each with dropout and a key of its own, and an output."""

    def layer(x, inputs):
        kernel, key = inputs
        return drop(key, activation(x @ kernel), rate=rate), None

    inputs = kernels, jax.random.split(KEY, LAYERS)
    return jnp.mean(output(loop(wrap(layer), x, inputs)[0], kernels) ** 2)


@cache
def temporary_bytes(drop, *, wrap, loop, of=jax.grad, output=dense):
    """Bytes that a compiled program takes beside its inputs and its result."""
    compute = of(
        partial(loss, drop=drop, wrap=wrap, loop=loop, activation=jax.nn.relu, output=output)
    )
    kernels = jnp.zeros((LAYERS, WIDTH, WIDTH))
    x = jnp.zeros((BATCH, WIDTH))
    return jax.jit(compute).lower(kernels, x, 0.1).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("loop", [written_out, jax.lax.scan], ids=["unrolled", "scan"])
@pytest.mark.parametrize("wrap", [plain, jax.checkpoint], ids=["plain", "remat"])
@pytest.mark.parametrize("drop", FUNCTIONS, ids=lambda drop: drop.__name__)
def test_the_gradient_takes_the_memory_that_it_takes_without_dropout(drop, wrap, loop):
    """Neither a mask nor an index of the elements is in memory, not even one for all layers."""
    without = temporary_bytes(nothing, wrap=wrap, loop=loop)
    extra = temporary_bytes(drop, wrap=wrap, loop=loop) - without
    assert abs(extra) <= 0.01 * ACTIVATIONS


@pytest.mark.parametrize("loop", [written_out, jax.lax.scan], ids=["unrolled", "scan"])
@pytest.mark.parametrize("wrap", [plain, jax.checkpoint], ids=["plain", "remat"])
@pytest.mark.parametrize("drop", FUNCTIONS, ids=lambda drop: drop.__name__)
def test_dropout_that_feeds_the_loss_takes_at_most_one_activation(drop, wrap, loop):
    """Nothing per layer; jax 0.12's compiler holds one more output, 0.10's does not."""
    without = temporary_bytes(nothing, wrap=wrap, loop=loop, output=dropped)
    extra = temporary_bytes(drop, wrap=wrap, loop=loop, output=dropped) - without
    newer = tuple(map(int, jax.__version__.split(".")[:2])) > (0, 10)
    assert abs(extra) <= 0.01 * ACTIVATIONS + newer * ACTIVATIONS / LAYERS


@pytest.mark.parametrize("wrap", [plain, jax.checkpoint], ids=["plain", "remat"])
def test_bits_of_jax_take_more(wrap):
    """The bound of the test above is one that can be missed."""
    for loop in (written_out, jax.lax.scan):
        without = temporary_bytes(nothing, wrap=wrap, loop=loop)
        extra = temporary_bytes(WITH_JAX_BITS, wrap=wrap, loop=loop) - without
        assert extra > 0.1 * ACTIVATIONS


def test_a_loop_over_layers_keeps_no_index():
    """The compiler moves what is equal in all steps in front of a loop, if nothing prevents it."""
    values = {"wrap": plain, "loop": jax.lax.scan, "of": lambda function: function}
    extra = temporary_bytes(dropout.dropout, **values) - temporary_bytes(nothing, **values)
    assert extra <= 0.01 * ACTIVATIONS


# From here on a small network, beside the same network with its masks as constants.
X = np.cos(np.arange(6 * 4.0, dtype=np.float32)).reshape(6, 4)
KERNELS = np.sin(np.arange(1, LAYERS * 4 * 4 + 1, dtype=np.float32)).reshape(LAYERS, 4, 4)
RATE = 0.25


def small(kernels, x=X, rate=RATE, **options):
    return loss(kernels, x, rate, drop=dropout.dropout, **options)


@cache
def masks(shape):
    with jax.ensure_compile_time_eval():
        keys = jax.random.split(KEY, LAYERS)
        drawn = [dropout.dropout(key, jnp.ones(shape), rate=RATE) != 0 for key in keys]
        return np.array(drawn, np.float32)


def masked(kernels, x=X, rate=RATE):
    for kernel, mask in zip(kernels, masks(x.shape), strict=True):
        x = jnp.tanh(x @ kernel) * mask / (1 - rate)
    return jnp.mean((x @ kernels[-1]) ** 2)


def close(actual, expected):
    scale = np.max(np.abs(expected))
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_gradient_is_that_of_fixed_masks(transform):
    close(transform(jax.grad(small))(KERNELS), jax.grad(masked)(KERNELS))


@pytest.mark.parametrize("loop", [written_out, jax.lax.scan], ids=["unrolled", "scan"])
def test_recomputing_the_layers_draws_the_same_masks(loop):
    again = partial(small, wrap=jax.checkpoint, loop=loop)
    close(jax.jit(jax.grad(again))(KERNELS), jax.grad(masked)(KERNELS))


def test_the_forward_derivative_is_that_of_fixed_masks():
    direction = np.cos(KERNELS)
    for actual, expected in zip(
        jax.jvp(small, (KERNELS,), (direction,)),
        jax.jvp(masked, (KERNELS,), (direction,)),
        strict=True,
    ):
        close(actual, expected)


def test_the_hessian_is_that_of_fixed_masks():
    def of_last(function):
        return lambda kernel: function(jnp.concatenate([KERNELS[:-1], kernel[None]]))

    actual = jax.jit(jax.hessian(of_last(small)))(KERNELS[-1])
    expected = jax.jit(jax.hessian(of_last(masked)))(KERNELS[-1])
    close(actual, expected)


def test_gradients_of_several_networks_at_once():
    several = np.stack([KERNELS, 0.5 * KERNELS, -KERNELS])
    mapped = jax.vmap(jax.grad(small))(several)
    close(mapped, np.stack([jax.grad(masked)(kernels) for kernels in several]))


def test_gradients_of_examples_share_the_mask_of_one_example():
    """Each example is an array of its own: with one key all of them get the same mask."""
    mapped = jax.vmap(jax.grad(small), in_axes=(None, 0))(KERNELS, X[:, None])
    close(mapped, np.stack([jax.grad(masked)(KERNELS, example[None]) for example in X]))


def test_training_in_a_scan():
    def train(function):
        def step(kernels, _):
            value, gradient = jax.value_and_grad(function)(kernels)
            return kernels - 0.1 * gradient, value

        return jax.lax.scan(step, jnp.asarray(KERNELS), None, 5)

    for actual, expected in zip(train(small), train(masked), strict=True):
        close(actual, expected)


def test_the_gradient_of_the_rate_is_that_of_fixed_masks():
    def by_rate(function):
        return jax.grad(lambda rate: function(KERNELS, X, rate))(RATE)

    close(by_rate(small), by_rate(masked))
    close(jax.grad(lambda rate: small(KERNELS, X, rate, loop=jax.lax.scan))(RATE), by_rate(masked))
