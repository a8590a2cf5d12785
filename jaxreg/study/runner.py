"""Trains recipes over seeds, with one compiled program per set of active techniques."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg import targets
from jaxreg.study import inputs, terms
from jaxreg.study.data import Array, Split, Splitter
from jaxreg.study.models import Model, from_linen
from jaxreg.study.operations import apply_policy, check_suited
from jaxreg.study.optimizers import optimizer, params_to_evaluate
from jaxreg.study.recipes import Recipe, Structure
from jaxreg.training import early_stopping

MakeModel = Callable[[Recipe], nn.Module | Model]
Progress = Callable[[Sequence[int], np.ndarray], None]

# Number of runs that train together on an accelerator. On CPU one run at a time is faster, because
# its parameters and optimizer state fit in the cache.
_RUNS_TOGETHER = 128


class Runs(NamedTuple):
    """Accuracies and losses of all recipes and seeds.

    Attributes:
      train: Training accuracy at the end, ``[recipes, seeds]``.
      validation: Validation accuracy at the end, ``[recipes, seeds]``.
      test: Test accuracy at the end, ``[recipes, seeds]``.
      loss: Validation loss at the end, ``[recipes, seeds]``.
      train_loss: Mean training loss of each epoch, ``[recipes, epochs, seeds]``.
      validation_loss: Validation loss after each epoch, ``[recipes, epochs, seeds]``.
    """

    train: Array
    validation: Array
    test: Array
    loss: Array
    train_loss: Array
    validation_loss: Array


class _Plan(NamedTuple):
    """Static arguments of the compiled program."""

    make_model: MakeModel
    epochs: int
    batch_size: int
    learning_rate: float
    devices: tuple[Any, ...]
    together: int
    structure: Structure = ()


class _State(NamedTuple):
    """Training state of a run between two epochs."""

    variables: Any
    optimizer: optax.OptState
    stopping: Any
    start: Any
    train_loss: jax.Array
    validation_loss: jax.Array


def run(
    make_model: MakeModel,
    data: Splitter,
    recipes: Sequence[Recipe],
    *,
    seeds: int,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    progress: Progress | None = None,
) -> Runs:
    """Trains every recipe with every seed and returns the accuracies and losses.

    A seed decides the split, the initial weights, the order of the batches and the noise, so two
    recipes are paired by seed. Every epoch takes the rows in a new order and leaves out those
    that do not fill a batch. A recipe with a finite patience is evaluated at its best validation
    loss, any other recipe at its end.

    Args:
      make_model: Function from a recipe, whose strengths are traced, to a Linen module called as
        ``module(x, train=...)``, or to a :class:`jaxreg.study.Model`. Strengths of costly
        techniques that are off are an untraced 0, so that the model can leave them out.
        Pass the same function again to reuse the compiled programs.
      data: Function from a seed to its :class:`jaxreg.study.Split`; all splits have the same sizes.
      recipes: The recipes, with Python numbers as strengths.
      seeds: Number of seeds; the seeds are ``0, 1, ..., seeds - 1``.
      epochs: Number of epochs.
      batch_size: Rows of a batch, at most the training rows.
      learning_rate: Learning rate.
      progress: Function that is called with the indices of the recipes just trained and their
        validation accuracies, ``[indices, seeds]``.

    Returns:
      The accuracies and losses of all runs.

    Raises:
      ValueError: There is no recipe, a count is below 1, a batch is larger than the training set,
        or a recipe is for another kind of rows, such as images.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import Recipe, mlp, run, stratified_split
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> data = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> runs = run(mlp((4,), 2), data, [Recipe(), Recipe(l2=1.0)], seeds=2, epochs=1)
      >>> runs.test.shape
      (2, 2)
    """
    _check_counts(recipes=len(recipes), seeds=seeds, epochs=epochs, batch_size=batch_size)
    devices = tuple(jax.local_devices())
    together = 1 if devices[0].platform == "cpu" else _RUNS_TOGETHER
    plan = _Plan(make_model, epochs, batch_size, learning_rate, devices, together)
    splits = _splits(plan, data, seeds)
    check_suited(recipes, splits.train_x[0])
    block_size = -(-together // seeds)
    results: list[Any] = [None] * len(recipes)
    for structure, block in _blocks(recipes, block_size):
        rows = _train_block(
            plan._replace(structure=structure),
            [recipes[index] for index in block],
            splits,
            seeds,
            block_size,
        )
        for place, index in enumerate(block):
            results[index] = Runs(*(array[place] for array in rows))
        if progress is not None:
            progress(block, rows.validation[: len(block)])
    return Runs(*map(np.stack, zip(*results, strict=True)))


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")


def _splits(plan: _Plan, data: Splitter, seeds: int) -> Split:
    """Stacks the splits of all seeds along a new first axis, replicated on every device."""
    splits = Split(*map(np.stack, zip(*map(data, range(seeds)), strict=True)))
    rows = splits.train_y.shape[1]
    if plan.batch_size > rows:
        raise ValueError(
            f"`batch_size` must be at most the {rows} training rows, got {plan.batch_size}."
        )
    return jax.device_put(splits, NamedSharding(_mesh(plan.devices), PartitionSpec()))


def _blocks(recipes: Sequence[Recipe], size: int) -> Iterator[tuple[Structure, list[int]]]:
    """Groups recipes by structure; yields each with up to ``size`` indices of recipes."""
    groups: dict[Structure, list[int]] = {}
    for index, recipe in enumerate(recipes):
        groups.setdefault(recipe.structure, []).append(index)
    for structure, indices in groups.items():
        for start in range(0, len(indices), size):
            yield structure, indices[start : start + size]


def _mesh(devices: tuple[Any, ...]) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(devices), ("runs",))


def _train_block(
    plan: _Plan, recipes: Sequence[Recipe], splits: Split, seeds: int, block_size: int
) -> Runs:
    """Trains recipes, padded to ``block_size`` so that all blocks share a compiled program."""
    filled = [*recipes, *[recipes[-1]] * (block_size - len(recipes))]
    stacked = jax.tree.map(
        lambda *strengths: np.repeat(np.asarray(strengths, np.float32), seeds), *filled
    )
    count = block_size * seeds
    # Every device gets the same number of runs; the last run is repeated to fill up.
    rows = np.minimum(np.arange(-(-count // len(plan.devices)) * len(plan.devices)), count - 1)
    out = _train_runs(plan, jax.tree.map(lambda leaf: leaf[rows], stacked), rows % seeds, splits)

    def unflatten(array):
        array = np.asarray(array)[:count]
        return np.moveaxis(array.reshape(block_size, seeds, *array.shape[1:]), 1, -1)

    return jax.tree.map(unflatten, out)


@partial(jax.jit, static_argnums=0)
def _train_runs(plan: _Plan, recipes: Recipe, seeds: jax.Array, splits: Split) -> Runs:
    """Trains a run per (recipe, seed) pair, with the pairs sharded over devices."""

    def train_rows(recipes, seeds, splits):
        def train_row(row):
            recipe, seed = row
            split = jax.tree.map(lambda array: array[seed], splits)
            return _train(plan, recipe, split, jax.random.key(seed))

        # Under a batch of one, `cond` would become `select` and train stopped runs as well.
        size = None if plan.together == 1 else plan.together
        return jax.lax.map(train_row, (recipes, seeds), batch_size=size)

    by_run = PartitionSpec("runs")
    replicated = PartitionSpec()
    return jax.shard_map(
        train_rows,
        mesh=_mesh(plan.devices),
        in_specs=(by_run, by_run, replicated),
        out_specs=by_run,
        # Keys and zeros made inside a scan are not marked as varying, so the check would fail.
        check_vma=False,
    )(recipes, seeds, splits)


def _train(plan: _Plan, recipe: Recipe, split: Split, key: jax.Array) -> Runs:
    """Trains one recipe with one seed and returns its accuracies and losses."""
    recipe = recipe.only(plan.structure)
    made = plan.make_model(recipe)
    model = made if isinstance(made, Model) else from_linen(made)
    chain = optimizer(recipe, plan.learning_rate)
    init_key, epochs_key = jax.random.split(key)
    variables = model.init(init_key, split.train_x[:1])
    state = _State(
        variables=variables,
        optimizer=chain.init(variables["params"]),
        stopping=early_stopping.init(variables),
        start=variables["params"] if "distance" in plan.structure else None,
        train_loss=jnp.zeros(()),
        validation_loss=jnp.zeros(()),
    )

    def epoch(state, key):
        # A stopped run no longer changes. If runs train one at a time, it also costs nothing.
        state = jax.lax.cond(
            state.stopping.should_stop,
            lambda state: state,
            lambda state: _epoch(plan, model, chain, recipe, split, state, key),
            state,
        )
        return state, (state.train_loss, state.validation_loss)

    state, losses = jax.lax.scan(epoch, state, jax.random.split(epochs_key, plan.epochs))
    return _results(model, recipe, split, state, losses)


def _results(
    model: Model, recipe: Recipe, split: Split, state: _State, losses: tuple[jax.Array, jax.Array]
) -> Runs:
    patient = jnp.isinf(recipe.patience)
    final = jax.tree.map(
        lambda last, best: jnp.where(patient, last, best),
        _to_evaluate(recipe, state.variables, state.optimizer),
        state.stopping.best_params,
    )
    _, train = _evaluate(model, final, split.train_x, split.train_y)
    loss, validation = _evaluate(model, final, split.validation_x, split.validation_y)
    _, test = _evaluate(model, final, split.test_x, split.test_y)
    return Runs(train, validation, test, loss, *losses)


def _to_evaluate(recipe: Recipe, variables: Any, state: optax.OptState) -> Any:
    params = params_to_evaluate(recipe, state, variables["params"])
    return {**variables, "params": params}


def _evaluate(
    model: Model, variables: Any, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    logits = model.predict(variables, x)
    loss = targets.smoothed_cross_entropy(logits, y, alpha=0.0)
    return loss, jnp.mean(logits.argmax(axis=-1) == y)


def _loss(
    plan: _Plan,
    model: Model,
    recipe: Recipe,
    variables: Any,
    rows: inputs.Batch,
    start: Any,
    key: jax.Array,
) -> tuple[jax.Array, Any]:
    """Returns the loss of a batch including all penalties, and the updated variables."""
    if recipe.policy is not None:
        moved = apply_policy(
            jax.random.fold_in(key, 3),
            recipe.policy,
            rows.x,
            mean=rows.mean,
            stddev=rows.stddev,
        )
        rows = rows._replace(x=moved)
    rows = inputs.change_batch(jax.random.fold_in(key, 2), recipe, plan.structure, rows)
    x = rows.x
    logits, updated = model.train(variables, x, key)
    penalties = jax.tree.leaves(updated.get("losses"))
    value = _cross_entropy(logits, rows.labels, recipe.label_smoothing)
    probe_key, again_key = jax.random.split(jax.random.fold_in(key, 1))
    twice = "r_drop" in plan.structure
    view = terms.View(
        params=variables["params"],
        start=start,
        x=x,
        logits=logits,
        predict=lambda x: model.predict(variables, x),
        again=model.train(variables, x, again_key)[0] if twice else None,
        key=probe_key,
    )
    value = terms.add_terms(sum(penalties, start=value), recipe, plan.structure, view)
    if "flood" in plan.structure:
        value = targets.flood(value, level=recipe.flood)
    return value, {name: part for name, part in updated.items() if name != "losses"}


def _cross_entropy(logits: jax.Array, labels: jax.Array, alpha: Any) -> jax.Array:
    """Returns the smoothed cross entropy for labels that are class ids or distributions."""
    if labels.ndim < logits.ndim:
        return targets.smoothed_cross_entropy(logits, labels, alpha=alpha)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(labels, alpha)).mean()


def _epoch(
    plan: _Plan,
    model: Model,
    chain: optax.GradientTransformationExtraArgs,
    recipe: Recipe,
    split: Split,
    state: _State,
    key: jax.Array,
) -> _State:
    """Trains for one epoch and evaluates; returns the new training state."""
    rows = split.train_y.shape[0]
    steps = rows // plan.batch_size
    order_key, noise_key = jax.random.split(key)
    order = jax.random.permutation(order_key, rows)[: steps * plan.batch_size]

    def loss(params, variables, batch, key):
        variables = {**variables, "params": params}
        x = split.train_x[batch]
        y = split.train_y[batch]
        num_classes = jax.eval_shape(model.predict, variables, x).shape[-1]
        rows = inputs.Batch(x, y, split.mean, split.stddev, num_classes)
        return _loss(plan, model, recipe, variables, rows, state.start, key)

    def step(carry, inputs):
        variables, state = carry
        grad = jax.value_and_grad(loss, has_aux=True)
        params = variables["params"]
        (value, updated), grads = grad(params, variables, *inputs)
        updates, state = chain.update(
            grads, state, params, grad_fn=lambda params: grad(params, variables, *inputs)[1]
        )
        return ({**updated, "params": optax.apply_updates(params, updates)}, state), value

    (variables, optimizer_state), losses = jax.lax.scan(
        step,
        (state.variables, state.optimizer),
        (order.reshape(steps, plan.batch_size), jax.random.split(noise_key, steps)),
    )
    shown = _to_evaluate(recipe, variables, optimizer_state)
    validation_loss, _ = _evaluate(model, shown, split.validation_x, split.validation_y)
    stopping = early_stopping.update(
        state.stopping, validation_loss, shown, patience=recipe.patience
    )
    return _State(variables, optimizer_state, stopping, state.start, losses.mean(), validation_loss)
