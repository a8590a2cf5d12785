"""Training, against Adam in NumPy, at sizes that train in a blink."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import targets
from jaxreg.study import Policy, Recipe, Runs, inputs, models, run, runner
from tests.study.helpers import blobs

SEEDS, EPOCHS, BATCH, RATE = 3, 12, 20, 0.1
MODEL = models.mlp((8,), 2)
TRAIN = partial(run, MODEL, blobs, seeds=SEEDS, epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE)
PLAN = runner._Plan(MODEL, EPOCHS, BATCH, RATE, tuple(jax.local_devices()), 1)
# All of one structure, so that one program trains them.
GRID = {
    "off": Recipe(),
    "patience": Recipe(patience=1),
    "l1": Recipe(l1=3.0),
    "l2": Recipe(l2=9.0),
    "max_norm": Recipe(max_norm=0.1),
    "label_smoothing": Recipe(label_smoothing=0.5),
}


@pytest.fixture(scope="module")
def runs():
    """Every run of the grid by its name."""
    found = TRAIN(list(GRID.values()))
    return {name: Runs(*(array[row] for array in found)) for row, name in enumerate(GRID)}


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
    """Mean training loss and parameters of every epoch."""
    given, batches = starts(seed)
    split = blobs(seed)
    params = {(a, b): np.float64(w) for a, leaves in given.items() for b, w in leaves.items()}
    first = {name: 0 for name in params}
    second = {name: 0 for name in params}
    losses = []
    path = []
    count = 0
    for epoch in np.asarray(batches):
        values = []
        for rows in epoch:
            count += 1
            x = np.float64(split.train_x[rows])
            y = split.train_y[rows]
            values.append(loss_and_accuracy(params, x, y)[0])
            for name, g in gradients(params, x, y).items():
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                size = np.sqrt(second[name] / (1 - 0.999**count)) + 1e-8
                step = first[name] / (1 - 0.9**count) / size
                params = {**params, name: params[name] - RATE * step}
        losses.append(np.mean(values))
        path.append(params)
    return losses, path


@pytest.mark.parametrize("seed", [1, 2])
def test_a_recipe_that_is_off_is_plain_adam(seed, runs):
    found = runs["off"]
    losses, path = by_numpy(seed)
    split = blobs(seed)
    np.testing.assert_allclose(found.train_loss[:, seed], losses, rtol=2e-3)
    validation = [
        loss_and_accuracy(params, split.validation_x, split.validation_y)[0] for params in path
    ]
    np.testing.assert_allclose(found.validation_loss[:, seed], validation, rtol=2e-3)
    np.testing.assert_allclose(found.loss[seed], validation[-1], rtol=2e-3)
    for part in ("train", "validation", "test"):
        rows = getattr(split, f"{part}_x"), getattr(split, f"{part}_y")
        _, accuracy = loss_and_accuracy(path[-1], *rows)
        np.testing.assert_allclose(getattr(found, part)[seed], accuracy, atol=1e-6)


def test_a_stopped_run_goes_back_to_its_best_epoch(runs):
    """With a patience of 1 a run stops at the first rise and goes back by one epoch."""
    full = runs["off"]
    stopped = runs["patience"]
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
    params = by_numpy(1)[1][best[1]]
    _, accuracy = loss_and_accuracy(params, split.test_x, split.test_y)
    np.testing.assert_allclose(stopped.test[1], accuracy, atol=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2", "max_norm", "label_smoothing"])
def test_a_strong_regularizer_keeps_the_training_loss_up(name, runs):
    assert (runs[name].train_loss[-1] > runs["off"].train_loss[-1]).all()


def test_results_have_the_shapes_they_promise(runs):
    for found in runs.values():
        for name in ("train", "validation", "test", "loss"):
            assert getattr(found, name).shape == (SEEDS,)
        assert found.train_loss.shape == found.validation_loss.shape == (EPOCHS, SEEDS)
        assert all(np.isfinite(array).all() for array in found)


def test_a_run_among_others_is_the_run_alone(runs):
    seen = []
    names = ["l2", "off", "patience"]
    found = TRAIN(
        [GRID[name] for name in names],
        progress=lambda block, accuracies: seen.append((list(block), accuracies)),
    )
    for row, name in enumerate(names):
        for one, other in zip(found, runs[name], strict=True):
            np.testing.assert_array_equal(one[row], other, err_msg=name)
    assert [block for block, _ in seen] == [[0], [1], [2]]
    for row, (_, accuracies) in enumerate(seen):
        np.testing.assert_array_equal(accuracies[0], found.validation[row])


# Blocks of runs.


def test_recipes_of_one_structure_are_trained_in_blocks():
    grid = [Recipe(), Recipe(dropout=0.1), Recipe(l2=1.0), Recipe(dropout=0.5), Recipe(l1=0.1)]
    found = list(runner._blocks(grid, 2))
    assert found == [((), [0, 2]), ((), [4]), (("dropout",), [1, 3])]


def test_a_block_is_filled_up_and_its_results_are_taken_apart(monkeypatch):
    """Two recipes of a block of three, with two seeds, on eight devices."""
    given = []

    def train(plan, recipes, seeds, splits):
        given.append((recipes, seeds))
        value = 10 * recipes.l2 + seeds
        return Runs(*[value] * 4, *[value[:, None] + np.arange(5) / 10] * 2)

    monkeypatch.setattr(runner, "_train_runs", train)
    found = runner._train_block(PLAN, [Recipe(l2=1.0), Recipe(l2=2.0)], None, 2, 3)
    recipes, seeds = given[0]
    np.testing.assert_array_equal(recipes.l2, [1, 1, 2, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(seeds, [0, 1, 0, 1, 0, 1, 1, 1])
    assert recipes.l2.dtype == np.float32
    np.testing.assert_array_equal(found.test[:2], [[10, 11], [20, 21]])
    assert found.train_loss.shape == (3, 5, 2)
    np.testing.assert_allclose(found.validation_loss[1, :, 1], 21 + np.arange(5) / 10)


def test_one_trace_per_structure_with_tracers_for_what_is_on():
    made = []

    def counting(recipe):
        made.append(recipe)
        return MODEL(recipe)

    recipe = Recipe(dropout=0.1, l2=0.1, distance=0.1)
    plan = PLAN._replace(make_model=counting, structure=recipe.structure)
    split = blobs(0)
    numbers = jax.tree.map(np.float32, recipe)
    out = jax.eval_shape(partial(runner._train, plan), numbers, split, jax.random.key(0))
    assert out.train_loss.shape == (EPOCHS,)
    assert len(made) == 1
    # A rate that is off is a number, so that the model can leave the layer out.
    assert isinstance(made[0].dropout, jax.core.Tracer)
    assert isinstance(made[0].l2, jax.core.Tracer)
    assert isinstance(made[0].l0, float)


# The loss.

W = np.sin(np.arange(6.0, dtype=np.float32)).reshape(3, 2)
SOWN = {"a": jnp.float32(0.25), "b": (jnp.float32(0.5),)}


def some_model():
    """Logits with noise of their own, penalties that are sown, and statistics."""

    def train(variables, x, key):
        logits = x @ variables["params"] * (1 + jax.random.uniform(key))
        return logits, {**variables, "losses": SOWN, "batch_stats": 7}

    return models.Model(None, train, lambda variables, x: x @ variables["params"])


def test_the_loss_is_the_sum_of_its_parts(monkeypatch):
    """Cross entropy after the changes of the batch, terms, what was sown, and flooding."""
    keys = {}

    def policy(key, policy, x, *, mean, stddev):
        keys["policy"] = key
        return x * policy.magnitudes[0] + mean / stddev

    def change_batch(key, recipe, names, batch):
        keys["inputs"] = key
        return batch._replace(x=batch.x + recipe.jitter)

    monkeypatch.setattr(runner, "apply_policy", policy)
    monkeypatch.setattr(runner.inputs, "change_batch", change_batch)
    recipe = Recipe(
        label_smoothing=0.1, r_drop=0.3, distance=0.2, jitter=0.5,
        policy=Policy(("jitter",), (2.0,), (1.0,)),
    )  # fmt: skip
    split = blobs(0)
    x, y = split.train_x[:6], split.train_y[:6]
    key = jax.random.wrap_key_data(np.array([0, 5], np.uint32))

    @jax.jit
    def compute(w, x):
        batch = inputs.Batch(x, y, np.float32(1.5), np.float32(2), 2)
        variables = {"params": w}
        values = []
        for given in (recipe, Recipe(flood=2.0)):
            plan = PLAN._replace(structure=given.structure)
            value, updated = runner._loss(plan, some_model(), given, variables, batch, w / 2, key)
            assert set(updated) == {"params", "batch_stats"}
            values.append(value)
        again_key = jax.random.split(jax.random.fold_in(key, 1))[1]
        draws = jax.random.uniform(key), jax.random.uniform(again_key)
        own = jax.random.key_data(jnp.stack([keys["policy"], keys["inputs"]]))
        return values, draws, own, jax.random.key_data(key)

    (value, flooded), (first, second), own, words = compute(W, x)

    def probabilities(logits):
        p = np.exp(logits)
        return p / p.sum(axis=1, keepdims=True)

    rows = np.float64(x) * 2 + 0.75 + 0.5
    p = probabilities(rows @ W * (1 + float(first)))
    q = probabilities(rows @ W * (1 + float(second)))
    smooth = 0.9 * np.eye(2)[y] + 0.05
    want = -(smooth * np.log(p)).sum(axis=1).mean() + 0.75
    want += 0.3 * 0.5 * ((p - q) * np.log(p / q)).sum(axis=1).mean()
    want += 0.2 * 0.5 * (np.float64(W) ** 2 / 4).sum()
    np.testing.assert_allclose(value, want, rtol=1e-5)
    p = probabilities((np.float64(x) + 0) @ W * (1 + float(first)))
    plain = -np.log(p[np.arange(6), y]).mean() + 0.75
    assert plain < 2
    np.testing.assert_allclose(flooded, 4 - plain, rtol=1e-5)
    assert len({tuple(row) for row in [*np.asarray(own), np.asarray(words)]}) == 3


def test_mixed_labels_are_trained_as_the_two_parts_of_them():
    logits = np.sin(np.arange(12.0, dtype=np.float32)).reshape(4, 3)
    a = np.array([0, 1, 2, 1])
    b = np.array([2, 1, 0, 0])
    lam = np.float32([1.0, 0.3, 0.5, 0.8])
    rows = lam[:, None] * np.eye(3, dtype=np.float32)[a]
    rows += (1 - lam[:, None]) * np.eye(3, dtype=np.float32)[b]

    @jax.jit
    def both(logits, alpha):
        plain = targets.smoothed_cross_entropy(logits, a, alpha=alpha)
        found = runner._cross_entropy(logits, rows, alpha), runner._cross_entropy(logits, a, alpha)
        return *found, plain

    log_p = logits - np.log(np.exp(np.float64(logits)).sum(axis=1, keepdims=True))
    for alpha in (0.0, 0.2):
        mixed, hard, plain = both(logits, np.float32(alpha))
        for labels, found in ((rows, mixed), (np.eye(3)[a], hard)):
            smooth = (1 - alpha) * labels + alpha / 3
            np.testing.assert_allclose(found, -(smooth * log_p).sum(axis=1).mean(), rtol=1e-5)
        np.testing.assert_allclose(plain, hard, rtol=1e-6)


# Wrong arguments.


@pytest.mark.parametrize("name", ["seeds", "epochs", "batch_size"])
def test_counts_below_one_raise(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        TRAIN([Recipe()], **{name: 0})


def test_no_recipe_and_a_batch_too_large_raise():
    with pytest.raises(ValueError, match="`recipes` must be at least 1, got 0"):
        TRAIN([])
    with pytest.raises(ValueError, match="`batch_size` must be at most the 50 training rows, got"):
        TRAIN([Recipe()], batch_size=51)


def test_a_recipe_for_other_rows_raises():
    message = r"`recipes` must suit the rows, here a table of shape \(3,\), but cutout is for image"
    with pytest.raises(ValueError, match=message):
        TRAIN([Recipe(), Recipe(cutout=0.5, mixup=1.0)])


def test_many_runs_advance_together_on_an_accelerator(monkeypatch):
    plans = []

    def splits(plan, data, seeds):
        plans.append(plan)
        raise InterruptedError

    monkeypatch.setattr(runner, "_splits", splits)
    for platform, together in (("cpu", 1), ("gpu", 128), ("tpu", 128)):
        device = SimpleNamespace(platform=platform)
        monkeypatch.setattr(runner.jax, "local_devices", lambda device=device: [device])
        with pytest.raises(InterruptedError):
            TRAIN([Recipe()])
        assert plans[-1].together == together
