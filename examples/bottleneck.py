"""A variational information bottleneck on digits: accuracy against the rate of the code.

A classifier sees its input through a noisy code. The weight ``beta`` of the code's rate decides how
much of the input it keeps. All weights are trained in one vmapped program, and the figure shows
the cost of a lower rate.

    python examples/bottleneck.py [figure.png]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import optax
from flax import linen as nn
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import information, targets

BETAS = jnp.geomspace(1e-4, 3.0, 14)
LATENT = 16
LEARNING_RATE = 2e-3
BATCH_SIZE = 100
EPOCHS = 120
SAMPLES = 12  # Codes over which evaluation averages a prediction, as in Alemi et al. (2017).


class Network(nn.Module):
    """Encoder and decoder around a code."""

    def setup(self):
        self.encoder = nn.Sequential([nn.Dense(128), nn.relu, nn.Dense(2 * LATENT)])
        self.decoder = nn.Dense(10)

    def __call__(self, key, x):
        mean, log_var = jnp.split(self.encoder(x), 2, axis=-1)
        # Training starts with almost no noise.
        log_var = log_var - 4
        return self.decoder(information.sample_gaussian(key, mean, log_var)), mean, log_var


def load() -> list[jax.Array]:
    """Loads training and test rows: ``x, y`` twice."""
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x / 16, y, test_size=0.4, random_state=0, stratify=y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


def evaluate(key, params, x, y):
    """Measures rate, cross entropy (both in nats) and accuracy, averaged over codes."""
    keys = jax.random.split(key, SAMPLES)
    logits, mean, log_var = jax.vmap(lambda key: Network().apply(params, key, x))(keys)
    log_p = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(SAMPLES)
    return {
        "rate": information.gaussian_kl(mean[0], log_var[0]).mean(),
        "cross entropy": targets.smoothed_cross_entropy(log_p, y, alpha=0.0),
        "accuracy": jnp.mean(log_p.argmax(-1) == y),
    }


def fit(beta, key, x, y, test_x, test_y):
    """Trains with one weight of the rate and returns scores on training and test rows."""
    init_key, order_key, noise_key, score_key = jax.random.split(key, 4)
    steps = len(x) // BATCH_SIZE
    tx = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps * EPOCHS))
    params = Network().init(init_key, noise_key, x[:1])

    def step(carry, inputs):
        params, state = carry
        rows, key = inputs

        def loss(params):
            logits, mean, log_var = Network().apply(params, key, x[rows])
            return information.bottleneck_loss(logits, y[rows], mean, log_var, beta=beta)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def shuffle(key):
        order = jax.random.permutation(key, len(x))[: steps * BATCH_SIZE]
        return order.reshape(steps, BATCH_SIZE)

    batches = jax.vmap(shuffle)(jax.random.split(order_key, EPOCHS)).reshape(-1, BATCH_SIZE)
    noise_keys = jax.random.split(noise_key, len(batches))
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), (batches, noise_keys))
    keys = jax.random.split(score_key)
    return evaluate(keys[0], params, x, y), evaluate(keys[1], params, test_x, test_y)


def draw(train, test, path: str) -> None:
    """Draws the trade-off (left) and its two sides against the weight (right)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for scores, name in ((train, "training"), (test, "test")):
        left.plot(scores["rate"], scores["cross entropy"], "o-", label=name)
    for index in range(4, 12, 3):
        point = (test["rate"][index], test["cross entropy"][index])
        text = rf"$\beta$ = {BETAS[index]:.1g}"
        left.annotate(text, point, xytext=(4, 6), textcoords="offset points")
    left.axhline(jnp.log(10), color="0.6", linestyle=":", label="no information: log 10")
    left.set(xlabel="rate of the code (nats)", ylabel="cross entropy (nats)", title="Trade-off")
    left.set(xscale="log", yscale="log", xlim=(0.03, 200))
    left.legend(loc="lower left")
    right.semilogx(BETAS, 100 * test["accuracy"], "o-", color="tab:orange")
    right.set(xlabel=r"$\beta$", ylabel="test accuracy (%)", ylim=(0, 102), title="Weight")
    rate = right.twinx()
    rate.semilogx(BETAS, test["rate"], "s--", color="tab:green")
    rate.set(ylabel="rate (nats)", ylim=(0, None))
    right.yaxis.label.set_color("tab:orange")
    rate.yaxis.label.set_color("tab:green")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains with all weights at once, prints their scores, and draws the figure."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "bottleneck.png"
    train_all = jax.jit(jax.vmap(fit, in_axes=(0, *[None] * 5)))
    data = load()
    train, test = train_all(BETAS, jax.random.key(0), *data)
    print("    beta  rate (nats)  cross entropy: train   test   test accuracy")
    for index, beta in enumerate(BETAS):
        cross = train["cross entropy"][index], test["cross entropy"][index]
        print(
            f"{beta:8.1e}  {test['rate'][index]:11.2f}  {cross[0]:20.3f}  {cross[1]:5.3f}"
            f"  {test['accuracy'][index]:14.3f}"
        )
    highest = test["accuracy"].max()
    rows = len(data[3])
    error = jnp.sqrt(highest * (1 - highest) / rows)
    print(f"standard error of an accuracy of {highest:.3f} on {rows} rows: {error:.3f}")
    draw(train, test, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
