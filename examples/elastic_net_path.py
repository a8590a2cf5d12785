r"""The path of the elastic net, all strengths in one run, compared with scikit-learn's.

On scikit-learn's diabetes data, for a hundred strengths at once, it solves

.. math::

  \min_w \; \frac{1}{2 n} \|y - X w\|^2 + \alpha \rho \|w\|_1
    + \frac{\alpha (1 - \rho)}{2} \|w\|^2

by proximal gradient steps, vmapped over the strengths.

    python examples/elastic_net_path.py [figure.png]
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.linear_model import enet_path
from sklearn.preprocessing import StandardScaler

from jaxreg import proximal, transforms

RATIO = 0.5  # Share of L1 in the penalty.
STEPS = 20_000


def load() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Loads standardized features, centered targets and the names of the features."""
    data = load_diabetes()
    y = data.target - data.target.mean()
    return StandardScaler().fit_transform(data.data), y, data.feature_names


def fit(products: jax.Array, targets: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns the coefficients for one strength, from ``X^T X / n`` and ``X^T y / n``."""
    # The inverse of the largest curvature is the longest step that always descends.
    learning_rate = 1 / jnp.linalg.eigvalsh(products).max()
    prox = partial(proximal.elastic_net, l1=RATIO, l2=1 - RATIO)
    tx = optax.chain(optax.sgd(learning_rate), transforms.proximal(prox, alpha, learning_rate))

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(products @ w - targets, state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros_like(targets)
    (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=STEPS)
    return w


@jax.jit
def path(x: jax.Array, y: jax.Array, alphas: jax.Array) -> jax.Array:
    """Returns the coefficients for every strength, ``[strengths, features]``."""
    products = x.T @ x / len(x)
    targets = x.T @ y / len(x)
    return jax.vmap(partial(fit, products, targets))(alphas)


def draw(alphas, ours, theirs, names: list[str], file: str) -> None:
    """Draws the coefficients against the strength, and the number of nonzero ones."""
    options = {"sharex": True, "figsize": (8, 6), "layout": "constrained"}
    figure, (top, bottom) = plt.subplots(2, 1, height_ratios=(3, 1), **options)
    for name, line, crosses in zip(names, ours.T, theirs.T, strict=True):
        (drawn,) = top.plot(alphas, line, label=name)
        top.plot(alphas[::5], crosses[::5], "x", color=drawn.get_color())
    top.plot([], [], "x", color="0.4", label="scikit-learn")
    top.axhline(0, color="0.8", zorder=0)
    top.set(ylabel="coefficient", title="The path of the elastic net on the diabetes data")
    top.legend(ncols=2, fontsize="small")
    bottom.step(alphas, (ours != 0).sum(1))
    bottom.set(
        xscale="log",
        xlabel=r"$\alpha$",
        xlim=(alphas[-1], alphas[0]),
        ylabel="features",
        ylim=(0, 10.5),
    )
    figure.savefig(file, dpi=120)


def main() -> None:
    """Solves for all strengths, compares with scikit-learn and draws the figure."""
    mpl.use("Agg")
    file = sys.argv[1] if len(sys.argv) > 1 else "elastic_net_path.png"
    x, y, names = load()
    alphas, theirs, _ = enet_path(x, y, l1_ratio=RATIO, alphas=100, tol=1e-12, max_iter=1_000_000)
    theirs = theirs.T
    with jax.enable_x64(True):
        ours = np.asarray(path(*map(jnp.asarray, (x, y, alphas))))
    print(f"strengths: {len(alphas)}, from {alphas[0]:.3g} to {alphas[-1]:.3g}")
    print(f"features selected: from {(ours[0] != 0).sum()} to {(ours[-1] != 0).sum()}")
    print(f"the same zeros: {np.array_equal(ours == 0, theirs == 0)}")
    print(f"largest difference: {np.abs(ours - theirs).max():.1e} of {np.abs(theirs).max():.1f}")
    draw(alphas, ours, theirs, names, file)
    print(f"figure: {file}")


if __name__ == "__main__":
    main()
