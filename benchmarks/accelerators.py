"""Layers, losses, chains and augmentation on an accelerator, beside peers and a copy.

Layers and losses run in bfloat16 on one large square and on the activations of common networks.
Each call takes ``STEPS`` steps on the device, so that dispatch does not count. The floor is a copy
that moves as many bytes: each array that the work must read or write, once. ``matrix product`` is
the product with a square kernel that a layer of this width computes anyway.
"""

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks import augment, optimizer
from benchmarks.dropout import RATE
from benchmarks.dropout_family import plain_alpha_dropout, plain_dropout
from benchmarks.measuring import Row, Work, if_installed, rows_against, shortest
from jaxreg import dropout, normalization, targets

STEPS = 20
ALPHA = 0.1
FLOOR = "copy"
DTYPE = jnp.bfloat16
KINDS = ("forward", "forward and gradient")
SHAPES = {
    "8192 x 8192": (8192, 8192),
    "ResNet-50": (128, 56, 56, 256),
    "ViT-B": (256, 197, 768),
    "Llama-7B": (4, 2048, 4096),
    "logits of Llama-7B": (8192, 32000),
}
TINY = {
    "8192 x 8192": (16, 32),
    "ResNet-50": (2, 8, 8, 32),
    "ViT-B": (2, 5, 32),
    "Llama-7B": (2, 8, 32),
    "logits of Llama-7B": (16, 32),
}
Layer = Callable[..., jax.Array]
Loss = Callable[[jax.Array], Any]


class Contest(NamedTuple):
    """A layer ``(key, *inputs)`` and its peers.

    Attributes:
      name: Name of the layer.
      shape: Name of the shape, from ``SHAPES``.
      ours: Our layer.
      peer: Name of the peer in JAX.
      theirs: The peer in JAX.
      torch: The same as ``(torch.nn.functional, *inputs)``, with the channels second.
      passes: Arrays to read or write: forward, and with the gradient.
      inputs: Number of inputs.
    """

    name: str
    shape: str
    ours: Layer
    peer: str
    theirs: Layer
    torch: Callable[..., Any] | None
    passes: tuple[int, int] = (2, 4)
    inputs: int = 1


def measure(*, small: bool) -> list[Row]:
    """Measures everything; peers in torch run on the GPU if torch has one."""
    # Torch needs some of the memory that JAX would take for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    shapes = TINY if small else SHAPES
    turns = 1 if small else 5
    rows = []
    for contest in (*_dropouts(), *_norms(shapes), *_residuals()):
        rows += _rows_of_layer(contest, shapes[contest.shape], turns)
    rows += _rows_of_loss(shapes["logits of Llama-7B"], turns)
    rows += optimizer.rows(8 if small else 2048, turns)
    for batch, side in ((2, 16),) if small else ((1024, 32), (256, 224)):
        rows += augment.rows(batch, side, turns)
    return rows


def _dropouts() -> list[Contest]:
    elementwise = [
        Contest(
            "dropout",
            shape,
            partial(dropout.dropout, rate=RATE),
            "flax.linen",
            lambda key, x: nn.Dropout(RATE, deterministic=False).apply(
                {}, x, rngs={"dropout": key}
            ),
            lambda functional, x: functional.dropout(x, RATE),
        )
        for shape in ("8192 x 8192", "ResNet-50", "ViT-B", "Llama-7B")
    ]
    return [
        *elementwise,
        Contest(
            "Gaussian dropout",
            "8192 x 8192",
            partial(dropout.gaussian_dropout, rate=RATE),
            "jax.random",
            _gaussian,
            None,
        ),
        Contest(
            "alpha dropout",
            "8192 x 8192",
            partial(dropout.alpha_dropout, rate=RATE),
            "jax.random",
            plain_alpha_dropout,
            lambda functional, x: functional.alpha_dropout(x, RATE, training=True),
        ),
        _parts("spatial dropout", "ResNet-50", dropout.spatial_dropout, (0, 3), "dropout2d"),
        _parts("DropPath", "ViT-B", dropout.drop_path, (0,), None),
        _parts("locked dropout", "Llama-7B", dropout.locked_dropout, (0, 2), None),
    ]


def _parts(name: str, shape: str, ours: Layer, kept: tuple[int, ...], torch: str | None) -> Contest:
    """Returns the contest of a layer that drops whole parts; axes not ``kept`` share decisions."""

    def plain(key: jax.Array, x: jax.Array) -> jax.Array:
        sizes = tuple(size if axis in kept else 1 for axis, size in enumerate(x.shape))
        return plain_dropout(key, x, sizes)

    theirs = None if torch is None else lambda functional, x: getattr(functional, torch)(x, RATE)
    return Contest(name, shape, partial(ours, rate=RATE), "jax.random", plain, theirs)


