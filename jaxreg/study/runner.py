"""Trains recipes over seeds, with one compiled program per set of active arms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import islice, zip_longest
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg.study.data import Split, Splitter
from jaxreg.study.heeding import check_heeded
from jaxreg.study.journal import Journal
from jaxreg.study.loop import Plan, mesh_of, train, train_runs
from jaxreg.study.models import MakeModel, as_model
from jaxreg.study.objectives import Objective, objective_for
from jaxreg.study.operations import check_suited
from jaxreg.study.recipes import Recipe, Structure
from jaxreg.study.runs import Runs

# A recipe and a seed.
_Run = tuple[Recipe, int]
Progress = Callable[[Sequence[int], np.ndarray], None]

# Number of runs that train together on an accelerator. On CPU one run at a time is faster, because
# its parameters and optimizer state fit in the cache.
_RUNS_TOGETHER = 128
# Number of runs in one call of a program, for every device of a CPU.
_RUNS_IN_TURN = 4


def run(
    make_model: MakeModel,
    data: Splitter,
    recipes: Sequence[Recipe],
    *,
    seeds: int,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    objective: Objective | None = None,
) -> Runs:
    """Trains every recipe with every seed and returns the scores and losses.

    A seed decides the split, the initial weights, the order of the batches and the noise, so two
    recipes are paired by seed. Every epoch takes the rows in a new order and leaves out those
    that do not fill a batch. A recipe with early stopping is evaluated at its best validation
    loss, any other recipe at the end of training.

    Args:
      make_model: Function from a recipe, whose strengths are traced, to a Linen module called as
        ``module(x, train=...)``, or to a :class:`jaxreg.study.Model`. A layer that is off is not in
        the recipe, so that the model can leave it out. Pass the same function again to reuse the
        compiled programs.
      data: Function from a seed to its :class:`jaxreg.study.Split`; all splits have the same sizes.
      recipes: The recipes, with Python numbers as strengths.
      seeds: Number of seeds; the seeds are ``0, 1, ..., seeds - 1``.
      epochs: Number of epochs.
      batch_size: Rows of a batch, at most the training rows.
      learning_rate: Learning rate.
      objective: Loss and metrics; by default classification for integer labels, else regression.

    Returns:
      The scores and losses of all runs.

    Raises:
      ValueError: There is no recipe, a count is below 1, a batch is larger than the training set,
        a recipe is for another kind of rows, such as images, the model has fewer outputs than there
        are classes, or it does not use the strength of an arm that a recipe switches on.
      TypeError: ``make_model`` returns no model, or needs strengths as Python numbers.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import Recipe, mlp, run, stratified_split
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> data = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> recipes = [Recipe(), Recipe({"l2": 1.0})]
      >>> runs = run(mlp((4,), 2), data, recipes, seeds=2, epochs=1)
      >>> runs.test.shape
      (2, 2)
    """
    trainer = Trainer(
        make_model,
        data,
        seeds=seeds,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        objective=objective,
    )
    return trainer(recipes)


class Trainer:
    """Trains recipes on one data set, with one compiled program per set of active arms.

    Args:
      make_model: Function from a recipe to a model, as for :func:`run`.
      data: Function from a seed to its :class:`jaxreg.study.Split`.
      seeds: Number of seeds.
      epochs: Number of epochs.
      batch_size: Rows of a batch, at most the training rows.
      learning_rate: Learning rate.
      objective: Loss and metrics, as for :func:`run`.
    """

    def __init__(
        self,
        make_model: MakeModel,
        data: Splitter,
        *,
        seeds: int,
        epochs: int,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        objective: Objective | None = None,
    ) -> None:
        _check_counts(seeds=seeds, epochs=epochs, batch_size=batch_size)
        splits = stack_splits(data, seeds)
        self.seeds = seeds
        self.objective = objective_for(splits.train_y) if objective is None else objective
        _check_batch_size(batch_size, splits.train_y.shape[1])
        devices = tuple(jax.local_devices())
        self._plan = Plan(
            make_model=make_model,
            objective=self.objective,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            devices=devices,
            together=1 if devices[0].platform == "cpu" else _RUNS_TOGETHER,
            num_classes=count_outputs(make_model, splits, self.objective),
        )
        self._rows = splits.train_x[0]
        self._splits = jax.device_put(splits, NamedSharding(mesh_of(devices), PartitionSpec()))

    def __call__(
        self,
        recipes: Sequence[Recipe],
        *,
        seeds: int | None = None,
        progress: Progress | None = None,
        journal: Journal | None = None,
    ) -> Runs:
        """Trains every recipe with every seed and returns the scores and losses.

        Args:
          recipes: The recipes, with Python numbers as strengths.
          seeds: Number of seeds to train, the first ones; by default all.
          progress: Function that is called with the indices of the recipes just trained and their
            validation scores, ``[indices, seeds]``.
          journal: Finished runs, which are not trained again; new runs are added to it.
        """
        self._check(recipes)
        seeds = self.seeds if seeds is None else seeds
        journal = Journal() if journal is None else journal
        results: list[Any] = [None] * len(recipes)
        groups = [*_groups(recipes)]
        for indices, following in zip_longest(groups, groups[1:], fillvalue=[]):
            later = [recipes[i] for i in following]
            with _one_thread_each(), self._compile_meanwhile(later, seeds, journal):
                for index in indices:
                    # A call trains what the journal lacks of this recipe and of the next ones.
                    self._train([recipes[i] for i in indices if i >= index], seeds, journal)
                    own = [journal[recipes[index], seed] for seed in range(seeds)]
                    results[index] = jax.tree.map(lambda *rows: np.stack(rows, axis=-1), *own)
                    if progress is not None:
                        progress([index], results[index].validation[None])
        return jax.tree.map(lambda *arrays: np.stack(arrays), *results)

    def fit(self, recipe: Recipe, *, seed: int = 0) -> Any:
        """Trains one recipe with one seed, as a call does, and returns the variables.

        Args:
          recipe: The recipe, with Python numbers as strengths.
          seed: The seed, one of the trainer's.

        Returns:
          The variables that a call evaluates.

        Example:
          >>> import numpy as np
          >>> from jaxreg.study import Recipe, Trainer, mlp, stratified_split
          >>> x = np.random.default_rng(0).normal(size=(200, 2))
          >>> data = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
          >>> trainer = Trainer(mlp((4,), 2), data, seeds=2, epochs=1)
          >>> trainer.fit(Recipe({"l2": 1.0}), seed=1)["params"]["Dense_0"]["kernel"].shape
          (2, 4)
        """
        self._check([recipe])
        strengths = jax.tree.map(np.float32, recipe.with_cheap())
        split = jax.tree.map(lambda array: np.asarray(array[seed]), self._splits)
        key = jax.random.key(seed)
        train_one = jax.jit(lambda recipe, split: train(self._plan, recipe, split, key)[1])
        with _one_thread_each():
            return jax.block_until_ready(train_one(strengths, split))

    def _check(self, recipes: Sequence[Recipe]) -> None:
        """Raises ValueError unless the data and the model suit the recipes."""
        if not recipes:
            raise ValueError(
                "`recipes` must contain at least one recipe, got none; pass [Recipe()] for the "
                "baseline."
            )
        check_suited(recipes, self._rows, self.objective.task)
        check_heeded(self._plan.make_model, recipes, self._rows)

    def _train(self, recipes: Sequence[Recipe], seeds: int, journal: Journal) -> None:
        """Trains until the journal has all seeds of the first recipe.

        All calls have the same number of runs, so one compiled program serves any number of recipes
        and seeds. A call that the first recipe does not fill also trains the next ones. Every
        process trains its part of a call, and the processes exchange the results.
        """
        own_size = self._own_size
        size = own_size * jax.process_count()
        first = own_size * jax.process_index()
        while any((recipes[0], seed) not in journal for seed in range(seeds)):
            runs = list(islice(_missing(recipes, seeds, journal), size))
            # The last run is repeated to fill the call.
            filled = [*runs, *[runs[-1]] * (size - len(runs))]
            out = self._train_filled(filled[first : first + own_size])
            if size > own_size:
                out = multihost_utils.process_allgather(out, tiled=True)
            rows = [jax.tree.map(lambda array, i=i: array[i], out) for i in range(len(runs))]
            journal.add(dict(zip(runs, rows, strict=True)))

    @property
    def _own_size(self) -> int:
        """The number of runs that this process trains in one call."""
        return len(self._plan.devices) * max(_RUNS_IN_TURN, self._plan.together)

    def _train_filled(self, runs: Sequence[_Run]) -> Runs:
        """Trains the runs of one call on the devices of this process."""
        recipes, seeds = _stack_runs(runs)
        return jax.tree.map(np.asarray, train_runs(self._plan, recipes, seeds, self._splits))

    @contextmanager
    def _compile_meanwhile(
        self, recipes: Sequence[Recipe], seeds: int, journal: Journal
    ) -> Iterator[None]:
        """Compiles the program that the recipes share on another core while the body runs.

        Compiles nothing if the journal has all of their runs. A failure is raised again when the
        recipes are trained.
        """
        missing = next(_missing(recipes, seeds, journal), None)
        if missing is None:
            yield
            return
        thread = threading.Thread(target=self._compile, args=(missing,))
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _compile(self, run: _Run) -> None:
        recipes, seeds = _stack_runs([run] * self._own_size)
        with suppress(Exception):
            train_runs.lower(self._plan, recipes, seeds, self._splits).compile()


def _one_thread_each() -> AbstractContextManager[Any]:
    """Limits BLAS to one thread, since XLA already calls it from a thread for each core.

    With more, the threads of OpenBLAS wait for each other. Singular values of a stack of small
    matrices take 2.5 times as long on two idle cores, and hundreds of times on busy ones.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # It comes with the extra `study`.
        return nullcontext()
    return threadpool_limits(1, user_api="blas")


