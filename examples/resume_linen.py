"""Linen: a training loop that can be killed at any time and resumes with exactly the same results.

Start it with ``--directory checkpoints``, kill it, and start it again. A step depends on one pytree
only: parameters, batch statistics, the optimizer, early stopping with the best parameters, a
strength that follows a plateau, the key, and the number of the step, which determines the order of
the data and the keys of dropout. Orbax saves this state and its digests while training goes on. If
the digests show that a checkpoint is damaged, the one before it is used.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import linen as nn
from sklearn.datasets import load_digits

from jaxreg import linen, masks, penalties, targets
from jaxreg.training import digests, early_stopping, plateau

BATCH_SIZE = 50
BATCHES = 10  # Batches of an epoch.
OPTIMIZER = optax.adam(3e-3)


class Network(nn.Module):
    """A hidden layer with batch norm and dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = linen.BatchNorm(momentum=0.9)(nn.Dense(64)(x), use_running_average=not train)
        return nn.Dense(10)(linen.Dropout(0.2)(nn.relu(x), deterministic=not train))


class State(NamedTuple):
    """The complete state on which the next step depends."""

    step: jax.Array  # Number of batches so far, which is the position in the data.
    key: jax.Array  # With the step it determines the order of the data and the dropout masks.
    variables: Any  # The collections `params` and `batch_stats`.
    opt_state: Any
    stopping: early_stopping.EarlyStopping
    weight: plateau.Plateau


@jax.jit
def initial_state(key: jax.Array) -> State:
    """Returns the state before the first step."""
    init_key, key = jax.random.split(key)
    variables = Network().init(init_key, jnp.zeros((1, 64)), train=False)
    return State(
        step=jnp.array(0),
        key=key,
        variables=variables,
        opt_state=OPTIMIZER.init(variables["params"]),
        stopping=early_stopping.init(variables),
        weight=plateau.init(1e-4),
    )


@jax.jit
def train_step(state: State, x: jax.Array, y: jax.Array) -> State:
    """Trains on one batch."""
    order_key, dropout_key = jax.random.split(state.key)
    epoch, batch = jnp.divmod(state.step, BATCHES)
    order = jax.random.permutation(jax.random.fold_in(order_key, epoch), len(x))
    rows = jax.lax.dynamic_slice(order, (batch * BATCH_SIZE,), (BATCH_SIZE,))

    def loss(params):
        logits, updated = Network().apply(
            {**state.variables, "params": params},
            x[rows],
            train=True,
            rngs={"dropout": jax.random.fold_in(dropout_key, state.step)},
            mutable=["batch_stats"],
        )
        penalty = penalties.total(params, penalties.l2, masks.kernels)
        error = targets.smoothed_cross_entropy(logits, y[rows], alpha=0.05)
        return error + state.weight.strength * penalty, updated

    params = state.variables["params"]
    grads, updated = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = OPTIMIZER.update(grads, state.opt_state, params)
    variables = {"params": optax.apply_updates(params, updates), **updated}
    return state._replace(step=state.step + 1, variables=variables, opt_state=opt_state)


@jax.jit
def validate(state: State, x: jax.Array, y: jax.Array) -> State:
    """Updates early stopping and the strength by the validation loss, after an epoch."""
    logits = Network().apply(state.variables, x, train=False)
    loss = targets.smoothed_cross_entropy(logits, y, alpha=0.0)
    return state._replace(
        stopping=early_stopping.update(state.stopping, loss, state.variables, patience=10),
        weight=plateau.update(state.weight, loss, patience=3, factor=2.0),
    )


def save(manager: ocp.CheckpointManager, state: State) -> None:
    """Copies the state and writes it in the background, atomically."""
    contents = ocp.args.Composite(
        state=ocp.args.StandardSave(state), digests=ocp.args.JsonSave(digests.digest(state))
    )
    manager.save(int(state.step), args=contents)


def restore(manager: ocp.CheckpointManager, step: int, like: State) -> State:
    """Returns the state that was saved after a step, with the structure of ``like``."""
    contents = ocp.args.Composite(
        state=ocp.args.StandardRestore(like), digests=ocp.args.JsonRestore()
    )
    saved = manager.restore(step, args=contents)
    digests.verify(saved.state, saved.digests)
    return saved.state


def resume(manager: ocp.CheckpointManager, start: State) -> State:
    """Returns the newest intact checkpoint, or ``start`` if nothing was saved."""
    damaged = []
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            state = restore(manager, step, start)
        except Exception as error:  # Different damage raises different errors.
            print(f"checkpoint {step} cannot be used: {error}", flush=True)
            damaged.append(step)
            continue
        for later in damaged:  # Otherwise they would count as the newest checkpoints.
            manager.delete(later)
        print(f"resumed after step {step}", flush=True)
        return state
    if damaged:
        raise SystemExit(f"none of the checkpoints {damaged} can be used; nothing was changed")
    return start


def train(directory: Path, steps: int, save_every: int) -> State:
    """Trains to the last step, from the newest checkpoint in a folder if there is one."""
    x, y = load_digits(return_X_y=True)
    x = jnp.asarray(x / 16, jnp.float32)
    y = jnp.asarray(y, jnp.int32)
    rows = BATCHES * BATCH_SIZE
    options = ocp.CheckpointManagerOptions(max_to_keep=3, cleanup_tmp_directories=True)
    with ocp.CheckpointManager(directory.absolute(), options=options) as manager:
        state = resume(manager, initial_state(jax.random.key(0)))
        while state.step < steps and not state.stopping.should_stop:
            state = train_step(state, x[:rows], y[:rows])
            if state.step % BATCHES == 0:
                state = validate(state, x[rows:], y[rows:])
            if state.step % save_every == 0:
                save(manager, state)
    return state


def main() -> None:
    """Trains, and prints a digest of the final state, which interruptions do not change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="folder of checkpoints; default: temporary")
    parser.add_argument("--steps", type=int, default=300, help="number of batches")
    parser.add_argument("--save-every", type=int, default=20, help="batches between checkpoints")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        state = train(given.directory or Path(temporary), given.steps, given.save_every)
    final = json.dumps(digests.digest(state), sort_keys=True)
    print(f"steps: {state.step}, best validation loss: {state.stopping.best_metric:.4f}")
    print(f"sha256 of the final state: {hashlib.sha256(final.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