def _norms(shapes: dict[str, tuple[int, ...]]) -> list[Contest]:
    features = shapes["ResNet-50"][-1]
    stats = normalization.init_stats(features)
    flax_stats = {"mean": jnp.zeros(features), "var": jnp.ones(features)}

    def flax_batch_norm(key: jax.Array, x: jax.Array) -> jax.Array:
        module = nn.BatchNorm(use_running_average=False, use_bias=False, use_scale=False)
        return module.apply({"batch_stats": flax_stats}, x, mutable=["batch_stats"])[0]

    by_rows = [
        Contest(name, shape, ours, "flax.linen", theirs, torch, (2, 5))
        for name, ours, theirs, torch in (
            ("LayerNorm", _layer_norm, _flax_layer_norm, _torch_layer_norm),
            ("RMSNorm", _rms_norm, _flax_rms_norm, _torch_rms_norm),
        )
        for shape in ("8192 x 8192", "ViT-B", "Llama-7B")
    ]
    return [
        *by_rows,
        Contest(
            "GroupNorm",
            "ResNet-50",
            lambda key, x: normalization.group_norm(x),
            "flax.linen",
            lambda key, x: nn.GroupNorm(use_bias=False, use_scale=False).apply({}, x),
            lambda functional, x: functional.group_norm(x, 32),
            (3, 8),
        ),
        # Statistics of columns need another pass over the input and over the cotangent.
        Contest(
            "BatchNorm",
            "ResNet-50",
            lambda key, x: normalization.batch_norm(x, stats)[0],
            "flax.linen",
            flax_batch_norm,
            lambda functional, x: functional.batch_norm(x, None, None, training=True),
            (3, 8),
        ),
    ]


def _residuals() -> list[Contest]:
    """Returns sums of a residual and a dropped branch, with a norm behind."""
    return [
        Contest(
            f"{name} of a residual and dropout",
            shape,
            lambda key, x, r, norm=ours: norm(key, r + dropout.dropout(key, x, rate=RATE)),
            "flax.linen",
            lambda key, x, r, norm=theirs: norm(
                key, r + nn.Dropout(RATE, deterministic=False).apply({}, x, rngs={"dropout": key})
            ),
            lambda functional, x, r, norm=torch: norm(functional, r + functional.dropout(x, RATE)),
            passes=(3, 7),
            inputs=2,
        )
        for name, shape, ours, theirs, torch in (
            ("LayerNorm", "ViT-B", _layer_norm, _flax_layer_norm, _torch_layer_norm),
            ("RMSNorm", "Llama-7B", _rms_norm, _flax_rms_norm, _torch_rms_norm),
        )
    ]


def _layer_norm(key: jax.Array, x: jax.Array) -> jax.Array:
    del key
    return normalization.layer_norm(x)


def _flax_layer_norm(key: jax.Array, x: jax.Array) -> Any:
    del key
    return nn.LayerNorm(use_bias=False, use_scale=False).apply({}, x)


def _torch_layer_norm(functional: Any, x: Any) -> Any:
    return functional.layer_norm(x, x.shape[-1:])


def _rms_norm(key: jax.Array, x: jax.Array) -> jax.Array:
    del key
    return normalization.rms_norm(x)


def _flax_rms_norm(key: jax.Array, x: jax.Array) -> Any:
    del key
    return nn.RMSNorm(use_scale=False).apply({}, x)


def _torch_rms_norm(functional: Any, x: Any) -> Any:
    return functional.rms_norm(x, x.shape[-1:])


def _gaussian(key: jax.Array, x: jax.Array) -> jax.Array:
    scale = (RATE / (1 - RATE)) ** 0.5
    return x * (1 + scale * jax.random.normal(key, x.shape, x.dtype))


def _copy(key: jax.Array, x: jax.Array, *rest: jax.Array) -> jax.Array:
    """Multiplies by -1, since compilers would remove a plain copy."""
    del key, rest
    return x * DTYPE(-1)


def _rows_of_layer(contest: Contest, shape: tuple[int, ...], turns: int) -> list[Row]:
    kernel = jnp.eye(shape[-1], dtype=DTYPE)
    layers = {
        "jaxreg": contest.ours,
        contest.peer: contest.theirs,
        "matrix product": lambda key, x, *rest: x @ kernel,
    }
    rows = []
    for place, kind in enumerate(KINDS):
        step = (_forward, _gradient)[place]
        works = {
            name: _repeat(partial(step, layer), shape, contest.inputs)
            for name, layer in layers.items()
        }
        works[FLOOR] = _repeat(partial(_forward, _copy), shape, 1)
        works |= if_installed("torch", partial(_torch_works, contest, shape, place))
        times = {name: time / STEPS for name, time in shortest(works, turns=turns).items()}
        times[FLOOR] *= contest.passes[place] / 2
        sizes = " x ".join(map(str, shape))
        label = sizes if contest.shape.startswith("8192") else f"{contest.shape}, {sizes}"
        rows += rows_against(f"{contest.name}, {label}, {kind}", times, floor=FLOOR)
    return rows


