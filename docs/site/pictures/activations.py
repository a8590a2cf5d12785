"""Pictures of dropout and noise: what one call does to an array."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.site.panels import (
    KEY,
    Heat,
    Lines,
    Panel,
    Photo,
    Picture,
    as_array,
    compiled,
    evaluate,
    side_by_side,
)
from docs.site.pictures.photographs import china

ONES = np.ones((12, 24), np.float32)
NORMAL = np.random.default_rng(1).normal(size=(12, 24)).astype(np.float32)
MAPS = np.ones((1, 16, 16, 4), np.float32)
PATCH = 15


def masked(code: str, x: Any, across: str, down: str) -> Picture:
    """Shows an array before and after a call with ``x``."""
    after = compiled(code, "x")(x)
    low = min(float(x.min()), float(after.min()), 0.0)
    high = float(after.max())
    if x.ndim == 3:
        x = x[0]
        after = after[0]
    panels = (
        Heat("x", as_array(x), low, high, across, down),
        Heat("result", as_array(after), low, high, across, down),
    )
    return Picture(panels, (code,))


def of_maps(code: str) -> Picture:
    """Shows four channels of one example before and after."""
    after = compiled(code, "x")(MAPS)
    high = float(after.max())
    panels = (
        Heat("x, four channels of one example", side_by_side(MAPS[0]), 0, high),
        Heat("result", side_by_side(after[0]), 0, high),
    )
    return Picture(panels, (code,))


def of_photos(*codes: str) -> Picture:
    """Shows a photograph before and after."""
    x = china()
    after = (Photo("result", as_array(compiled(code, "x")(x))) for code in codes)
    return Picture((Photo("x", as_array(x)), *after), codes)


def drop_path() -> Picture:
    """Shows which examples lose a branch, and the rates of a stack of blocks."""
    picture = masked("dropout.drop_path(key, x, rate=0.3)", ONES, "features", "examples")
    code = "dropout.drop_path_rates(0.3, 12)"
    rates = Lines(
        "rates of 12 blocks", range(1, 13), {"": evaluate(code)}, "block", "rate", steps=True
    )
    return Picture((*picture.panels, rates), (*picture.calls, code))


def stochastic_depth() -> Picture:
    """Shows which blocks of a stack are computed at each step."""
    code = "dropout.stochastic_depth(key, block, x, rate=rate)"
    rates = jnp.asarray(evaluate("dropout.drop_path_rates(0.5, 12)"))
    keys = jax.random.split(KEY, (12, 24))

    def step(key: Any, rate: Any) -> Any:
        y = evaluate(code, key=key, block=jnp.ones_like, x=jnp.zeros(()), rate=rate)
        return y != 0

    kept = jax.jit(jax.vmap(jax.vmap(step, (0, None)), (0, 0)))(keys, rates)
    panel = Heat("blocks that are computed", as_array(kept), 0, 1, "training step", "block")
    return Picture((panel,), (code, "dropout.drop_path_rates(0.5, 12)"))


def zoneout() -> Picture:
    """Shows which units keep their old state."""
    new = jnp.ones((12, 24))
    code = "dropout.zoneout(key, new, old, rate=0.3)"
    mean = "dropout.zoneout_mean(new, old, rate=0.3)"
    panels = []
    for title, call in (("training: old is 0, new is 1", code), ("evaluation", mean)):
        after = evaluate(call, new=new, old=jnp.zeros_like(new))
        panels.append(Heat(title, as_array(after), 0, 1, "units", "examples"))
    return Picture(tuple(panels), (code, mean))


def patch_dropout() -> Picture:
    """Shows the patches of a photograph that are kept."""
    code = "dropout.patch_dropout(key, patches, rate=0.5, prefix=0)"
    image = china()
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
    grid = image.reshape(rows, PATCH, columns, PATCH, 3).swapaxes(1, 2)
    patches = grid.reshape(1, rows * columns, -1)
    kept, indices = evaluate(code, patches=patches)
    after = jnp.full_like(patches[0], 0.5).at[indices[0]].set(kept[0])
    after = after.reshape(rows, columns, PATCH, PATCH, 3).swapaxes(1, 2).reshape(image.shape)
    panels = (Photo("patches", as_array(image)), Photo("kept patches", as_array(after)))
    return Picture(panels, (code,))


def concrete_dropout() -> Picture:
    """Shows soft masks at two temperatures."""
    panels: list[Panel] = []
    calls = []
    for temperature in (0.1, 1.0):
        call = f"dropout.concrete_dropout(key, x, logit=-1.0, temperature={temperature})"
        after = compiled(call, "x")(ONES)
        panels.append(Heat(f"temperature {temperature}", as_array(after), 0, None, "units"))
        calls.append(call)
    return Picture(tuple(panels), tuple(calls))


def hard_concrete() -> Picture:
    """Shows the sorted gates of three parameters, and the penalty over the parameter."""
    code = "dropout.hard_concrete(key, log_alpha)"
    gates = {}
    for value in (-2.0, 0.0, 2.0):
        drawn = evaluate(code, log_alpha=jnp.full(1000, value))
        gates[f"log_alpha {value:g}"] = jnp.sort(drawn)
    grid = jnp.linspace(-6, 6, 101)
    penalty = "penalties.hard_concrete_l0(log_alpha)"
    chances = jax.vmap(lambda value: evaluate(penalty, log_alpha=value[None]))(grid)
    inference = "dropout.hard_concrete_inference(log_alpha)"
    curves = {"open with probability": chances, "gate": evaluate(inference, log_alpha=grid)}
    panels = (
        Lines("1000 gates, sorted", jnp.linspace(0, 1, 1000), gates, "share of gates", "gate"),
        Lines("evaluation and penalty", grid, curves, "log_alpha"),
    )
    return Picture(panels, (code, inference, penalty))


def variational_dense() -> Picture:
    """Shows outputs over several draws, and weights before and after pruning."""
    x = jnp.linspace(-1, 1, 8)[None]
    kernel = jax.random.normal(jax.random.key(1), (8, 24)) / 3
    log_var = jnp.full((8, 24), -4.0)
    code = "dropout.variational_dense(key, x, kernel, log_var)"
    keys = jax.random.split(KEY, 12)
    drawn = jax.vmap(lambda key: evaluate(code, key=key, x=x, kernel=kernel, log_var=log_var)[0])
    prune = "dropout.variational_prune(kernel, log_var)"
    panels = (
        Heat("outputs in 12 draws", as_array(drawn(keys)), None, None, "units", "draw"),
        Heat("kernel", as_array(kernel), -1, 1, "outputs", "inputs"),
        Heat("pruned", as_array(evaluate(prune, kernel=kernel, log_var=log_var)), -1, 1, "outputs"),
    )
    return Picture(panels, (code, prune))


def simple(code: str, x: Any = ONES, across: str = "units", down: str = "examples") -> Any:
    """Returns a picture of a call with ``x``, drawn on demand."""
    return partial(masked, code, x, across, down)


PICTURES: dict[str, Callable[[], Picture]] = {
    "dropout/dropout": simple("dropout.dropout(key, x, rate=0.3)"),
    "dropout/classical_dropout": simple("dropout.classical_dropout(key, x, rate=0.3)"),
    "dropout/gaussian_dropout": simple("dropout.gaussian_dropout(key, x, rate=0.3)"),
    "dropout/alpha_dropout": simple("dropout.alpha_dropout(key, x, rate=0.3)", NORMAL),
    "dropout/feature_alpha_dropout": simple(
        "dropout.feature_alpha_dropout(key, x, rate=0.3)",
        NORMAL[None],
        "channels",
        "positions",
    ),
    "dropout/spatial_dropout": partial(of_maps, "dropout.spatial_dropout(key, x, rate=0.5)"),
    "dropout/drop_block": partial(of_maps, "dropout.drop_block(key, x, rate=0.2, block_size=4)"),
    "dropout/drop_path": drop_path,
    "dropout/stochastic_depth": stochastic_depth,
    "dropout/locked_dropout": simple(
        "dropout.locked_dropout(key, x, rate=0.3)", ONES[None], "units", "time steps"
    ),
    "dropout/zoneout": zoneout,
    "dropout/patch_dropout": patch_dropout,
    "dropout/concrete_dropout": concrete_dropout,
    "dropout/hard_concrete": hard_concrete,
    "dropout/drop_connect": simple(
        "dropout.drop_connect(key, x, rate=0.3)", ONES, "outputs", "inputs"
    ),
    "dropout/embedding_dropout": simple(
        "dropout.embedding_dropout(key, x, rate=0.3)", ONES, "features", "words"
    ),
    "dropout/variational_dropout": simple("dropout.variational_dropout(key, x, log_alpha=-1.0)"),
    "dropout/variational_dense": variational_dense,
    "noise/gaussian_noise": partial(of_photos, "noise.gaussian_noise(key, x, stddev=0.15)"),
    "noise/uniform_noise": partial(of_photos, "noise.uniform_noise(key, x, limit=0.3)"),
    "noise/salt_and_pepper": partial(of_photos, "noise.salt_and_pepper(key, x, rate=0.1)"),
    "noise/perturb": simple("noise.perturb(key, x, stddev=0.5)", ONES, "outputs", "inputs"),
}
