r"""Three panels that show how batch norm changes a batch of two features.

.. math::

  x \;\to\; \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \;\to\; y = \gamma \hat x + \beta

Each feature is normalized by itself, so the tilt of the cloud, which is their correlation, remains.

    python examples/batch_norm_picture.py [figure.png]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
from matplotlib import pyplot as plt

from jaxreg import normalization

SCALE = jnp.array([2.0, 0.5])
BIAS = jnp.array([3.0, -2.0])


def panels(x: jax.Array) -> dict[str, jax.Array]:
    """Returns the cloud, normalized, and with the learned scale and bias."""
    stats = normalization.init_stats(x.shape[-1])
    normalized, _ = normalization.batch_norm(x, stats)
    shifted, _ = normalization.batch_norm(x, stats, scale=SCALE, bias=BIAS)
    return {"before": x, "normalized": normalized, "scaled and shifted": shifted}


def draw(clouds: dict[str, jax.Array], path: str) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), sharex=True, sharey=True)
    figure.set_layout_engine("constrained")
    for axis, (title, cloud) in zip(axes, clouds.items(), strict=True):
        axis.scatter(*cloud.T, s=6, alpha=0.5)
        axis.plot(*cloud.mean(axis=0), "k+", markersize=14, label="mean")
        axis.axhline(0, color="gray", linewidth=0.5)
        axis.axvline(0, color="gray", linewidth=0.5)
        axis.set(title=title, xlabel="first feature", aspect="equal")
    axes[0].set(ylabel="second feature")
    axes[0].legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Prints mean, standard deviation and correlation of each panel and draws the panels."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "batch_norm_picture.png"
    covariance = jnp.array([[4.0, 1.5], [1.5, 1.0]])
    x = jax.random.multivariate_normal(jax.random.key(0), jnp.array([6.0, 4.0]), covariance, (500,))
    clouds = panels(x)
    for title, cloud in clouds.items():
        mean = cloud.mean(axis=0)
        stddev = cloud.std(axis=0)
        correlation = jnp.corrcoef(cloud.T)[0, 1]
        print(
            f"{title:18} mean {mean[0]:5.2f} {mean[1]:5.2f}, stddev {stddev[0]:.2f} "
            f"{stddev[1]:.2f}, correlation {correlation:.2f}"
        )
    draw(clouds, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
