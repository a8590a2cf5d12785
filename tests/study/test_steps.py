"""The loss of a training step: everything that a recipe switches on, in its order."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.study import CLASSIFICATION, REGRESSION, Policy, Recipe, steps
from jaxreg.study.arms import ARMS, acting
from jaxreg.study.arms.row import BatchChange
from jaxreg.study.batch import Batch
from jaxreg.study.models import Model
from tests.study.rows import blobs, numbers

KEY = jax.random.wrap_key_data(np.array([0, 5], np.uint32))
W = np.sin(np.arange(6.0, dtype=np.float32)).reshape(3, 2)
SOWN = {"a": jnp.float32(0.25), "b": (jnp.float32(0.5),)}


def train(variables, x, key):
    """Logits with noise of their own, penalties that are sown, and statistics."""
    logits = x @ variables["params"] * (1 + jax.random.uniform(key))
    return logits, {**variables, "losses": SOWN, "batch_stats": 7}


MODEL = Model(None, train, lambda variables, x: x @ variables["params"])


def softmax(logits):
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True)


def test_the_loss_is_the_sum_of_its_parts():
    """Cross entropy after the changes of the batch, what was sown, terms, and flooding."""
    full = Recipe({"label_smoothing": 0.1, "r_drop": 0.3, "distance": 0.2, "dropout": 0.1})
    flooded = Recipe({"flood": 2.0})
    split = blobs(0)
    x, y = split.train_x[:6], split.train_y[:6]

    @jax.jit
    def compute(w, x):
        batch = Batch(x, y, np.float32(1.5), np.float32(2), 2)
        variables = {"params": w, "kept": 3}
        values = []
        for recipe in (full, flooded):
            value, updated = steps.loss(MODEL, CLASSIFICATION, recipe, variables, batch, w / 2, KEY)
            assert set(updated) == {"params", "kept", "batch_stats"}
            values.append(value)
        again_key = jax.random.split(jax.random.fold_in(KEY, 1))[1]
        return values, jax.random.uniform(KEY), jax.random.uniform(again_key)

    (value, high), first, second = compute(W, x)
    p = softmax(np.float64(x) @ W * (1 + float(first)))
    q = softmax(np.float64(x) @ W * (1 + float(second)))
    smooth = 0.9 * np.eye(2)[y] + 0.05
    want = -(smooth * np.log(p)).sum(axis=1).mean() + 0.75
    want += 0.3 * 0.5 * ((p - q) * np.log(p / q)).sum(axis=1).mean()
    want += 0.2 * 0.5 * (np.float64(W) ** 2 / 4).sum()
    np.testing.assert_allclose(value, want, rtol=1e-5)
    plain = -np.log(p[np.arange(6), y]).mean() + 0.75
    assert plain < 2
    np.testing.assert_allclose(high, 4 - plain, rtol=1e-5)


def test_terms_see_the_model_in_evaluation_and_a_key_of_their_own(monkeypatch):
    seen = {}

    def record(params, start, x, logits, predict, key):
        seen.update(params=params, start=start, x=x, logits=logits, predict=predict, key=key)
        return jnp.float32(10)

    arm = ARMS["jacobian"]
    fake = arm.acts._replace(function=record)
    monkeypatch.setattr(steps, "acting", lambda kind: replaced(kind, arm, fake))
    split = blobs(0)
    x, y = split.train_x[:6], split.train_y[:6]

    @jax.jit
    def compute(w, x):
        batch = Batch(x, y, np.float32(0), np.float32(1), 2)
        recipe = Recipe({"jacobian": 0.5})
        value, _ = steps.loss(MODEL, CLASSIFICATION, recipe, {"params": w}, batch, w + 1, KEY)
        predicted = seen.pop("predict")(2 * x)
        keys = jax.random.key_data(jnp.stack([KEY, seen.pop("key")]))
        return value, seen, predicted, keys, jax.random.uniform(KEY)

    value, found, predicted, keys, noise = jax.device_get(compute(W, x))
    outputs = np.float64(x) @ W * (1 + noise)
    np.testing.assert_allclose(found["logits"], outputs, rtol=1e-5)
    np.testing.assert_allclose(predicted, 2 * x @ W, rtol=1e-5)
    np.testing.assert_array_equal(found["start"], W + 1)
    np.testing.assert_array_equal(found["x"], x)
    want = 5 + 0.75 - np.log(softmax(outputs)[np.arange(6), y]).mean()
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert (keys[0] != keys[1]).any()


def replaced(kind, arm, acts):
    """The arms of a kind, with another action of one of them."""
    return [type(a)(**{**vars(a), "acts": acts}) if a is arm else a for a in acting(kind)]


def test_an_arm_for_classes_does_not_touch_a_regression():
    """Every program has a place for label smoothing; the loss of numbers stays as it is."""
    split = numbers(0)
    outputs = split.train_x[:6, :1]
    recipe = Recipe().with_cheap()
    found = steps.criterion(REGRESSION, recipe, outputs, split.train_y[:6])
    np.testing.assert_allclose(found, ((outputs[:, 0] - split.train_y[:6]) ** 2).mean(), rtol=1e-6)


def test_changes_come_in_their_order_with_keys_and_strengths_of_their_own(monkeypatch):
    """The policy comes first; mixing comes last, as it is of whole examples."""
    calls = []

    def record(acts, key, batch, strength):
        name = next(arm.name for arm in acting(BatchChange) if arm.acts is acts)
        calls.append((name, tuple(jax.random.key_data(key).tolist()), strength))
        return batch._replace(x=batch.x + len(calls), labels=batch.labels + 1)

    def policy(key, policy, x, *, mean, stddev):
        calls.append(("policy", tuple(jax.random.key_data(key).tolist()), (mean, stddev)))
        return x * 2

    monkeypatch.setattr(steps, "change", record)
    monkeypatch.setattr(steps, "apply_policy", policy)
    own = Policy(("jitter",), (0.1,), (0.5,))
    recipe = Recipe({"mixup": 0.4, "cutout": 0.2, "jitter": 0.3, "l2": 1.0, "policy": own})
    batch = Batch(np.ones(3), np.zeros(3), 5.0, 6.0, 2)
    found = steps.change_batch(KEY, recipe, batch)
    assert [(name, strength) for name, _, strength in calls] == [
        ("policy", (5.0, 6.0)), ("cutout", 0.2), ("jitter", 0.3), ("mixup", 0.4),
    ]  # fmt: skip
    assert len({key for _, key, _ in calls}) == 4
    np.testing.assert_array_equal(found.x, batch.x * 2 + 2 + 3 + 4)
    np.testing.assert_array_equal(found.labels, batch.labels + 3)
    # An arm draws from the same key whatever else is on.
    steps.change_batch(KEY, Recipe({"mixup": 0.4}), batch)
    assert calls[-1] == calls[-2]


def test_the_model_sees_the_changed_batch(monkeypatch):
    def change_batch(key, recipe, batch):
        return batch._replace(x=batch.x + 1)

    monkeypatch.setattr(steps, "change_batch", change_batch)
    split = blobs(0)
    batch = Batch(split.train_x[:6], split.train_y[:6], np.float32(0), np.float32(1), 2)

    @jax.jit
    def compute(w):
        value, _ = steps.loss(MODEL, CLASSIFICATION, Recipe(), {"params": w}, batch, None, KEY)
        return value, jax.random.uniform(KEY)

    value, noise = compute(W)
    p = softmax((np.float64(batch.x) + 1) @ W * (1 + float(noise)))
    want = 0.75 - np.log(p[np.arange(6), batch.labels]).mean()
    np.testing.assert_allclose(value, want, rtol=1e-5)
