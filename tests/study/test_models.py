"""Models of a study: layers that a recipe asks for, as pure functions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxreg.linen
import jaxreg.nnx
from jaxreg import penalties
from jaxreg.study import Recipe, models

X = np.sin(np.arange(18.0, dtype=np.float32)).reshape(6, 3)
KEY = jax.random.wrap_key_data(np.array([0, 1], np.uint32))


def random_like(shapes, seed=0):
    """Variables of these shapes, drawn by NumPy."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def made(recipe, x=X, hidden=(4,), **options):
    """A model of the study with random variables, and its two passes by one program."""
    model = models.from_linen(models.mlp(hidden, 2, **options)(recipe))
    variables = dict(random_like(jax.eval_shape(model.init, KEY, x)))
    variables.pop("losses", None)
    for name, stats in variables.get("batch_stats", {}).items():
        variables["batch_stats"][name] = {k: abs(v) for k, v in stats.items()}

    @jax.jit
    def passes(variables, x, key):
        return model.train(variables, x, key), model.predict(variables, x)

    return variables, passes(variables, x, KEY)


def dense(params, name, x):
    return x @ np.float64(params[name]["kernel"]) + params[name]["bias"]


def relu(x):
    return np.maximum(x, 0)


def losses(variables):
    return [float(leaf) for leaf in jax.tree.leaves(variables["losses"])]


def test_a_plain_network_is_dense_layers_with_relus():
    variables, ((trained, after), predicted) = made(Recipe(), hidden=(4, 5))
    params = variables["params"]
    hidden = relu(dense(params, "Dense_1", relu(dense(params, "Dense_0", X))))
    want = dense(params, "Dense_2", hidden)
    np.testing.assert_allclose(trained, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(predicted, want, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after["params"], params)


def test_rows_of_any_shape_and_words_become_numbers():
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2) / 24
    variables, (_, predicted) = made(Recipe(), x=x)
    flat = x.reshape(2, -1)
    want = dense(variables["params"], "Dense_1", relu(dense(variables["params"], "Dense_0", flat)))
    np.testing.assert_allclose(predicted, want, rtol=1e-5, atol=1e-5)
    words = np.array([[1, 2, 0], [4, 4, 3]], np.int32)
    variables, (_, predicted) = made(Recipe(), x=words, vocabulary=5)
    params = variables["params"]
    table = params["Embed_0"]["embedding"]
    assert table.shape == (5, 16)
    flat = np.float64(table)[words].reshape(2, -1)
    want = dense(params, "Dense_1", relu(dense(params, "Dense_0", flat)))
    np.testing.assert_allclose(predicted, want, rtol=1e-5, atol=1e-4)


def test_penalties_of_hidden_units_are_sown_with_their_weights():
    variables, ((_, after), _) = made(Recipe(activity_l1=0.5, decorrelation=2.0))
    hidden = relu(dense(variables["params"], "Dense_0", X))
    centered = hidden - hidden.mean(axis=0)
    covariance = centered.T @ centered / len(X)
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    want = sorted([0.5 * abs(hidden).sum(axis=1).mean(), 2.0 * 0.5 * off])
    np.testing.assert_allclose(sorted(losses(after)), want, rtol=1e-4)


def test_dropout_acts_in_training_alone():
    variables, ((trained, _), predicted) = made(Recipe(dropout=0.5), hidden=(64,))
    params = variables["params"]
    hidden = relu(dense(params, "Dense_0", X))
    np.testing.assert_allclose(predicted, dense(params, "Dense_1", hidden), rtol=1e-5, atol=1e-4)
    assert abs(np.asarray(trained) - predicted).max() > 0.1


def test_batch_normalization_stands_before_every_nonlinearity():
    variables, ((trained, after), predicted) = made(Recipe(batch_norm=True))
    params = variables["params"]
    norm = params["BatchNorm_0"]
    x = dense(params, "Dense_0", X)

    def rest(x, mean, var):
        x = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
        return dense(params, "Dense_1", relu(x))

    np.testing.assert_allclose(trained, rest(x, x.mean(0), x.var(0)), rtol=1e-4, atol=1e-4)
    stats = variables["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(
        predicted, rest(x, stats["mean"], stats["var"]), rtol=1e-4, atol=1e-4
    )
    new = after["batch_stats"]["BatchNorm_0"]
    assert (np.asarray(new["mean"]) != stats["mean"]).all()
    assert set(after) == {"params", "batch_stats"}


