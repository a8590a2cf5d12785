"""Pictures of norms and of reparametrized weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.site.panels import Heat, Lines, Photo, Picture, Points, as_array, compiled, evaluate
from docs.site.pictures.photographs import china, flower
from jaxreg.normalization import BatchStats

DRAWS = np.random.default_rng(1)
# Examples with different scales, and channels with different means and spreads.
CHANNELS = DRAWS.normal(size=(12, 16)) * np.linspace(0.2, 2, 16) + np.linspace(-2, 2, 16)
ACTIVATIONS = np.float32(CHANNELS * np.linspace(0.4, 1.6, 12)[:, None])
MAPS = ACTIVATIONS.reshape(1, 12, 16)
STATS = BatchStats(np.zeros(16, np.float32), np.ones(16, np.float32))
KERNEL = np.float32(DRAWS.normal(size=(16, 12)) * np.linspace(0.2, 2, 12))
LENGTHS = np.array([0.4, 1.0, 1.8, 0.7, 2.0, 1.3, 0.5])
ANGLES = 0.9 * np.arange(7)
UNITS = np.float32(LENGTHS * np.stack([np.cos(ANGLES), np.sin(ANGLES)]))


def normalized(
    code: str, x: Any = ACTIVATIONS, across: str = "features", down: str = "examples", **names: Any
) -> Picture:
    """Shows activations before and after a norm."""
    call = jax.jit(lambda x: evaluate(code, x=x, w=x, stats=STATS, **names))
    after = call(x)
    after = after[0] if isinstance(after, tuple) else after
    if x.ndim == 3:
        x = x[0]
        after = after[0]
    panels = (
        Heat("x", as_array(x), -3, 3, across, down),
        Heat("result", as_array(after), -3, 3, across, down),
    )
    return Picture(panels, (code,))


def style() -> Picture:
    """Gives a photograph the colors of another one."""
    code = "normalization.adaptive_instance_norm(x, mean, stddev)"
    mean = flower().mean((0, 1))[None]
    stddev = flower().std((0, 1))[None]
    after = evaluate(code, x=china()[None], mean=mean, stddev=stddev)[0]
    panels = (
        Photo("x", as_array(china())),
        Photo("style", as_array(flower())),
        Photo("result", as_array(after)),
    )
    return Picture(panels, (code,))


def folded() -> Picture:
    """Shows that a folded layer computes the same."""
    code = "normalization.fold_batch_norm(kernel, stats)"
    x = jnp.linspace(-2, 2, 24)[:, None]
    stats = BatchStats(jnp.array([0.5]), jnp.array([4.0]))
    kernel = jnp.array([[1.5]])
    new, bias = evaluate(code, kernel=kernel, stats=stats)
    before = evaluate("normalization.batch_norm_inference(x @ kernel, stats)", x=x, kernel=kernel,
                      stats=stats)  # fmt: skip
    curves = {
        "layer": (x @ kernel)[:, 0],
        "layer and norm": before[:, 0],
        "folded layer": (x @ new + bias)[:, 0],
    }
    return Picture(
        (Lines("a unit before and after folding", x[:, 0], curves, "input", "output"),),
        (code,),
        "The lines of the layer with its norm and of the folded layer coincide.",
    )


def planar(code: str, w: Any = UNITS) -> Picture:
    """Shows units with two incoming weights each, before and after."""
    after = compiled(code, "w")(w)
    groups = {"w": as_array(w).T, "result": as_array(after).T}
    panel = Points(
        "each point is a unit", groups, arrows=True, across="first weight", up="second weight"
    )
    return Picture((panel,), (code,))


def spectra(curves: dict[str, Any], title: str = "singular values") -> Lines:
    """Shows singular values of several matrices, from the largest on."""
    values = {name: jnp.linalg.svd(matrix, compute_uv=False) for name, matrix in curves.items()}
    number = len(next(iter(values.values())))
    return Lines(title, range(1, number + 1), values, "index", "singular value")


def spectral_norm() -> Picture:
    """Shows singular values before and after."""
    vector = "reparam.spectral_norm_vector(key, w)"
    code = "reparam.spectral_norm(w, u)"
    u = evaluate(vector, w=KERNEL)
    after, _ = evaluate(code, w=KERNEL, u=u)
    return Picture((spectra({"w": KERNEL, "result": after}),), (vector, code))


PICTURES: dict[str, Callable[[], Picture]] = {
    "normalization/batch_norm": partial(normalized, "normalization.batch_norm(x, stats)"),
    "normalization/ghost_batch_norm": partial(
        normalized, "normalization.ghost_batch_norm(x, stats, ghost_batch_size=4)"
    ),
    "normalization/batch_renorm": partial(
        normalized, "normalization.batch_renorm(x, stats, r_max=1.5, d_max=0.5)"
    ),
    "normalization/layer_norm": partial(normalized, "normalization.layer_norm(x)"),
    "normalization/rms_norm": partial(normalized, "normalization.rms_norm(x)"),
    "normalization/group_norm": partial(normalized, "normalization.group_norm(x, groups=4)"),
    "normalization/instance_norm": partial(
        normalized, "normalization.instance_norm(x)", MAPS, "channels", "positions"
    ),
    "normalization/filter_response_norm": partial(
        normalized, "normalization.filter_response_norm(x)", MAPS, "channels", "positions"
    ),
    "normalization/l2_normalize": partial(normalized, "normalization.l2_normalize(x)"),
    "normalization/adaptive_instance_norm": style,
    "normalization/fold_batch_norm": folded,
    "reparam/weight_norm": partial(planar, "reparam.weight_norm(w, scale=jnp.ones(7))"),
    "reparam/spectral_norm": spectral_norm,
    "reparam/weight_standardization": partial(
        normalized, "reparam.weight_standardization(w)", KERNEL, "outputs", "inputs"
    ),
}