def _missing(recipes: Sequence[Recipe], seeds: int, journal: Journal) -> Iterator[_Run]:
    """Yields the runs that the journal lacks."""
    for recipe in recipes:
        for seed in range(seeds):
            if (recipe, seed) not in journal:
                yield recipe, seed


def _stack_runs(runs: Sequence[_Run]) -> tuple[Recipe, np.ndarray]:
    """Returns the stacked strengths and the seeds of the runs."""
    strengths = jax.tree.map(
        lambda *values: np.asarray(values, np.float32), *(recipe.with_cheap() for recipe, _ in runs)
    )
    return strengths, np.array([seed for _, seed in runs])


def _groups(recipes: Sequence[Recipe]) -> Iterable[list[int]]:
    """Returns the indices of the recipes, grouped by structure."""
    groups: dict[Structure, list[int]] = {}
    for index, recipe in enumerate(recipes):
        groups.setdefault(recipe.structure, []).append(index)
    return groups.values()


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")


def _check_batch_size(batch_size: int, rows: int) -> None:
    if batch_size > rows:
        raise ValueError(
            f"`batch_size` must be at most {rows}, the number of training rows, got {batch_size}."
        )


def stack_splits(data: Splitter, seeds: int) -> Split:
    """Stacks the splits of all seeds along a new first axis.

    Raises:
      ValueError: The splits have different sizes.
    """
    splits = [data(seed) for seed in range(seeds)]
    sizes = sorted({split.sizes for split in splits})
    if len(sizes) > 1:
        raise ValueError(f"`data` must return splits of one size for all seeds, got {sizes}.")
    return Split(*map(np.stack, zip(*splits, strict=True)))


def count_outputs(make_model: MakeModel, splits: Split, objective: Objective) -> int | None:
    """Returns the number of classes of the model; None for a regression.

    Raises:
      ValueError: The outputs of the model do not fit the labels.
    """
    model = as_model(make_model(Recipe()))
    x = jax.ShapeDtypeStruct((2, *splits.train_x.shape[2:]), splits.train_x.dtype)
    outputs = jax.eval_shape(lambda x: model.predict(model.init(jax.random.key(0), x), x), x)
    if objective.task == "regression":
        targets = splits.train_y.shape[2:]
        if outputs.size != 2 * int(np.prod(targets, dtype=int)):
            raise ValueError(
                f"`make_model` must return a model with one output per target ({targets or 1} for "
                f"a row), got outputs of shape {outputs.shape[1:]}."
            )
        return None
    most = 1 + max(int(part.max()) for part in (splits.train_y, splits.validation_y, splits.test_y))
    if len(outputs.shape) != 2 or outputs.shape[1] < most:
        raise ValueError(
            f"`make_model` must return a model with logits [batch, {most}] for the {most} classes "
            f"of the labels, got outputs of shape {outputs.shape} for a batch of 2."
        )
    return outputs.shape[1]
