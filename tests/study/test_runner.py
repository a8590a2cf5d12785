"""Training, against Adam in NumPy, at sizes that train in a blink."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import threadpoolctl
from flax import linen as nn
from flax import nnx
from sklearn import metrics

import jaxreg.nnx
from jaxreg.study import (
    REGRESSION,
    Recipe,
    Runs,
    Split,
    Trainer,
    compare,
    from_nnx,
    grid,
    loop,
    mlp,
    run,
    runner,
)
from tests.study.rows import blobs, numbers

SEEDS, EPOCHS, BATCH, RATE = 3, 12, 20, 0.1
MODEL = mlp((8,), 2)
OPTIONS = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
TRAIN = partial(run, MODEL, blobs, seeds=SEEDS, **OPTIONS)
# All of one structure, so that one program trains them.
GRID = {
    "off": Recipe(),
    "stopping": Recipe({"early_stopping": 1}),
    "l1": Recipe({"l1": 3.0}),
    "l2": Recipe({"l2": 9.0}),
    "max_norm": Recipe({"max_norm": 0.1}),
    "label_smoothing": Recipe({"label_smoothing": 0.5}),
}


@pytest.fixture(scope="module")
def runs():
    """Every run of the grid by its name."""
    found = TRAIN(list(GRID.values()))
    return {n: jax.tree.map(lambda a, row=row: a[row], found) for row, n in enumerate(GRID)}


def test_the_next_program_compiles_once_while_another_one_trains(caplog, runs):
    del runs  # The program of the first recipe has been compiled for the other tests.
    jax.config.update("jax_log_compiles", True)
    try:
        TRAIN([GRID["off"], Recipe({"centralize": True})])
    finally:
        jax.config.update("jax_log_compiles", False)
    threads = [
        record.threadName
        for record in caplog.records
        if record.getMessage().startswith("Finished XLA compilation of jit(train_runs)")
    ]
    assert len(threads) == 1
    assert threads != ["MainThread"]


# The same network in NumPy.


@jax.jit
def starts(seed):
    """Initial parameters and the batches of every epoch, as a seed decides them."""
    init_key, epochs_key = jax.random.split(jax.random.key(seed))
    params = MODEL(Recipe()).init(init_key, jnp.zeros((1, 3)), train=False)["params"]

    def batches(key):
        order = jax.random.permutation(jax.random.split(key)[0], 50)
        return order[: 2 * BATCH].reshape(2, BATCH)

    return params, jax.vmap(batches)(jax.random.split(epochs_key, EPOCHS))


def forward(params, x):
    hidden = np.maximum(x @ params["Dense_0", "kernel"] + params["Dense_0", "bias"], 0)
    logits = hidden @ params["Dense_1", "kernel"] + params["Dense_1", "bias"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, p / p.sum(axis=1, keepdims=True)


def loss_and_accuracy(params, x, y):
    _, p = forward(params, x)
    return -np.log(p[np.arange(len(y)), y]).mean(), (p.argmax(axis=1) == y).mean()


def gradients(params, x, y):
    hidden, p = forward(params, x)
    back = (p - np.eye(2)[y]) / len(y)
    below = (back @ params["Dense_1", "kernel"].T) * (hidden > 0)
    return {
        ("Dense_0", "kernel"): x.T @ below,
        ("Dense_0", "bias"): below.sum(axis=0),
        ("Dense_1", "kernel"): hidden.T @ back,
        ("Dense_1", "bias"): back.sum(axis=0),
    }


def by_numpy(seed):
    """Parameters after every epoch."""
    given, batches = starts(seed)
    split = blobs(seed)
    params = {(a, b): np.float64(w) for a, leaves in given.items() for b, w in leaves.items()}
    first = dict.fromkeys(params, 0)
    second = dict.fromkeys(params, 0)
    path = []
    count = 0
    for epoch in np.asarray(batches):
        for rows in epoch:
            count += 1
            x = np.float64(split.train_x[rows])
            for name, g in gradients(params, x, split.train_y[rows]).items():
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                size = np.sqrt(second[name] / (1 - 0.999**count)) + 1e-8
                step = first[name] / (1 - 0.9**count) / size
                params = {**params, name: params[name] - RATE * step}
        path.append(params)
    return path


@pytest.mark.parametrize("seed", [1, 2])
def test_a_recipe_that_is_off_is_plain_adam(seed, runs):
    """The training loss is of the rows that were trained on, as many as there are for validation,
    and after the epoch, so that it compares with the one of validation."""
    found = runs["off"]
    path = by_numpy(seed)
    split = blobs(seed)
    rows = {
        "train_loss": (split.train_x[:30], split.train_y[:30]),
        "validation_loss": (split.validation_x, split.validation_y),
    }
    for name, own in rows.items():
        want = [loss_and_accuracy(params, *own)[0] for params in path]
        np.testing.assert_allclose(getattr(found, name)[:, seed], want, rtol=2e-3, err_msg=name)
    np.testing.assert_allclose(found.loss[seed], want[-1], rtol=2e-3)
    for part in ("train", "validation", "test"):
        own = getattr(split, f"{part}_x"), getattr(split, f"{part}_y")
        _, accuracy = loss_and_accuracy(path[-1], *own)
        np.testing.assert_allclose(getattr(found, part)[seed], accuracy, atol=1e-6)
    guess = forward(path[-1], split.test_x)[1].argmax(axis=1)
    want = {
        "balanced_accuracy": metrics.balanced_accuracy_score(split.test_y, guess),
        "macro_f1": metrics.f1_score(split.test_y, guess, average="macro"),
    }
    assert {name: array[seed] for name, array in found.others.items()} == pytest.approx(want)


def test_a_stopped_run_goes_back_to_its_best_epoch(runs):
    """With a patience of 1 a run stops at the first rise and goes back by one epoch."""
    full = runs["off"]
    stopped = runs["stopping"]
    best = [int(np.flatnonzero(np.diff(losses) >= 0)[0]) for losses in full.validation_loss.T]
    assert max(best) < EPOCHS - 2
    for seed, epoch in enumerate(best):
        for name in ("train_loss", "validation_loss"):
            before = getattr(full, name)[:, seed]
            after = getattr(stopped, name)[:, seed]
            np.testing.assert_array_equal(after[: epoch + 2], before[: epoch + 2])
            np.testing.assert_array_equal(after[epoch + 2 :], before[epoch + 1])
        np.testing.assert_allclose(stopped.loss[seed], full.validation_loss[epoch, seed], rtol=1e-6)
    split = blobs(1)
    _, accuracy = loss_and_accuracy(by_numpy(1)[best[1]], split.test_x, split.test_y)
    np.testing.assert_allclose(stopped.test[1], accuracy, atol=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2", "max_norm", "label_smoothing"])
def test_a_strong_regularizer_keeps_the_training_loss_up(name, runs):
    assert (runs[name].train_loss[-1] > runs["off"].train_loss[-1]).all()


def test_results_have_the_shapes_they_promise(runs):
    for found in runs.values():
        for name in ("train", "validation", "test", "loss"):
            assert getattr(found, name).shape == (SEEDS,)
        assert found.test_rows.shape == (40, SEEDS)
        np.testing.assert_allclose(found.test_rows.mean(axis=0), found.test, atol=1e-6)
        assert found.train_loss.shape == found.validation_loss.shape == (EPOCHS, SEEDS)
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(found))


def test_a_run_among_others_is_the_run_alone(runs):
    seen = []
    names = ["l2", "off", "stopping"]
    trainer = Trainer(MODEL, blobs, seeds=SEEDS, **OPTIONS)
    found = trainer(
        [GRID[name] for name in names],
        progress=lambda indices, scores: seen.append((list(indices), scores)),
    )
    for row, name in enumerate(names):
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(runs[name]), strict=True):
            np.testing.assert_array_equal(one[row], other, err_msg=name)
    assert [indices for indices, _ in seen] == [[0], [1], [2]]
    for row, (_, scores) in enumerate(seen):
        np.testing.assert_array_equal(scores[0], found.validation[row])


@pytest.mark.programs(24)  # By itself it also compiles the program of the fixture.
def test_the_variables_of_a_run_have_its_scores(runs):
    """Here of one that stopped, so they are of its best epoch."""
    variables = Trainer(MODEL, blobs, seeds=2, **OPTIONS).fit(GRID["stopping"], seed=1)
    params = {
        (a, b): np.float64(w)
        for a, leaves in variables["params"].items()
        for b, w in leaves.items()
    }
    split = blobs(1)
    loss, accuracy = loss_and_accuracy(params, split.validation_x, split.validation_y)
    np.testing.assert_allclose(loss, runs["stopping"].loss[1], rtol=1e-4)
    np.testing.assert_allclose(accuracy, runs["stopping"].validation[1], atol=1e-6)
    _, accuracy = loss_and_accuracy(params, split.test_x, split.test_y)
    np.testing.assert_allclose(accuracy, runs["stopping"].test[1], atol=1e-6)


def test_a_regression_is_trained_and_scored():
    """With labels that are mixed, and half a decay, which the plain loss does not show."""
    make_model = mlp((8,), 1)
    recipe = Recipe({"mixup": 0.2, "l2": 0.1})
    trainer = Trainer(make_model, numbers, seeds=2, **OPTIONS)
    runs = trainer([recipe])
    params = trainer.fit(recipe, seed=1)["params"]
    split = numbers(1)
    x = np.float64(split.test_x)
    hidden = np.maximum(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    outputs = (hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])[:, 0]
    want = {
        "rmse": metrics.mean_squared_error(split.test_y, outputs) ** 0.5,
        "mae": metrics.mean_absolute_error(split.test_y, outputs),
    }
    np.testing.assert_allclose(runs.test[0, 1], metrics.r2_score(split.test_y, outputs), rtol=1e-4)
    found = {name: array[0, 1] for name, array in runs.others.items()}
    assert found == pytest.approx(want, rel=1e-4)
    assert runs.test[0].min() > 0.7
    assert (runs.loss[0] < runs.train_loss[0, 0]).all()


# Groups of runs.


def test_recipes_of_one_structure_are_grouped():
    recipes = [{}, {"dropout": 0.1}, {"l2": 1.0}, {"dropout": 0.5}, {"l1": 0.1}]
    assert list(runner._groups([Recipe(each) for each in recipes])) == [[0, 2, 4], [1, 3]]


def test_one_trace_per_structure_with_tracers_for_what_is_on():
    made = []

    def counting(recipe):
        made.append(recipe)
        return MODEL(recipe)

    recipe = Recipe({"dropout": 0.1, "l2": 0.1, "distance": 0.1}).with_cheap()
    plan = loop.Plan(counting, runner.objective_for(blobs(0).train_y), EPOCHS, BATCH, RATE,
                     tuple(jax.local_devices()), 1, 2)  # fmt: skip
    numbers = jax.tree.map(np.float32, recipe)
    shapes = jax.eval_shape(partial(loop._train, plan), numbers, blobs(0), jax.random.key(0))
    assert shapes.train_loss.shape == (EPOCHS,)
    assert len(made) == 1
    assert isinstance(made[0].dropout, jax.core.Tracer)
    assert isinstance(made[0].l2, jax.core.Tracer)
    # A layer that is off is not in the recipe, so that the model can leave it out.
    assert "l0" not in made[0]


# Models of the user.


class NnxNetwork(nnx.Module):
    def __init__(self, recipe, rngs):
        self.inner = nnx.Linear(3, 8, rngs=rngs)
        self.dropout = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.outer = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.outer(self.dropout(nnx.relu(self.inner(x))))


def test_an_nnx_model_over_a_grid_of_dropout_in_one_process():
    train = partial(run, from_nnx(NnxNetwork), blobs, seeds=2, epochs=3, batch_size=25)
    study = compare(train, [grid("baseline"), grid("dropout", strengths=[0.2, 0.8])])
    assert [arm.name for arm in study.arms] == ["baseline", "dropout"]
    alone = run(from_nnx(NnxNetwork), blobs, [Recipe()], seeds=2, epochs=3, batch_size=25)
    np.testing.assert_array_equal(study.arms[0].test, alone.test[0])
    np.testing.assert_array_equal(study.arms[0].train_loss, alone.train_loss[0])
    curves = train([Recipe({"dropout": rate}) for rate in (0.2, 0.8)]).train_loss
    assert (curves[0] != curves[1]).all()
    assert (curves[0] != alone.train_loss[0]).all()


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2)(x)


class Wide(nn.Module):
    """Returns an image of logits."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2)(x[:, None])