def _forward(layer: Layer, key: jax.Array, inputs: Any, cotangent: jax.Array) -> Any:
    return (layer(key, *inputs), *inputs[:-1]), cotangent


def _gradient(layer: Layer, key: jax.Array, inputs: Any, cotangent: jax.Array) -> Any:
    y, pull_back = jax.vjp(partial(layer, key), *inputs)
    return pull_back(cotangent), y


def _repeat(step: Callable[..., Any], shape: tuple[int, ...], inputs: int) -> Work:
    """Returns a call that takes the step ``STEPS`` times; each needs the results of the last."""
    arrays = tuple(_array(shape, seed) for seed in range(inputs))
    cotangent = _array(shape, inputs)

    @jax.jit
    def run(arrays: Any, cotangent: jax.Array) -> Any:
        def body(carry: Any, key: jax.Array) -> Any:
            return step(key, *carry), None

        keys = jax.random.split(jax.random.key(0), STEPS)
        return jax.lax.scan(body, (arrays, cotangent), keys)[0]

    return lambda: run(arrays, cotangent)


def _array(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, DTYPE)


def _rows_of_loss(shape: tuple[int, ...], turns: int) -> list[Row]:
    """Compares smoothed cross entropy, with the gradient of the logits."""
    labels = jnp.arange(shape[0]) % shape[1]

    def of_optax(logits: jax.Array) -> jax.Array:
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, shape[1]), ALPHA)
        return optax.softmax_cross_entropy(logits.astype(jnp.float32), smooth).mean()

    works = {
        "jaxreg": _repeat_loss(
            lambda logits: targets.smoothed_cross_entropy(logits, labels, alpha=ALPHA), shape
        ),
        "optax": _repeat_loss(of_optax, shape),
        FLOOR: _repeat(partial(_forward, _copy), shape, 1),
        **if_installed("torch", partial(_torch_loss, shape)),
    }
    times = {name: time / STEPS for name, time in shortest(works, turns=turns).items()}
    times[FLOOR] *= 3 / 2  # Reads the logits for their sums and for the gradient, and writes that.
    label = " x ".join(map(str, shape))
    return rows_against(f"smoothed cross entropy, {label}, {KINDS[1]}", times, floor=FLOOR)


def _repeat_loss(loss: Loss, shape: tuple[int, ...]) -> Work:
    logits = _array(shape, 0)

    @jax.jit
    def run(logits: jax.Array) -> Any:
        def body(carry: tuple[jax.Array, jax.Array], _: None) -> Any:
            value, gradient = jax.value_and_grad(loss)(carry[0])
            return (gradient, carry[1] + value), None

        return jax.lax.scan(body, (logits, jnp.zeros(())), length=STEPS)[0]

    return lambda: run(logits)


def _torch_works(contest: Contest, shape: tuple[int, ...], place: int) -> dict[str, Work]:
    """Returns eager torch, and on a GPU also compiled torch."""
    if contest.torch is None:
        return {}
    torch = importlib.import_module("torch")
    function = partial(contest.torch, torch.nn.functional)
    if len(shape) == 4:
        shape = (shape[0], shape[-1], *shape[1:-1])
    inputs = [_tensor(shape).requires_grad_(place == 1) for _ in range(contest.inputs)]
    cotangent = _tensor(shape)

    def call(function: Callable[..., Any]) -> Any:
        y = function(*inputs)
        return y if place == 0 else torch.autograd.grad(y, inputs, cotangent)

    return _eager_and_compiled(function, call)


def _torch_loss(shape: tuple[int, ...]) -> dict[str, Work]:
    torch = importlib.import_module("torch")
    logits = _tensor(shape).requires_grad_()
    labels = torch.arange(shape[0], device=logits.device) % shape[1]

    def function(logits: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=ALPHA)

    return _eager_and_compiled(function, lambda f: torch.autograd.grad(f(logits), logits))


def _eager_and_compiled(
    function: Callable[..., Any], call: Callable[[Callable[..., Any]], Any]
) -> dict[str, Work]:
    """Returns calls that take ``STEPS`` steps and wait for the device."""
    torch = importlib.import_module("torch")

    def repeated(function: Callable[..., Any]) -> Work:
        def work() -> None:
            for _ in range(STEPS):
                call(function)
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        return work

    works = {"torch": repeated(function)}
    if torch.cuda.is_available():
        works["torch.compile"] = repeated(torch.compile(function))
    return works


def _tensor(shape: tuple[int, ...]) -> Any:
    torch = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.randn(shape, device=device, dtype=torch.bfloat16)
