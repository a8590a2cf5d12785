"""Models of a study, made from Linen and NNX modules, as pure functions."""

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
from jaxreg.study import Recipe, from_nnx, mlp, models

X = np.sin(np.arange(18.0, dtype=np.float32)).reshape(6, 3)
KEY = jax.random.wrap_key_data(np.array([0, 1], np.uint32))


class NnxMLP(nnx.Module):
    def __init__(self, recipe, rngs):
        self.norm = jaxreg.nnx.BatchNorm(3, rngs=rngs)
        self.drop = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.penalty = jaxreg.nnx.ActivityPenalty(penalties.l2, 0.5)
        self.last = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.penalty(self.drop(self.norm(x))))


def test_nnx_models_are_pure_functions_of_a_traced_recipe():
    """Traced twice, as by a baseline and an arm of one process."""

    @jax.jit
    def passes(recipe, x, key):
        model = from_nnx(NnxMLP)(recipe)
        variables = model.init(key, x)
        trained = [model.train(variables, x, key) for _ in range(2)]
        trained.append(model.train(variables, x, jax.random.fold_in(key, 1)))
        params = nnx.to_pure_dict(variables["params"])
        return params, trained, model.predict(variables, x), model.predict(trained[0][1], x)

    for recipe in (Recipe(), Recipe({"dropout": np.float32(0.5)})):
        params, trained, predicted, after = passes(recipe, X, KEY)
        (first, updated), (same, _), (other, _) = trained
        want = X / math.sqrt(1 + 1e-5) @ params["last"]["kernel"]
        np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(first, same)
        assert (first != other).any() == ("dropout" in recipe)
        assert (after != predicted).any()  # The statistics moved.
        assert set(updated) == {"params", "rest", "losses"}
        assert updated["losses"] > 0


class Noisy(nnx.Module):
    """Two layers that draw, from streams of names of their own."""

    def __init__(self, recipe, rngs):
        drop = jaxreg.nnx.Dropout
        self.first = drop(0.5, rngs=rngs)
        self.second = drop(0.5, rngs=nnx.Rngs(noise=rngs.params()), rng_collection="noise")
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return self.first(x), self.second(x)


def test_every_stream_of_an_nnx_model_follows_the_key_of_the_pass():
    """The second pass of R-Drop has other noise, and so have two layers of a pass."""

    @jax.jit
    def passes(x, key, other):
        model = from_nnx(Noisy)(Recipe())
        variables = model.init(key, x)
        return [model.train(variables, x, k)[0] for k in (key, key, other)]

    ones = np.ones((8, 8), np.float32)
    draws = jax.device_get(passes(ones, KEY, jax.random.wrap_key_data(np.uint32([7, 7]))))
    np.testing.assert_array_equal(draws[0], draws[1])
    masks = [draw.tobytes() for draw in (*draws[0], *draws[2])]
    assert len(set(masks)) == 4


def test_a_layer_that_takes_python_numbers_only_is_named():
    class Network(nnx.Module):
        def __init__(self, recipe, rngs):
            self.layers = nnx.List([nnx.Dropout(recipe.dropout, rngs=rngs)])

        def __call__(self, x):
            return self.layers[0](x)

    message = (
        r"`make` must pass traced strengths to modules of jaxreg.nnx, got one in layers/0/rate of "
        r"Dropout, .*; use jaxreg.nnx.Dropout"
    )
    recipe = Recipe({"dropout": np.float32(0.5)})
    for _ in range(2):
        with pytest.raises(TypeError, match=message):
            jax.eval_shape(lambda r: from_nnx(Network)(r).init(KEY, X), recipe)


@pytest.mark.parametrize("train", [True, False])
def test_a_linen_module_is_told_its_mode_and_may_sow(train):
    class Told(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = jaxreg.linen.ActivityPenalty(penalties.l2, 0.5)(x)
            return x + (jax.random.uniform(self.make_rng("dropout")) + 1 if train else 0)

    model = models.from_linen(Told())
    if train:
        outputs, updated = jax.jit(model.train)({"params": {}, "kept": {"a": 3}}, X, KEY)
        assert (outputs > X + 0.999).all()
        (sown,) = jax.tree.leaves(updated["losses"])
        np.testing.assert_allclose(sown, 0.25 * (X**2).sum(), rtol=1e-5)
        assert updated["kept"] == {"a": 3}
    else:
        np.testing.assert_array_equal(model.predict({"params": {}}, jnp.asarray(X)), X)


class LinenNetwork(nn.Module):
    recipe: Recipe

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2)(x)


def with_a_default(recipe, width=2):
    return LinenNetwork(recipe)


def make_nnx(recipe, rngs):
    return NnxMLP(recipe, rngs)


@pytest.mark.parametrize("make", [LinenNetwork, with_a_default, NnxMLP, make_nnx])
def test_a_function_or_a_class_of_the_user_makes_models(make):
    model = models.as_model(models.as_make_model(make)(Recipe()))
    shapes = jax.eval_shape(lambda key: model.predict(model.init(key, X), X), KEY)
    assert shapes.shape == (6, 2)


@pytest.mark.parametrize(("make", "count"), [(lambda: None, 0), (lambda a, b, c: None, 3)])
def test_a_function_of_other_arguments_is_refused(make, count):
    with pytest.raises(TypeError, match=f"`model` must be a function .*, got {count} required arg"):
        models.as_make_model(make)


def test_what_make_model_returns_becomes_a_model():
    model = models.Model(None, None, None)
    assert models.as_model(model) is model
    assert isinstance(models.as_model(mlp((4,), 2)(Recipe())), models.Model)
    with pytest.raises(TypeError, match=r"must return a Linen module or a .*Model, got ndarray\.$"):
        models.as_model(X)
    with pytest.raises(TypeError, match=r"got Linear; wrap the function that .* in `from_nnx`"):
        models.as_model(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
