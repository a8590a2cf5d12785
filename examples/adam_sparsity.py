r"""The lasso by Adam, whose proximal step must use Adam's own metric.

.. math::

  \min_w \; \frac{1}{2 n} \|y - X w\|^2 + \alpha \|w\|_1

Adam divides the step of each weight by :math:`d = \sqrt{\hat\nu} + \epsilon`. The proximal step
must divide its threshold by the same number. Scikit-learn's coordinate descent is the reference.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from sklearn.preprocessing import StandardScaler

from jaxreg import penalties, proximal, transforms

ALPHA = 5.0
LEARNING_RATE = 0.5
STEPS = 5000


def fit(tx: optax.GradientTransformation, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the coefficients after gradient descent from zero."""

    def step(carry, _):
        w, state = carry
        grad = jax.grad(lambda w: jnp.square(y - x @ w).mean() / 2)(w)
        updates, state = tx.update(grad, state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros(x.shape[1])
    (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=STEPS)
    return w


def main() -> None:
    """Prints coefficients and errors of three ways to combine an L1 penalty with Adam."""
    x, y = load_diabetes(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    y = y - y.mean()
    solution = Lasso(ALPHA, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y).coef_
    adam = optax.adam(LEARNING_RATE)
    ways = {
        "the penalty in the loss": optax.chain(
            transforms.add_penalty_gradient(penalties.l1, ALPHA), adam
        ),
        "a Euclidean step": optax.chain(
            adam, transforms.proximal(proximal.l1, ALPHA, LEARNING_RATE)
        ),
        "a step in Adam's metric": transforms.preconditioned_proximal(
            adam, proximal.l1, ALPHA, LEARNING_RATE, metric=transforms.adam_metric()
        ),
    }
    print(f"{'scikit-learn':24}{np.round(solution, 1)}")
    for name, tx in ways.items():
        w = jax.jit(lambda x, y, tx=tx: fit(tx, x, y))(*map(jnp.float32, (x, y)))
        print(f"{name:24}{np.round(np.asarray(w), 1)}")
        print(
            f"{'':24}{int((w == 0).sum())} zeros of {int((solution == 0).sum())}, "
            f"largest error {np.abs(w - solution).max() / np.abs(solution).max():.1e}"
        )


if __name__ == "__main__":
    main()
