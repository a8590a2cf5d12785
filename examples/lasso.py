r"""The lasso by gradient descent with a proximal step, against scikit-learn's coordinate descent.

.. math::

  \min_w \; \frac{1}{2 n} \|y - X w\|^2 + \alpha \|w\|_1
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from sklearn.preprocessing import StandardScaler

from jaxreg import proximal, transforms

ALPHA = 5.0
STEPS = 5000


def fit(x: jax.Array, y: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns the coefficients that solve the lasso, including its exact zeros."""
    # The inverse of the largest curvature is the longest step that always descends.
    learning_rate = 1 / jnp.linalg.eigvalsh(x.T @ x / len(x)).max()
    tx = optax.chain(
        optax.sgd(learning_rate), transforms.proximal(proximal.l1, alpha, learning_rate)
    )

    def step(carry, _):
        w, state = carry
        grad = jax.grad(lambda w: jnp.square(y - x @ w).mean() / 2)(w)
        updates, state = tx.update(grad, state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros(x.shape[1])
    (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=STEPS)
    return w


def main() -> None:
    """Prints both coefficient vectors and their largest difference."""
    x, y = load_diabetes(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    y = y - y.mean()
    theirs = Lasso(ALPHA, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y).coef_
    ours = jax.jit(fit)(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), ALPHA)
    with np.printoptions(precision=4, suppress=True):
        print("jaxreg      ", np.asarray(ours))
        print("scikit-learn", theirs)
    print(f"the same zeros: {np.array_equal(np.asarray(ours) == 0, theirs == 0)}")
    print(f"largest difference: {np.abs(ours - theirs).max():.1e}")


if __name__ == "__main__":
    main()
