"""Pictures of masks of parameters and of values that a training loop updates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.site.panels import KEY, Lines, Picture, Words, evaluate
from docs.site.pictures.trained import init

PARAMS = {
    "embed": {"embedding": np.zeros((8, 4))},
    "block_0": {
        "norm": {"scale": np.ones(4), "bias": np.zeros(4)},
        "dense": {"kernel": np.zeros((4, 4)), "bias": np.zeros(4)},
    },
    "head": {"kernel": np.zeros((4, 2)), "bias": np.zeros(2)},
}


def selected(*codes: str) -> Picture:
    """Shows which parameters a mask selects, or the number that each one gets."""
    panels = tuple(
        Words(code.partition("(")[0], _lines(evaluate(code, params=PARAMS))) for code in codes
    )
    return Picture(panels, codes, "Selected parameters are marked.")


def _lines(tree: Any) -> list[list[tuple[str, bool]]]:
    lines = []
    for path, value in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(str(entry.key) for entry in path)
        number = "" if isinstance(value, bool | np.bool_) else f": {value:g}"
        lines.append([(f"{name}{number}", bool(value))])
    return lines


def metric() -> np.ndarray:
    """Returns a validation loss that falls and rises again."""
    t = np.arange(60.0)
    ripple = 0.06 * np.sin(1.7 * t) + 0.04 * np.sin(3.1 * t)
    return np.float32(np.exp(-t / 9) + 0.008 * t + 0.25 + ripple)


def stopping() -> Picture:
    """Shows the best value and the end of training."""
    code = "early_stopping.update(state, metric, params, patience=8)"
    begin = "early_stopping.init(params)"
    values = metric()
    state = evaluate(begin, params=0)
    best = 0
    for epoch, value in enumerate(values):
        state = evaluate(code, state=state, metric=value, params=epoch)
        best = int(state.best_params)
        if state.should_stop:
            break
    marks = {"best": float(best), "stop": float(epoch)}
    panel = Lines("validation loss", range(60), {"": values}, "epoch", "loss", marks)
    return Picture((panel,), (begin, code))


def following() -> Picture:
    """Shows a strength that doubles when a metric stalls."""
    begin = "plateau.init(0.05)"
    code = "plateau.update(state, metric, patience=6, factor=2.0, maximum=1.0)"
    values = metric()
    state = evaluate(begin)
    strengths = []
    for value in values:
        state = evaluate(code, state=state, metric=value)
        strengths.append(float(state.strength))
    panels = (
        Lines("metric", range(60), {"": values}, "epoch"),
        Lines("strength", range(60), {"": strengths}, "epoch", steps=True),
    )
    return Picture(panels, (begin, code))


def scheduled() -> Picture:
    """Shows three schedules of a dropout rate."""
    codes = (
        "schedules.curriculum_dropout(step, rate=0.5, gamma=0.05)",
        "schedules.early_dropout(step, rate=0.5, steps=60)",
        "schedules.late_dropout(step, rate=0.5, start=60)",
    )
    step = jnp.arange(101)
    curves = {code.partition(".")[2].partition("(")[0]: evaluate(code, step=step) for code in codes}
    return Picture((Lines("", step, curves, "step", "rate"),), codes)


def monte_carlo() -> Picture:
    """Shows predictions with dropout, their mean and their spread."""
    (first, offset), (last, _) = init((1, 64, 1))
    grid = jnp.linspace(-2, 2, 81)[:, None]
    inner = "dropout.dropout(key, hidden, rate=0.2)"
    hidden = jnp.tanh(grid @ first + offset + jnp.linspace(-2, 2, 64))
    code = "ensembles.monte_carlo(apply, keys)"

    def apply(key: Any) -> Any:
        return (evaluate(inner, key=key, hidden=hidden) @ last)[:, 0]

    keys = jax.random.split(KEY, 100)
    mean, variance = evaluate(code, apply=apply, keys=keys)
    spread = jnp.sqrt(variance)
    curves = {"mean": mean, "mean + 1 stddev": mean + spread, "mean - 1 stddev": mean - spread}
    panel = Lines("100 masks", grid[:, 0], curves, "input", "prediction")
    return Picture((panel,), (inner, code))


def members() -> Picture:
    """Shows the error of an ensemble over the number of its members."""
    code = "ensembles.ensemble_mse(1.0, covariance, members=members)"
    count = jnp.arange(1, 21)
    curves = {
        f"covariance {c}": evaluate(code, covariance=c, members=count) for c in (0.0, 0.3, 0.7)
    }
    panel = Lines("variance 1", count, curves, "members", "mean squared error")
    return Picture((panel,), (code,))


def recalibrated() -> Picture:
    """Shows a running mean that lags behind, and the recalibrated one."""
    code = "normalization.batch_norm(x, stats, momentum=0.9)"
    drift = jnp.linspace(0, 2, 60)
    draws = jax.random.normal(KEY, (60, 32))
    stats = evaluate("normalization.init_stats((1,))")
    running = []
    for center, noise in zip(drift, draws, strict=True):
        _, stats = evaluate(code, x=(center + noise)[:, None], stats=stats)
        running.append(float(stats.mean[0]))
    curves = {"mean of a unit": drift, "running mean": jnp.array(running)}
    panel = Lines("while training moves the unit", range(60), curves, "step", "mean")
    return Picture(
        (panel,),
        (code, "statistics.recalibrate(apply, variables, batches)"),
        "Recalibration computes the mean anew, with the weights at the end.",
    )


def digested() -> Picture:
    """Shows the digests of a tree before and after one bit flips."""
    code = "digests.digest(tree)"
    tree = {"kernel": np.zeros((4, 4), np.float32), "bias": np.zeros(4, np.float32)}
    flipped = {**tree, "kernel": tree["kernel"].copy()}
    flipped["kernel"].view(np.uint32)[0, 0] ^= 1
    panels = []
    before = evaluate(code, tree=tree)
    for title, one in (("tree", tree), ("after a bit has flipped", flipped)):
        taken = evaluate(code, tree=one)
        lines = [[(f"{k}: {v[:30]}...", v != before[k])] for k, v in taken.items()]
        panels.append(Words(title, lines))
    return Picture(tuple(panels), (code,))


PICTURES: dict[str, Callable[[], Picture]] = {
    "masks/kernels": partial(selected, "masks.kernels(params)"),
    "masks/no_bias_or_norm": partial(selected, "masks.no_bias_or_norm(params)"),
    "masks/match": partial(
        selected,
        'masks.match("block_0")(params)',
        'masks.all_of(masks.kernels, masks.negate(masks.match("embed")))(params)',
    ),
    "masks/multipliers": partial(
        selected, 'masks.multipliers([("head/.*", 0.1), (".*kernel", 1.0)])(params)'
    ),
    "masks/depth": partial(selected, 'masks.depth(params, ("embed", "block_0", "head"))'),
    "training/early_stopping": stopping,
    "training/plateau": following,
    "training/schedules": scheduled,
    "training/monte_carlo": monte_carlo,
    "training/ensemble_mse": members,
    "training/recalibrate": recalibrated,
    "training/digests": digested,
}
