"""What a program pays before its first step: imports, and the compilation of a mixup.

The peer and the floor of an import are the packages that ours builds on, imported alone. The floor
of a mixup is one with a given share and the next example as the partner, which draws nothing. Times
of compiling are CPU times of this process, tracing included, as medians.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measuring import Row, rows_against
from jaxreg import augment

ALPHA = 0.2
CLASSES = 10
PURE = (
    "augment, dropout, information, masks, noise, normalization, penalties, projections, proximal, "
    "reparam, smoothness, targets"
)
IMPORTS = {
    "import jaxreg": ("import jax, jaxreg", "import jax"),
    "import every pure package": (f"import jax; from jaxreg import {PURE}", "import jax"),
    "import jaxreg.linen": ("import flax.linen, jaxreg.linen", "import flax.linen"),
    "import jaxreg.nnx": ("import flax.nnx, jaxreg.nnx", "import flax.nnx"),
}


def measure(*, small: bool) -> list[Row]:
    """Measures imports in fresh processes, and the compilation of mixup."""
    turns = 1 if small else 7
    rows = [
        row
        for work, (ours, base) in IMPORTS.items()
        for row in _rows_of_import(work, ours, base, turns)
    ]
    functions = {"jaxreg": _ours, "jax.random.beta": _plain, "no draws": _given}
    x = jnp.ones((8, 4, 4, 3) if small else (64, 32, 32, 3))
    labels = jnp.arange(len(x)) % CLASSES
    found = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            found[name].append(_compiling(function, jax.random.key(0), x, labels))
    medians = {name: statistics.median(times) for name, times in found.items()}
    return rows + rows_against("compile random mixup", medians, floor="no draws")


def _rows_of_import(work: str, ours: str, base: str, turns: int) -> list[Row]:
    """Compares the shortest times, in turns, of fresh processes."""
    whole = float("inf")
    alone = float("inf")
    for _ in range(turns):
        whole = min(whole, _importing(ours))
        alone = min(alone, _importing(base))
    return [Row(work, f"{base} alone", whole, alone, alone, "ms")]


def _importing(statement: str) -> float:
    code = (
        f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    )
    call = [sys.executable, "-c", code]
    result = subprocess.run(call, capture_output=True, text=True, check=True)
    return 1e3 * float(result.stdout)


def _compiling(function: Callable[..., Any], *arguments: jax.Array) -> float:
    jax.clear_caches()
    start = time.process_time()
    jax.jit(function).lower(*arguments).compile()
    return 1e3 * (time.process_time() - start)


def _ours(key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
    return augment.random_mixup(key, x, labels, alpha=ALPHA, num_classes=CLASSES)


def _plain(key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
    share_key, partner_key = jax.random.split(key)
    share = jax.random.beta(share_key, ALPHA, ALPHA, (len(x),))
    order = jax.random.permutation(partner_key, len(x))
    return _mean(x, labels, share, x[order], labels[order])


def _given(key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
    del key
    share = jnp.full(len(x), 0.3)
    return _mean(x, labels, share, jnp.roll(x, 1, axis=0), jnp.roll(labels, 1))


def _mean(
    x: jax.Array, labels: jax.Array, share: jax.Array, other: jax.Array, other_labels: jax.Array
) -> Any:
    ours = jax.nn.one_hot(labels, CLASSES)
    theirs = jax.nn.one_hot(other_labels, CLASSES)
    of_image = share[:, None, None, None]
    of_label = share[:, None]
    mixed = of_image * x + (1 - of_image) * other
    return mixed, of_label * ours + (1 - of_label) * theirs
