"""Pictures of penalties of weights and activations, and of losses of predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.site.panels import Heat, Lines, Picture, Points, as_array, compiled, evaluate
from docs.site.pictures.layers import KERNEL, spectra

PLANE = np.linspace(-2, 2, 61, dtype=np.float32)
CHANCES = np.linspace(0.005, 0.995, 199, dtype=np.float32)
LOGITS = np.linspace(-6, 6, 121, dtype=np.float32)


def plane(code: str) -> Picture:
    """Shows the lines of equal penalty of two weights of one unit."""
    corner = jnp.stack(jnp.meshgrid(PLANE, PLANE), axis=-1).reshape(-1, 2, 1)
    values = jax.jit(jax.vmap(lambda w: evaluate(code, w=w, start=jnp.ones((2, 1)))))(corner)
    surface = (PLANE, PLANE, as_array(values).reshape(61, 61))
    slice_ = jax.vmap(lambda a: evaluate(code, w=jnp.array([[a], [0.5]]), start=jnp.ones((2, 1))))
    panels = (
        Points("lines of equal value", surface=surface, across="first weight", up="second weight"),
        Lines("second weight 0.5", PLANE, {"": slice_(PLANE)}, "first weight", "value"),
    )
    return Picture(panels, (code,))


def descend(code: str, start: Any, rate: float, steps: int) -> Any:
    """Returns values after steps of gradient descent on a call with ``w``."""
    slope = jax.grad(lambda w: evaluate(code, w=w))
    return jax.jit(lambda w: jax.lax.fori_loop(0, steps, lambda _, v: v - rate * slope(v), w))(
        start
    )


def spectrum(code: str, rate: float, steps: int = 50) -> Picture:
    """Shows the singular values of a kernel before and after descent on a penalty."""
    after = descend(code, KERNEL, rate, steps)
    name = f"after {steps} steps down the penalty"
    return Picture((spectra({"w": KERNEL, name: after}),), (code,))


def total_variation() -> Picture:
    """Shows a noisy curve before and after descent on its distance and total variation."""
    x = jnp.arange(120)
    clean = jnp.where(x < 40, 0.0, jnp.where(x < 80, 1.0, 0.4))
    noisy = clean + 0.15 * jax.random.normal(jax.random.key(1), (120,))
    code = "penalties.total_variation(w, axis=0)"
    both = f"0.5 * jnp.sum((w - noisy) ** 2) + 0.4 * {code}"
    slope = jax.grad(lambda w: evaluate(both, w=w, noisy=noisy))
    after = jax.jit(lambda w: jax.lax.fori_loop(0, 2000, lambda _, v: v - 0.005 * slope(v), w))(
        noisy
    )
    curves = {"noisy": noisy, "fit with the penalty": after}
    return Picture((Lines("a curve and its fit", x, curves),), (code,))


def decorrelation() -> Picture:
    """Shows the covariances of features before and after descent."""
    code = "penalties.decorrelation(w)"
    mixing = jnp.eye(8) + 0.6
    x = jax.random.normal(jax.random.key(1), (64, 8)) @ mixing / 2
    after = descend(code, x, 1.0, 200)
    panels = tuple(
        Heat(title, as_array(jnp.cov(v.T)), 0, 1.5, "features", "features")
        for title, v in (("covariances", x), ("after 200 steps down the penalty", after))
    )
    return Picture(panels, (code,))


def curves(
    codes: tuple[str, ...], names: tuple[str, ...], x: Any, across: str, up: str = "value",
    title: str = "", **arguments: Any,
) -> Picture:  # fmt: skip
    """Shows calls as functions of one number ``x``."""
    drawn = {
        name: jax.vmap(lambda value, code=code: evaluate(code, x=value, **arguments))(x)
        for name, code in zip(names, codes, strict=True)
    }
    return Picture((Lines(title, x, drawn, across, up),), codes)


def smoothing() -> Picture:
    """Shows the loss over the logit of the right class."""
    alphas = (0.0, 0.1, 0.3)
    codes = tuple(
        f"targets.smoothed_cross_entropy(logits, labels, alpha={alpha})" for alpha in alphas
    )
    drawn = {
        f"alpha {alpha}": jax.vmap(
            lambda z, code=code: evaluate(code, logits=jnp.array([[z, 0.0]]), labels=jnp.array([0]))
        )(LOGITS)
        for alpha, code in zip(alphas, codes, strict=True)
    }
    panel = Lines("two classes", LOGITS, drawn, "logit of the right class", "loss")
    return Picture((panel,), codes[1:])


def mixed() -> Picture:
    """Shows the loss over the predicted probability, for three shares."""
    shares = (0.25, 0.5, 1.0)
    code = "targets.mixed_cross_entropy(logits, labels_a, labels_b, share=share)"
    logits = jnp.log(CHANCES) - jnp.log1p(-CHANCES)

    def loss(z: Any, share: float) -> Any:
        return evaluate(
            code, logits=jnp.array([[z, 0.0]]), labels_a=jnp.array([0]), labels_b=jnp.array([1]),
            share=share,
        )  # fmt: skip

    drawn = {f"share {share}": jax.vmap(partial(loss, share=share))(logits) for share in shares}
    panel = Lines("two classes", CHANCES, drawn, "predicted probability of the first", "loss")
    return Picture((panel,), (code,))


def of_chances(*codes: str) -> Picture:
    """Shows calls over the predicted probability ``p`` of the first of two classes."""
    logits = jnp.stack([jnp.log(CHANCES), jnp.log1p(-CHANCES)], axis=-1)
    even = jnp.zeros((199, 2))
    drawn = {code: compiled(code, "logits", "other")(logits, even) for code in codes}
    panel = Lines("", CHANCES, drawn, "probability of the first class; the other is even")
    return Picture((panel,), codes)


def gaussian(code: str, title: str) -> Picture:
    """Shows a divergence over the mean and the logarithm of the variance."""
    means = jnp.linspace(-2, 2, 61)
    logs = jnp.linspace(-4, 2, 61)
    grid = jnp.stack(jnp.meshgrid(means, logs), axis=-1).reshape(-1, 2)
    values = jax.vmap(lambda g: evaluate(code, mean=g[None, :1], log_var=g[None, 1:]))(grid)
    surface = (means, logs, as_array(values).reshape(61, 61))
    panels = (
        Points(title, surface=surface, across="mean", up="log variance"),
        Lines("log variance 0", means, {"": as_array(values).reshape(61, 61)[41]}, "mean"),
    )
    return Picture(panels, (code,))


def with_beta(code: str, **arguments: Any) -> Picture:
    """Shows a loss over the latent mean, for three strengths."""
    means = jnp.linspace(-2, 2, 81)
    drawn = {
        f"beta {beta:g}": jax.vmap(
            lambda m, beta=beta: evaluate(
                code, mean=m[None, None], log_var=jnp.zeros((1, 1)), beta=beta,
                distortion=0.5 * (m[None] - 1.5) ** 2,
                logits=jnp.stack([2 * m, -2 * m])[None], labels=jnp.array([0]),
            )
        )(means)
        for beta in (0.0, 0.5, 2.0)
    }  # fmt: skip
    return Picture((Lines("", means, drawn, "latent mean", "loss"),), (code,))


PICTURES: dict[str, Callable[[], Picture]] = {
    "penalties/l1": partial(plane, "penalties.l1(w)"),
    "penalties/l2": partial(plane, "penalties.l2(w)"),
    "penalties/elastic_net": partial(plane, "penalties.elastic_net(w, l1=0.5, l2=0.5)"),
    "penalties/group_lasso": partial(plane, "penalties.group_lasso(w)"),
    "penalties/distance": partial(plane, "penalties.distance(w, start)"),
    "penalties/orthogonality": partial(spectrum, "penalties.orthogonality(w)", 0.0005, 200),
    "penalties/spectral": partial(spectrum, "penalties.spectral(w)", 0.1),
    "penalties/nuclear": partial(spectrum, "penalties.nuclear(w)", 0.05),
    "penalties/total_variation": total_variation,
    "penalties/decorrelation": decorrelation,
    "penalties/activity": partial(
        curves,
        (
            "penalties.activity(x, penalty=penalties.l1, weight=0.1)",
            "penalties.activity(x, penalty=penalties.l2, weight=0.1)",
        ),
        ("L1", "L2"),
        PLANE,
        "activation",
        "penalty",
    ),
    "targets/smoothed_cross_entropy": smoothing,
    "targets/mixed_cross_entropy": mixed,
    "targets/flood": partial(
        curves,
        ("x", "targets.flood(x, level=0.3)"),
        ("loss", "flooded"),
        np.linspace(0, 1, 101, dtype=np.float32),
        "loss",
        "result",
    ),
    "information/gaussian_kl": partial(
        gaussian, "information.gaussian_kl(mean, log_var)[0]", "lines of equal divergence"
    ),
    "information/free_bits": partial(
        curves,
        ("x", "information.free_bits(x[None, None], level=0.5)"),
        ("divergence", "with free bits"),
        np.linspace(0, 2, 101, dtype=np.float32),
        "divergence of a group, in nats",
        "penalty",
    ),
    "information/beta_vae_loss": partial(
        with_beta, "information.beta_vae_loss(distortion, mean, log_var, beta=beta)"
    ),
    "information/bottleneck_loss": partial(
        with_beta, "information.bottleneck_loss(logits, labels, mean, log_var, beta=beta)"
    ),
    "information/categorical_kl": partial(
        of_chances,
        "information.categorical_kl(logits, other)",
        "information.categorical_kl(other, logits)",
    ),
    "information/symmetric_kl": partial(of_chances, "information.symmetric_kl(logits, other)"),
    "information/jensen_shannon": partial(
        of_chances, "information.jensen_shannon(jnp.stack([logits, other]))"
    ),
    "information/confidence_penalty": partial(of_chances, "information.confidence_penalty(logits)"),
}
