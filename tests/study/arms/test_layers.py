"""Layers of a recipe, at their places in a small network, against NumPy."""

import math

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxreg.study import Recipe, arms, mlp
from jaxreg.study.arms import layers
from jaxreg.study.arms.row import Layer, call
from jaxreg.study.models import from_linen
from tests.study.rows import random_like

X = np.sin(np.arange(18.0, dtype=np.float32)).reshape(6, 3)
KEY = jax.random.wrap_key_data(np.array([0, 1], np.uint32))


def made(strengths, hidden=(4,)):
    """A network of a recipe with random variables, and its two passes by one program."""
    model = from_linen(mlp(hidden, 2)(Recipe(strengths)))
    variables = random_like(jax.eval_shape(model.init, KEY, X))

    @jax.jit
    def passes(variables, x, key):
        return model.train(variables, x, key), model.predict(variables, x)

    return variables, jax.device_get(passes(variables, X, KEY))


def dense(params, name, x):
    return x @ np.float64(params[name]["kernel"]) + params[name]["bias"]


def relu(x):
    return np.maximum(x, 0)


def losses(variables):
    return sorted(float(leaf) for leaf in jax.tree.leaves(variables["losses"]))


def test_penalties_of_hidden_units_are_sown_with_their_weights():
    variables, ((_, after), _) = made({"activity_l1": 0.5, "decorrelation": 2.0})
    hidden = relu(dense(variables["params"], "Dense_0", X))
    centered = hidden - hidden.mean(axis=0)
    covariance = centered.T @ centered / len(X)
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    want = sorted([0.5 * abs(hidden).sum(axis=1).mean(), 2.0 * 0.5 * off])
    np.testing.assert_allclose(losses(after), want, rtol=1e-4)


def test_dropout_acts_in_training_alone():
    variables, ((trained, _), predicted) = made({"dropout": 0.5}, hidden=(64,))
    hidden = relu(dense(variables["params"], "Dense_0", X))
    want = dense(variables["params"], "Dense_1", hidden)
    np.testing.assert_allclose(predicted, want, rtol=1e-5, atol=1e-4)
    assert abs(trained - predicted).max() > 0.1


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("batch_norm", [range(6)]),
        # The largest part of at most 16 rows is the whole batch of 6.
        ("ghost_batch_norm", [range(6)]),
    ],
)
def test_batch_normalization_stands_before_every_nonlinearity(name, parts):
    variables, ((trained, after), predicted) = made({name: True})
    params = variables["params"]
    (norm,) = [part for key, part in params.items() if key.startswith(("Batch", "Ghost"))]
    (stats,) = variables["batch_stats"].values()
    x = dense(params, "Dense_0", X)

    def rest(x, mean, var):
        x = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
        return dense(params, "Dense_1", relu(x))

    for rows in map(list, parts):
        want = rest(x[rows], x[rows].mean(0), x[rows].var(0))
        np.testing.assert_allclose(trained[rows], want, rtol=1e-4, atol=1e-4)
    want = rest(x, stats["mean"], stats["var"])
    np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=1e-4)
    (new,) = after["batch_stats"].values()
    assert (new["mean"] != stats["mean"]).all()
    assert set(after) == {"params", "batch_stats"}


@pytest.mark.parametrize(("rows", "size"), [(32, 16), (20, 10), (6, 6), (50, 10)])
def test_parts_of_a_batch_are_equal_and_of_at_most_16_rows(rows, size, monkeypatch):
    seen = []

    def record(size, *, use_running_average):
        seen.append((size, use_running_average))
        return lambda x: x

    monkeypatch.setattr(layers.linen, "GhostBatchNorm", record)
    layers.normalize_ghosts(np.zeros((rows, 2)), train=True)
    layers.normalize_ghosts(np.zeros((rows, 2)), train=False)
    assert seen == [(size, False), (size, True)]


def test_layer_normalization_is_of_each_example():
    variables, ((trained, after), predicted) = made({"layer_norm": True})
    params = variables["params"]
    x = dense(params, "Dense_0", X)
    norm = params["LayerNorm_0"]
    mean = x.mean(axis=1, keepdims=True)
    var = x.var(axis=1, keepdims=True)
    x = (x - mean) / np.sqrt(var + 1e-6) * norm["scale"] + norm["bias"]
    want = dense(params, "Dense_1", relu(x))
    np.testing.assert_allclose(trained, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=1e-4)
    assert set(after) == {"params"}