# Wrong arguments.


@pytest.mark.parametrize("name", ["seeds", "epochs", "batch_size"])
def test_counts_below_one_raise(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        TRAIN([Recipe()], **{name: 0})


def three_classes(seed):
    split = blobs(seed)
    split.test_y[0] = 2
    return split


def of_another_size(seed):
    split = blobs(seed)
    return split if seed < 2 else split._replace(test_x=split.test_x[1:], test_y=split.test_y[1:])


@pytest.mark.parametrize(
    ("make_model", "data", "recipes", "options", "message"),
    [
        (MODEL, blobs, [], {}, "`recipes` must contain at least one recipe, got none; pass"),
        (MODEL, blobs, [{}], {"epochs": 0}, "`epochs` must be at least 1, got 0"),
        (MODEL, blobs, [{}], {"batch_size": 51},
         "`batch_size` must be at most 50, the number of .*, got 51"),
        (MODEL, blobs, [{}, {"cutout": 0.5, "mixup": 1.0}], {},
         r"`recipes` must suit the rows \(table of shape \(3,\)\), but cutout is for image"),
        (mlp((8,), 1), numbers, [{"label_smoothing": 0.1}], {},
         "`recipes` must suit the task .regression.; leave out label_smoothing"),
        (lambda recipe: Plain(), blobs, [{}, {"dropout": 0.5}], {},
         "`recipes` must contain only arms that the model uses, .* dropout"),
        (MODEL, three_classes, [{}], {},
         r"`make_model` must return a model with logits \[batch, 3\] for the 3 classes of the "),
        (lambda recipe: Wide(), blobs, [{}], {}, r"got outputs of shape \(2, 1, 2\) for a batch"),
        (MODEL, numbers, [{}], {},
         r"`make_model` must return a model with one output per target \(1 for a row\), got"),
        (MODEL, of_another_size, [{}], {},
         "`data` must return splits of one size for all seeds, got"),
    ],
)  # fmt: skip
def test_wrong_arguments_raise_before_training(make_model, data, recipes, options, message):
    train = partial(run, make_model, data, seeds=SEEDS, **OPTIONS)
    with pytest.raises(ValueError, match=message):
        train([Recipe(each) for each in recipes], **options)


def test_what_is_no_model_raises():
    with pytest.raises(TypeError, match="`make_model` must return a Linen module or"):
        run(lambda recipe: lambda x: x, blobs, [Recipe()], seeds=1, epochs=1)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"cutout": 0.5}, "`recipes` must suit the rows"),
        ({"drop_path": 0.5}, "`recipes` must contain only arms that the model uses"),
    ],
)
def test_fitting_checks_as_running_does(recipe, message):
    with pytest.raises(ValueError, match=message):
        Trainer(MODEL, blobs, seeds=1, **OPTIONS).fit(Recipe(recipe))


