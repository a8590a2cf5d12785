"""What people have: models with and without a batch, states, tuples; and clear errors otherwise."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

from jaxreg import dropout, linen
from jaxreg import nnx as regularized
from jaxreg.explain import explain
from tests.explain.models import KEY, Clean, X, variables

# An optimizer is tried one operation at a time.
pytestmark = pytest.mark.programs(40)

SGD = optax.sgd(0.1)
W = np.eye(8, dtype=np.float32)
UNCALLED = "the model was not called"
UNTRIED = "the optimizer was not given"


def seen(*arguments, **options):
    """Places and regularizers of modules and functions, and the names of the notes."""
    found = explain(*arguments, **options)
    listed = [(e.place, e.regularizer) for e in found.effects if e.regularizer != "none"]
    return listed, [note.what for note in found.notes]


def network():
    drop = regularized.Dropout(0.5, rngs=nnx.Rngs(0))
    linear = nnx.Linear(8, 8, kernel_init=lambda *_: W, rngs=nnx.Rngs(0))
    return nnx.Sequential(linear, drop, nnx.LayerNorm(8, rngs=nnx.Rngs(0)))


MODULES = [("layers/1", "Dropout"), ("layers/2", "LayerNorm")]
LAYERS = [("norm", "BatchNorm"), ("late", "Dropout")]


class State(TrainState):
    batch_stats: dict


def state(apply_fn, module):
    own = variables(module)
    return State.create(
        apply_fn=apply_fn, params=own["params"], tx=SGD, batch_stats=own["batch_stats"]
    )


@pytest.mark.parametrize("form", ["arguments", "tuple", "pair and batch", "NNX's pair"])
def test_an_nnx_model_and_its_optimizer(form):
    model = network()
    arguments = {
        "arguments": (model, SGD, None, X),
        "tuple": ((model, SGD, None, X),),
        "pair and batch": ((model, SGD), X),
        "NNX's pair": (model, nnx.Optimizer(model, SGD, wrt=nnx.Param), None, X),
    }[form]
    assert seen(*arguments) == (MODULES, [])


def test_an_nnx_model_without_a_batch_or_an_optimizer():
    assert seen(network()) == (MODULES, [UNCALLED, UNTRIED])
    assert seen(network(), SGD) == (MODULES, [UNCALLED])
    assert seen(network(), None, None, X) == (MODULES, [UNTRIED])


@pytest.mark.filterwarnings("ignore:.*ModelAndOptimizer:DeprecationWarning")
def test_optimizers_of_nnx_alone():
    held = nnx.ModelAndOptimizer(network(), SGD)
    assert seen(held, X) == (MODULES, [])
    alone = nnx.Optimizer(network(), optax.adamw(0.1), wrt=nnx.Param)
    assert seen(alone, {"kernel": W}) == seen(None, optax.adamw(0.1), {"kernel": W})


@pytest.mark.parametrize("kind", ["bound", "compiled", "function"])
def test_a_train_state_holds_all_but_the_batch(kind):
    module = Clean()

    def forward(variables, x):
        return module.apply(
            variables, x, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"]
        )[0]

    apply_fn = {"bound": module.apply, "compiled": jax.jit(module.apply), "function": forward}[kind]
    own = state(apply_fn, module)
    assert seen(own, X) == (LAYERS, [])
    assert seen(own, optax.sgd(0.2), X) == (LAYERS, [])
    assert seen(own) == ([], [UNCALLED])


def test_a_linen_module_needs_variables_and_a_batch():
    own = variables(Clean())
    assert seen(Clean(), SGD, own) == ([], [UNCALLED])
    assert seen(Clean(), SGD, own, X) == (LAYERS, [])
    call = lambda v, x: Clean().apply(v, x, train=False)  # noqa: E731
    assert seen(Clean(), SGD, own, X, call=call) == (LAYERS[:1], ["modules that are off"])
    with pytest.raises(ValueError, match="`params` must hold the variables of Clean, got None"):
        explain(Clean(), SGD)


def test_arguments_for_training_are_given_once():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x, train, deterministic):
            assert train is True
            return linen.Dropout(0.5, deterministic=deterministic, name="drop")(x)

    assert seen(Both(), None, {}, X)[0] == [("drop", "Dropout")]
    assert seen(Both(), None, {}, X, True)[0] == [("drop", "Dropout")]


def test_functions_of_parameters():
    drop = lambda w, *x: dropout.dropout(KEY, w, rate=0.4)  # noqa: E731
    listed = [("model", "dropout.dropout")]
    assert seen(drop, SGD, {"w": W}["w"], X) == (listed, [])
    assert seen(drop, SGD, W) == (listed, [])
    assert seen(lambda w, x: w, SGD, W) == ([], [UNCALLED])
    with pytest.raises(ValueError, match="`params` must hold the parameters of relu, got None"):
        explain(jax.nn.relu, SGD)


def test_a_compiled_function_is_traced_again():
    drop = nn.Dropout(0.5, deterministic=False)
    compiled = jax.jit(lambda w, x: drop.apply({}, x @ w, rngs={"dropout": KEY}))
    jax.eval_shape(compiled, W, X)
    assert seen(compiled, SGD, W, X) == ([("model", "Dropout")], [])
    call = jax.jit(lambda v, x: compiled(v["params"]["w"], x))
    assert seen(drop, SGD, {"params": {"w": W}}, X, call=call)[0] == [
        ("model", "unknown random numbers")
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, SGD), TypeError, "`model` must be a module of Flax, .* got int"),
        ((SGD, {"w": W}), TypeError, "`model` must be a model or None, got Gradient"),
        ((None, 0.1, {"w": W}), TypeError, "`optimizer` must be an Optax transf.*, got float"),
        ((None, SGD), ValueError, "`params` must hold the parameters of the optimizer, got None"),
        ((None, SGD, {}), ValueError, "`params` must hold floating-point arrays, got none"),
        (((), None), ValueError, "`params` must hold the parameters"),
    ],
)
def test_other_things_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        explain(*arguments)


def test_a_model_that_fails_says_what_to_pass():
    own = variables(Clean())
    wrong = np.ones((2, 3), np.float32)
    for call in (None, lambda v, x: 1 / 0):
        with pytest.raises(ValueError, match=r"`model` must run on .* shape \(2, 3\): .*`call`"):
            explain(Clean(), SGD, own, wrong, call=call)
    with pytest.raises(ValueError, match="`params` must be None for an NNX module"):
        explain(network(), SGD, X)
    two = partial(lambda w, x, y: w, y=3)
    with pytest.raises(ValueError, match=r"TypeError came of inputs of shape \(\), \(\): "):
        explain(two, SGD, W, 1, 2)