def test_gates_multiply_units_and_their_number_is_sown():
    variables, ((trained, after), predicted) = made(Recipe(l0=0.5))
    params = variables["params"]
    log_alpha = np.float64(params["Gates_0"]["log_alpha"])
    hidden = relu(dense(params, "Dense_0", X))
    gates = np.clip(1.2 / (1 + np.exp(-log_alpha)) - 0.1, 0, 1)
    want = dense(params, "Dense_1", hidden * gates)
    np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=1e-5)
    assert abs(np.asarray(trained) - predicted).max() > 1e-3
    is_open = 1 / (1 + np.exp(-(log_alpha - 2 / 3 * math.log(0.1 / 1.1))))
    np.testing.assert_allclose(losses(after), [0.5 * is_open.sum()], rtol=1e-4)
    gates = models.Gates(0.5)
    fresh = jax.jit(lambda key: gates.init({"params": key, "dropout": key}, X, train=False))(KEY)
    np.testing.assert_array_equal(fresh["params"]["log_alpha"], [2.0] * 3)


def test_a_bottleneck_samples_a_code_and_its_rate_is_sown():
    variables, ((trained, after), predicted) = made(Recipe(bottleneck=0.5))
    params = variables["params"]
    code = params["Bottleneck_0"]
    hidden = relu(dense(params, "Dense_0", X))
    mean = dense(code, "Dense_0", hidden)
    log_var = dense(code, "Dense_1", hidden)
    assert mean.shape[-1] == 4
    np.testing.assert_allclose(predicted, dense(params, "Dense_1", mean), rtol=1e-4, atol=1e-4)
    assert abs(np.asarray(trained) - predicted).max() > 0.01
    rate = 0.5 * (mean**2 + np.exp(log_var) - log_var - 1).sum(axis=1).mean()
    np.testing.assert_allclose(losses(after), [0.5 * rate], rtol=1e-4)


def test_what_is_off_is_no_layer():
    model = models.mlp((4,), 2)(Recipe(dropout=0, l0=0.0))
    layers = (model.dropout, model.activity_l1, model.decorrelation, model.l0, model.bottleneck)
    assert layers == (None,) * 5
    traced = np.zeros(())
    assert models.mlp((4,), 2)(Recipe(dropout=traced)).dropout is traced
    assert models.mlp((4,), 2)(Recipe(l0=0.5)).l0 == 0.5
    assert (model.hidden, model.num_classes, model.batch_norm) == ((4,), 2, False)


class NnxMLP(nnx.Module):
    def __init__(self, recipe, rngs):
        self.norm = jaxreg.nnx.BatchNorm(3, rngs=rngs)
        self.drop = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.penalty = jaxreg.nnx.ActivityPenalty(penalties.l2, 0.5)
        self.last = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.penalty(self.drop(self.norm(x))))


def test_nnx_models_are_pure_functions_too():
    model = models.from_nnx(NnxMLP)(Recipe(dropout=0.5))

    @jax.jit
    def passes(x, key):
        variables = model.init(key, x)
        trained = [model.train(variables, x, key) for _ in range(2)]
        trained.append(model.train({**variables, "rest": trained[0][1]["rest"]}, x, key))
        params = nnx.to_pure_dict(variables["params"])
        return params, trained, model.predict(variables, x), model.predict(trained[0][1], x)

    params, trained, predicted, after = passes(X, KEY)
    (first, updated), (same, _), (other, _) = trained
    want = X / math.sqrt(1 + 1e-5) @ params["last"]["kernel"]
    np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()  # The next step draws other noise.
    assert (after != predicted).any()  # The statistics moved.
    assert set(updated) == {"params", "rest", "losses"}
    assert updated["losses"] > 0


@pytest.mark.parametrize("train", [True, False])
def test_a_linen_module_is_told_its_mode_and_may_sow(train):
    class Told(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = jaxreg.linen.ActivityPenalty(penalties.l2, 0.5)(x)
            return x + (jax.random.uniform(self.make_rng("dropout")) + 1 if train else 0)

    model = models.from_linen(Told())
    if train:
        logits, updated = jax.jit(model.train)({"params": {}}, X, KEY)
        assert (logits > X + 0.999).all()
        np.testing.assert_allclose(losses(updated), [0.25 * (X**2).sum()], rtol=1e-5)
    else:
        np.testing.assert_array_equal(model.predict({"params": {}}, jnp.asarray(X)), X)
