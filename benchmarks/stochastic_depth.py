"""Training steps of deep residual networks, with and without stochastic depth.

The rates grow linearly from 0 to 1/2, so that three quarters of the blocks are kept on average and
the ratio is at most 4/3. The floor is the share of the blocks that are kept. That share depends on
the key, so the time is a mean over many steps with different keys.

On CPU, XLA's code for the gradient of a convolution is many times slower inside a branch or a loop
than outside (https://github.com/jax-ml/jax/issues/12868). The row for convolutions shows this, and
``both sides`` computes every block and selects, which costs a little more than all blocks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring import Row, Work, shortest
from jaxreg import dropout, normalization, targets

FINAL_RATE = 0.5
LEARNING_RATE = 0.01
CLASSES = 10
Params = dict[str, Any]
Block = Callable[[jax.Array], jax.Array]
Cond = Callable[..., jax.Array]


class Network(NamedTuple):
    """A stack of residual blocks of two layers, with the number of training steps."""

    layer: Callable[[jax.Array, jax.Array], jax.Array]
    kernel: tuple[int, ...]
    inputs: tuple[int, ...]
    blocks: int
    steps: int

    @property
    def rates(self) -> tuple[Any, ...]:
        return dropout.drop_path_rates(FINAL_RATE, self.blocks)

    @property
    def keys(self) -> jax.Array:
        return jax.random.split(jax.random.key(1), self.steps)


def measure(*, small: bool) -> list[Row]:
    """Measures the time of a training step."""
    turns = 2 if small else 5
    width, steps = (4, 2) if small else (128, 50)
    dense = Network(jnp.matmul, (width, width), (8 * width, width), blocks=16, steps=steps)
    width, steps = (4, 2) if small else (32, 10)
    image = (8, 8, 8, width)
    convolutions = Network(_convolution, (3, 3, width, width), image, blocks=16, steps=steps)
    return [
        _row("dense layers", dense, turns),
        _row("convolutions", convolutions, turns),
        _row("convolutions, both sides", convolutions, turns, cond=_select),
    ]


def _select(added: jax.Array, yes: Block, no: Block, x: jax.Array) -> jax.Array:
    return jnp.where(added, yes(x), no(x))


def _row(name: str, network: Network, turns: int, cond: Cond = jax.lax.cond) -> Row:
    rates = network.rates
    works = {"jaxreg": _work(network, rates, cond), "all blocks": _work(network, None, cond)}
    times = {n: time / network.steps for n, time in shortest(works, turns=turns).items()}
    share = _share_of_kept_blocks(network)
    kept = f"{share:.1%} of {network.blocks} blocks kept"
    work = f"stochastic depth, {name}, {kept}: training step"
    everything = times["all blocks"]
    return Row(work, "all blocks", times["jaxreg"], everything, share * everything, "ms")


def _work(network: Network, rates: Any, cond: Cond) -> Work:
    """Returns a call that takes the same steps each time; without rates it computes all blocks."""
    x = jax.random.normal(jax.random.key(2), network.inputs)
    y = jnp.arange(len(x)) % CLASSES
    start = _params(jax.random.key(3), network)
    keys = network.keys

    @jax.jit
    def step(params: Params, key: jax.Array, x: jax.Array, y: jax.Array) -> Params:
        def loss(params):
            logits = _logits(network, params, key, x, rates, cond)
            return targets.smoothed_cross_entropy(logits, y, alpha=0.0)

        grads = jax.grad(loss)(params)
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, grads)

    def steps() -> Params:
        params = start
        for key in keys:
            params = step(params, key, x, y)
        return params

    return steps


def _share_of_kept_blocks(network: Network) -> float:
    """Returns the share of blocks that all steps keep; a kept block adds ones here."""

    def outputs(key: jax.Array) -> list[jax.Array]:
        return [
            dropout.stochastic_depth(block_key, jnp.ones_like, jnp.zeros(()), rate=rate)
            for block_key, rate in zip(_block_keys(network, key), network.rates, strict=True)
        ]

    added = np.asarray(jax.jit(jax.vmap(outputs))(network.keys))
    return float(np.mean(added > 0))


def _block_keys(network: Network, key: jax.Array) -> list[jax.Array]:
    return [jax.random.fold_in(key, number) for number in range(network.blocks)]


def _logits(
    network: Network, params: Params, key: jax.Array, x: jax.Array, rates: Any, cond: Cond
) -> jax.Array:
    block_keys = _block_keys(network, key)
    for number, layers in enumerate(params["blocks"]):
        block = partial(_branch, network.layer, layers)
        if rates is None:
            x = x + block(x)
        else:
            drop = partial(dropout.stochastic_depth, rate=rates[number], cond=cond)
            x = drop(block_keys[number], block, x)
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1))) @ params["head"]


def _branch(layer: Callable[..., jax.Array], layers: list[Params], x: jax.Array) -> jax.Array:
    """Applies normalization, activation and the product with the kernel, for each layer."""
    for params in layers:
        stats = normalization.init_stats(x.shape[-1])
        x, _ = normalization.batch_norm(x, stats, scale=params["scale"], bias=params["bias"])
        x = layer(jax.nn.relu(x), params["kernel"])
    return x


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _params(key: jax.Array, network: Network) -> Params:
    width = network.kernel[-1]
    fan_in = np.prod(network.kernel[:-1])
    drawn = jax.random.normal(key, (network.blocks, 2, *network.kernel))
    affine = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    return {
        "blocks": [
            [{"kernel": np.sqrt(2 / fan_in) * kernel, **affine} for kernel in pair]
            for pair in drawn
        ],
        "head": jnp.zeros((width, CLASSES)),
    }