def test_gates_multiply_units_and_their_number_is_sown():
    variables, ((trained, after), predicted) = made({"l0": 0.5})
    params = variables["params"]
    log_alpha = np.float64(params["Gates_0"]["log_alpha"])
    hidden = relu(dense(params, "Dense_0", X))
    gates = np.clip(1.2 / (1 + np.exp(-log_alpha)) - 0.1, 0, 1)
    want = dense(params, "Dense_1", hidden * gates)
    np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=1e-5)
    assert abs(trained - predicted).max() > 1e-3
    is_open = 1 / (1 + np.exp(-(log_alpha - 2 / 3 * math.log(0.1 / 1.1))))
    np.testing.assert_allclose(losses(after), [0.5 * is_open.sum()], rtol=1e-4)
    gates = layers.Gates(0.5)
    fresh = jax.jit(lambda key: gates.init({"params": key, "dropout": key}, X, train=False))(KEY)
    np.testing.assert_array_equal(fresh["params"]["log_alpha"], [2.0] * 3)


def test_a_bottleneck_samples_a_code_and_its_rate_is_sown():
    variables, ((trained, after), predicted) = made({"bottleneck": 0.5})
    params = variables["params"]
    code = params["Bottleneck_0"]
    hidden = relu(dense(params, "Dense_0", X))
    mean = dense(code, "Dense_0", hidden)
    log_var = dense(code, "Dense_1", hidden)
    assert mean.shape[-1] == 4
    np.testing.assert_allclose(predicted, dense(params, "Dense_1", mean), rtol=1e-4, atol=1e-4)
    assert abs(trained - predicted).max() > 0.01
    rate = 0.5 * (mean**2 + np.exp(log_var) - log_var - 1).sum(axis=1).mean()
    np.testing.assert_allclose(losses(after), [0.5 * rate], rtol=1e-4)


class Alone(nn.Module):
    """A layer by itself."""

    name_of_arm: str

    @nn.compact
    def __call__(self, x, strength, *, train):
        values = {"x": x, "strength": strength, "train": train}
        return call(arms.ARMS[self.name_of_arm].acts.function, values)


@pytest.fixture(scope="module")
def dropped():
    """Maps of ones after each kind of dropout, in training and in evaluation."""
    names = ("dropout", "spatial_dropout", "drop_block", "drop_path")

    @jax.jit
    def compute(x, rate, key):
        def both(name):
            module = Alone(name)
            noise = {"dropout": key}
            trained = module.apply({}, x, rate, train=True, rngs=noise)
            return trained, module.apply({}, x, rate, train=False)

        return {name: both(name) for name in names}

    x = np.ones((200, 6, 6, 4), np.float32)
    return jax.device_get(compute(x, np.float32(0.25), KEY))


@pytest.mark.parametrize(
    ("name", "axes"),
    [("dropout", ()), ("spatial_dropout", (1, 2)), ("drop_path", (1, 2, 3)), ("drop_block", ())],
)
def test_what_is_dropped_together(name, axes, dropped):
    """Along these axes all are kept or none."""
    trained, predicted = dropped[name]
    assert (predicted == 1).all()
    kept = trained > 0
    assert (kept.min(axis=axes) == kept.max(axis=axes)).all()
    units = kept.max(axis=axes)
    if name == "drop_block":
        # A block has a third of the sides, so what is dropped has a dropped neighbor.
        gone = ~kept[..., 0]
        beside = np.zeros_like(gone)
        beside[:, 1:] |= gone[:, :-1]
        beside[:, :-1] |= gone[:, 1:]
        assert (beside | ~gone).all()
    else:
        np.testing.assert_allclose(trained[kept], 1 / 0.75, rtol=1e-5)
        error = math.sqrt(0.25 * 0.75 / units.size)
        np.testing.assert_allclose(units.mean(), 0.75, atol=5 * error)
    assert 0.6 < kept.mean() < 0.85


def test_every_layer_is_at_the_place_of_its_kind():
    places = {arm.name: arm.acts.place for arm in arms.acting(Layer)}
    assert places == {
        "batch_norm": "normalization", "ghost_batch_norm": "normalization",
        "layer_norm": "normalization", "l0": "units", "activity_l1": "units",
        "decorrelation": "units", "dropout": "units", "spatial_dropout": "maps",
        "drop_block": "maps", "drop_path": "branch", "bottleneck": "last",
    }  # fmt: skip
    sows = {arm.name for arm in arms.acting(Layer) if arm.acts.sows}
    assert sows == {"l0", "activity_l1", "decorrelation", "bottleneck"}
