"""NNX: a training loop that can be killed at any time and resumes with exactly the same results.

Start it with ``--directory checkpoints``, kill it, and start it again. A step depends on one module
only: the model with its batch statistics and the keys and counts of its dropout, the optimizer,
early stopping with the best parameters, a strength that follows a plateau, and the number of the
step, which determines the order of the data. Orbax saves its state and its digests while training
goes on. If the digests show that a checkpoint is damaged, the one before it is used.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from sklearn.datasets import load_digits

from jaxreg import masks, penalties, targets
from jaxreg import nnx as regularized
from jaxreg.training import digests, early_stopping, plateau

BATCH_SIZE = 50
BATCHES = 10  # Batches of an epoch.
LEARNED = (nnx.Param, nnx.BatchStat)


class Network(nnx.Module):
    """A hidden layer with batch norm and dropout."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.norm = regularized.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.dropout = regularized.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


class Training(nnx.Module):
    """The complete state on which the next step depends.

    ``optimizer.step`` counts the batches so far, so it is the position in the data.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.model = Network(rngs=rngs)
        self.optimizer = nnx.Optimizer(self.model, optax.adam(3e-3), wrt=nnx.Param)
        self.stopping = nnx.data(early_stopping.init(nnx.state(self.model, LEARNED)))
        self.weight = nnx.data(plateau.init(1e-4))


@nnx.jit
def train_step(training: Training, x: jax.Array, y: jax.Array) -> None:
    """Trains on one batch; the step, the statistics and the dropout's counts advance in place."""

    def loss(model):
        params = nnx.state(model, nnx.Param)
        penalty = penalties.total(params, penalties.l2, masks.kernels)
        error = targets.smoothed_cross_entropy(model(x), y, alpha=0.05)
        return error + training.weight.strength * penalty

    training.model.train()
    training.optimizer.update(training.model, nnx.grad(loss)(training.model))


@nnx.jit
def validate(training: Training, x: jax.Array, y: jax.Array) -> None:
    """Updates early stopping and the strength by the validation loss, after an epoch."""
    training.model.eval()
    loss = targets.smoothed_cross_entropy(training.model(x), y, alpha=0.0)
    learned = nnx.state(training.model, LEARNED)
    training.stopping = early_stopping.update(training.stopping, loss, learned, patience=10)
    training.weight = plateau.update(training.weight, loss, patience=3, factor=2.0)


def save(manager: ocp.CheckpointManager, training: Training) -> None:
    """Copies the state and writes it in the background, atomically."""
    state = nnx.state(training)
    contents = ocp.args.Composite(
        state=ocp.args.StandardSave(state), digests=ocp.args.JsonSave(digests.digest(state))
    )
    manager.save(int(training.optimizer.step), args=contents)


def restore(manager: ocp.CheckpointManager, step: int, like: Training) -> Training:
    """Returns the module that was saved after a step, with the structure of ``like``."""
    graph, state = nnx.split(like)
    contents = ocp.args.Composite(
        state=ocp.args.StandardRestore(state), digests=ocp.args.JsonRestore()
    )
    saved = manager.restore(step, args=contents)
    digests.verify(saved.state, saved.digests)
    return nnx.merge(graph, saved.state)


def resume(manager: ocp.CheckpointManager, start: Training) -> Training:
    """Returns the newest intact checkpoint, or ``start`` if nothing was saved."""
    damaged = []
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            training = restore(manager, step, start)
        except Exception as error:  # Different damage raises different errors.
            print(f"checkpoint {step} cannot be used: {error}", flush=True)
            damaged.append(step)
            continue
        for later in damaged:  # Otherwise they would count as the newest checkpoints.
            manager.delete(later)
        print(f"resumed after step {step}", flush=True)
        return training
    if damaged:
        raise SystemExit(f"none of the checkpoints {damaged} can be used; nothing was changed")
    return start


def rows_of(step: int) -> np.ndarray:
    """Returns the rows of a batch, which depend on the step only."""
    epoch, batch = divmod(step, BATCHES)
    order = np.random.default_rng(epoch).permutation(BATCHES * BATCH_SIZE)
    return order[batch * BATCH_SIZE :][:BATCH_SIZE]


def train(directory: Path, steps: int, save_every: int) -> Training:
    """Trains to the last step, from the newest checkpoint in a folder if there is one."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    y = y.astype(np.int32)
    others = slice(BATCHES * BATCH_SIZE, None)
    options = ocp.CheckpointManagerOptions(max_to_keep=3, cleanup_tmp_directories=True)
    with ocp.CheckpointManager(directory.absolute(), options=options) as manager:
        training = resume(manager, Training(rngs=nnx.Rngs(0)))
        while (step := int(training.optimizer.step)) < steps and not training.stopping.should_stop:
            rows = rows_of(step)
            train_step(training, x[rows], y[rows])
            if (step + 1) % BATCHES == 0:
                validate(training, x[others], y[others])
            if (step + 1) % save_every == 0:
                save(manager, training)
    return training


def main() -> None:
    """Trains, and prints a digest of the final state, which interruptions do not change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="folder of checkpoints; default: temporary")
    parser.add_argument("--steps", type=int, default=300, help="number of batches")
    parser.add_argument("--save-every", type=int, default=20, help="batches between checkpoints")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        training = train(given.directory or Path(temporary), given.steps, given.save_every)
    final = json.dumps(digests.digest(nnx.state(training)), sort_keys=True)
    step, loss = training.optimizer.step[...], training.stopping.best_metric
    print(f"steps: {step}, best validation loss: {loss:.4f}")
    print(f"sha256 of the final state: {hashlib.sha256(final.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