def test_several_targets_are_predicted_together():
    def data(seed):
        split = numbers(seed)
        labels = [np.stack([y, -y], axis=1) for y in (split[1], split[3], split[5])]
        return Split(split[0], labels[0], split[2], labels[1], split[4], labels[2])

    shapes = runner.count_outputs(mlp((8,), 2), runner.stack_splits(data, 2), REGRESSION)
    assert shapes is None
    with pytest.raises(ValueError, match=r"per target \(\(2,\) for a row\)"):
        runner.count_outputs(mlp((8,), 1), runner.stack_splits(data, 2), REGRESSION)


def test_results_are_cut_by_recipes():
    runs = Runs(*[np.arange(6).reshape(3, 2)] * 6, {"rmse": np.arange(3)})
    found = runs.rows(1, 3)
    np.testing.assert_array_equal(found.test, [[2, 3], [4, 5]])
    np.testing.assert_array_equal(found.others["rmse"], [1, 2])


def test_blas_has_one_thread_while_runs_train(monkeypatch, runs):
    """XLA calls it from all of its threads, and the threads of OpenBLAS would wait."""
    del runs  # The program has been compiled for the other tests.
    counts = []
    trained = runner.train_runs

    def counted(*arguments):
        counts.extend(
            library["num_threads"]
            for library in threadpoolctl.threadpool_info()
            if library["user_api"] == "blas"
        )
        return trained(*arguments)

    monkeypatch.setattr(runner, "train_runs", counted)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        TRAIN([GRID["off"]])
    assert counts
    assert set(counts) == {1}
