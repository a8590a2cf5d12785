"""Pictures of proximal operators and projections, and paths of coefficients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes

from docs.site.panels import Lines, Picture, compiled, evaluate
from docs.site.pictures.layers import KERNEL, planar, spectra

GRID = np.linspace(-2, 2, 401, dtype=np.float32)


@functools.cache
def regression() -> tuple[jax.Array, jax.Array]:
    """Returns standardized columns of patients with diabetes, and the progress of the disease."""
    data = load_diabetes()
    x = jnp.float32(data.data / data.data.std(axis=0))
    y = jnp.float32(data.target - data.target.mean()) / jnp.float32(data.target.std())
    return x, y


def coefficients(code: str) -> Lines:
    """Shows the coefficients of a linear regression over the weight of a penalty."""
    x, y = regression()
    rate = len(x) / jnp.linalg.norm(x, 2) ** 2
    weights = jnp.geomspace(1e-3, 1.0, 60)

    def fit(weight: Any) -> Any:
        def step(w: Any, _: Any) -> Any:
            gradient = x.T @ (x @ w - y) / len(x)
            return evaluate(code, w=(w - rate * gradient)[:, None], step=rate * weight)[:, 0], None

        return jax.lax.scan(step, jnp.zeros(x.shape[1]), length=300)[0]

    paths = jax.jit(jax.vmap(fit))(weights)
    curves = {f"_{i}": paths[:, i] for i in range(paths.shape[1])}
    return Lines(
        "ten coefficients of a regression", jnp.log10(weights), curves, "log10 of the weight"
    )


def response(code: str, path: str = "") -> Picture:
    """Shows a function of one weight, and the path of coefficients that it makes."""
    curves = {"w": GRID, "result": compiled(code, "w")(GRID)}
    panels = [Lines("response", GRID, curves, "w", "result")]
    if path:
        panels.append(coefficients(path))
    return Picture(tuple(panels), (code, path) if path else (code,))


def spectral(code: str) -> Picture:
    """Shows singular values before and after."""
    return Picture((spectra({"w": KERNEL, "result": compiled(code, "w")(KERNEL)}),), (code,))


PICTURES: dict[str, Callable[[], Picture]] = {
    "proximal/l1": partial(response, "proximal.l1(w, step=0.5)", "proximal.l1(w, step=step)"),
    "proximal/l2": partial(response, "proximal.l2(w, step=0.5)", "proximal.l2(w, step=step)"),
    "proximal/elastic_net": partial(
        response,
        "proximal.elastic_net(w, l1=0.5, l2=0.5, step=1.0)",
        "proximal.elastic_net(w, l1=0.5, l2=0.5, step=step)",
    ),
    "proximal/l0": partial(response, "proximal.l0(w, step=0.5)"),
    "proximal/box": partial(response, "proximal.box(w, low=-1.0, high=0.5, step=1.0)"),
    "proximal/group_lasso": partial(planar, "proximal.group_lasso(w, step=0.6)"),
    "proximal/sparse_group_lasso": partial(
        planar, "proximal.sparse_group_lasso(w, l1_share=0.5, step=0.6)"
    ),
    "proximal/nuclear": partial(spectral, "proximal.nuclear(w, step=3.0)"),
    "projections/max_norm": partial(planar, "projections.max_norm(w, radius=1.0)"),
    "projections/unit_norm": partial(planar, "projections.unit_norm(w)"),
    "projections/min_max_norm": partial(planar, "projections.min_max_norm(w, low=0.8, high=1.3)"),
    "projections/l1_ball": partial(planar, "projections.l1_ball(w, radius=1.0)"),
    "projections/simplex": partial(planar, "projections.simplex(w, axis=0)"),
    "projections/non_negative": partial(planar, "projections.non_negative(w)"),
    "projections/spectral_ball": partial(spectral, "projections.spectral_ball(w, radius=4.0)"),
}
