"""Many strengths at once: 32 weight decays trained by one compiled program.

A strength is data, so ``jax.vmap`` maps over it as over any array. All runs start from the same
weights and see the same batches, and the program is compiled once.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from jaxreg import targets, transforms

LEARNING_RATE = 3e-3
BATCH_SIZE = 25
EPOCHS = 100
MODEL = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(2)])


def load() -> list[jax.Array]:
    """Loads training rows and labels, validation rows and labels."""
    x, y = load_breast_cancer(return_X_y=True)
    x, other_x, y, other_y = train_test_split(x, y, train_size=100, random_state=0, stratify=y)
    scaler = StandardScaler().fit(x)
    x = scaler.transform(x)
    other_x = scaler.transform(other_x)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(other_x), jnp.int32(other_y)]


def validation_loss(weight_decay, key, x, y, validation_x, validation_y):
    """Trains one network with one weight decay and returns its validation loss."""
    tx = optax.chain(
        optax.adam(LEARNING_RATE),
        transforms.decoupled_decay(weight_decay, learning_rate=LEARNING_RATE),
    )
    init_key, order_key = jax.random.split(key)

    def step(carry, rows):
        params, state = carry

        def loss(params):
            return targets.smoothed_cross_entropy(MODEL.apply(params, x[rows]), y[rows], alpha=0.0)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def shuffle(key):
        return jax.random.permutation(key, len(x)).reshape(-1, BATCH_SIZE)

    batches = jax.vmap(shuffle)(jax.random.split(order_key, EPOCHS)).reshape(-1, BATCH_SIZE)
    params = MODEL.init(init_key, x[:1])
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
    logits = MODEL.apply(params, validation_x)
    return targets.smoothed_cross_entropy(logits, validation_y, alpha=0.0)


def main() -> None:
    """Prints the validation loss of every weight decay."""
    strengths = jnp.geomspace(1e-2, 10.0, 32)
    train_all = jax.jit(jax.vmap(validation_loss, in_axes=(0, *[None] * 5)))
    losses = train_all(strengths, jax.random.key(0), *load())
    for strength, loss in zip(strengths.tolist(), losses.tolist(), strict=True):
        print(f"{strength:8.4f}  {loss:.3f}  {'#' * round(150 * loss)}")
    print(f"lowest loss at weight decay {strengths[losses.argmin()]:.3g}")


if __name__ == "__main__":
    main()
