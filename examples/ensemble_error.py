r"""The error of MC dropout against the number of samples, predicted and measured.

The average of k members has the mean squared error V / k + (k - 1) / k C. Here V is the mean square
of the error of one member, and C the mean product of the errors of two. A regression network is
trained on the diabetes data with dropout. V and C are estimated on unseen rows from one set of
samples. They predict the error of averages of other samples, which is then measured. Differences
are given in standard errors; they are correlated, because all rows share the estimates.

    python examples/ensemble_error.py [figure.png]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import optax
from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes

from jaxreg import dropout
from jaxreg.training import ensembles

MEMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SAMPLES = 1000  # Samples to estimate V and C from.
GROUPS = 400  # Groups of new samples, for each number of members.
TRAINING_ROWS = 200
RATE = 0.5
WIDTH = 64
STEPS = 1500


def load() -> list[jax.Array]:
    """Loads standardized training rows and targets, and held-out rows and targets."""
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    x = x / x.std(axis=0)
    x = jnp.float32(x)
    y = jnp.float32(y)
    order = jax.random.permutation(jax.random.key(1), len(x))
    train, test = order[:TRAINING_ROWS], order[TRAINING_ROWS:]
    return [x[train], y[train], x[test], y[test]]


def predict(params, key, x):
    """Predicts with one sample of the network; the key decides which units it drops."""
    keys = jax.random.split(key)
    hidden = jax.nn.relu(x @ params["a"] + params["b"])
    hidden = dropout.dropout(keys[0], hidden, rate=RATE)
    hidden = jax.nn.relu(hidden @ params["c"] + params["d"])
    return dropout.dropout(keys[1], hidden, rate=RATE) @ params["e"]


def train(key, x, y):
    """Trains a network with dropout and returns its parameters."""
    a_key, c_key, e_key, key = jax.random.split(key, 4)
    params = {
        "a": jax.random.normal(a_key, (x.shape[1], WIDTH)) / jnp.sqrt(x.shape[1]),
        "b": jnp.zeros(WIDTH),
        "c": jax.random.normal(c_key, (WIDTH, WIDTH)) / jnp.sqrt(WIDTH),
        "d": jnp.zeros(WIDTH),
        "e": jax.random.normal(e_key, (WIDTH,)) / jnp.sqrt(WIDTH),
    }
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda params: jnp.mean((predict(params, key, x) - y) ** 2))(params)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(key, STEPS)
    return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]


def sample(params, key, x, number):
    """Predicts with many samples of the network, ``[number, rows]``."""
    keys = jax.random.split(key, number)
    return jax.vmap(lambda key: predict(params, key, x))(keys)


def measure(params, key, x, y, members) -> ensembles.Estimate:
    """Measures the error of averages of new samples, over independent groups."""

    def error(key):
        return jnp.mean((jnp.mean(sample(params, key, x, members), axis=0) - y) ** 2)

    errors = jax.lax.map(error, jax.random.split(key, GROUPS), batch_size=50)
    return ensembles.Estimate(jnp.mean(errors), jnp.std(errors, ddof=1) / jnp.sqrt(GROUPS))


def draw(moments, predicted, measured, path: str) -> None:
    """Draws both errors against the number of members, and their limit."""
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    low = predicted.value - 2 * predicted.standard_error
    high = predicted.value + 2 * predicted.standard_error
    axes.plot(MEMBERS, predicted.value, color="tab:blue", label="predicted from V and C")
    axes.fill_between(MEMBERS, low, high, color="tab:blue", alpha=0.2)
    axes.errorbar(
        MEMBERS, measured.value, 2 * measured.standard_error,
        fmt="o", color="tab:orange", capsize=3, label="measured on other samples",
    )  # fmt: skip
    limit = moments.covariance.value
    axes.axhline(limit, color="0.6", linestyle=":", label=f"C = {limit:.3f}")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="members k", ylabel="mean squared error on held-out rows")
    axes.set(title="MC dropout on diabetes, two standard errors")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains, predicts and measures the errors, prints both and draws the figure."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "ensemble_error.png"
    x, y, test_x, test_y = load()
    train_key, key, measure_key = jax.random.split(jax.random.key(0), 3)
    params = jax.jit(train)(train_key, x, y)
    predictions = sample(params, key, test_x, SAMPLES)
    moments = ensembles.error_moments(predictions, test_y)
    predicted = ensembles.predicted_mse(predictions, test_y, members=jnp.array(MEMBERS))
    keys = jax.random.split(measure_key, len(MEMBERS))
    each = [measure(params, k, test_x, test_y, n) for k, n in zip(keys, MEMBERS, strict=True)]
    measured = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    for name, (value, error) in moments._asdict().items():
        print(f"{name:>10}: {value:.4f} ± {error:.4f}")
    print("members   predicted           measured            difference / its error")
    together = jnp.hypot(predicted.standard_error, measured.standard_error)
    scores = (predicted.value - measured.value) / together
    for row, members in enumerate(MEMBERS):
        columns = (predicted, measured)
        cells = (f"{value[row]:8.4f} ± {error[row]:.4f}" for value, error in columns)
        print(f"{members:7d}  " + "   ".join(cells) + f"   {scores[row]:+.1f}")
    draw(moments, predicted, measured, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
