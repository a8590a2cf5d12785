"""Functions of jaxreg are found wherever they stand, and so are random numbers not known."""

import doctest
import importlib
import inspect
import math
import pkgutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxreg
from jaxreg import augment, dropout, linen, noise, normalization, penalties, targets
from jaxreg import nnx as regularized
from jaxreg._scopes import address
from jaxreg.explain import _marks, explain
from tests.explain.models import KEY, X

ROOMS = (
    "augment", "dropout", "information", "noise", "normalization", "penalties", "reparam",
    "smoothness", "targets",
)  # fmt: skip
# They draw what another function uses: masks that a penalty takes, partners, cuts, starts of a
# power iteration, and data that is made once.
HELPERS = {
    "augment.partners.reverse", "augment.partners.share_per_batch",
    "augment.partners.share_per_example", "augment.partners.shuffle",
    "augment.series.even_cuts", "augment.series.random_cuts", "augment.tables.fit_mixture",
    "dropout.fold_in_axis", "reparam.spectral_norm_vector",
}  # fmt: skip
W = np.eye(8, dtype=np.float32)


def public_functions():
    """All public functions of the pure packages, by their addresses."""
    found = {}
    for room in ROOMS:
        top = importlib.import_module(f"jaxreg.{room}")
        walked = pkgutil.walk_packages(getattr(top, "__path__", []), f"{top.__name__}.")
        for package in [top, *(importlib.import_module(name) for _, name, _ in walked)]:
            for name in getattr(package, "__all__", []):
                value = getattr(package, name)
                if inspect.isfunction(value) and hasattr(package, "__all__"):
                    found[f"{package.__name__}.{name}".removeprefix("jaxreg.")] = value
    return found


def effects(model, params=W, *inputs, **options):
    """Regularizers of a model, without its parameters and without an optimizer."""
    found = explain(model, None, params, *inputs, **options)
    return [(e.place, e.regularizer, e.strength, e.unit) for e in found.effects]


def test_every_function_that_draws_is_marked():
    functions = public_functions()
    drawing = {a for a, f in functions.items() if "key" in inspect.signature(f).parameters}
    marked = {a for a, f in functions.items() if hasattr(f, "__wrapped__")}
    assert len(drawing) > 60
    assert drawing - marked - HELPERS == set()
    assert {"targets.smooth_labels", "penalties.l1", "normalization.layer_norm"} <= marked


def test_a_mark_leads_to_its_function():
    for at, function in public_functions().items():
        if hasattr(function, "__wrapped__"):
            found = jaxreg
            for name in address(function).split("."):
                found = getattr(found, name)
            assert found is function, at


def test_a_marked_function_looks_like_itself():
    given = inspect.signature(dropout.dropout)
    own = inspect.signature(dropout.dropout.__wrapped__)
    assert list(given.parameters) == list(own.parameters)
    assert given.parameters["broadcast_axes"].default == ()
    assert not dropout.dropout.__doc__.startswith("Returns a decorator")
    module = importlib.import_module("jaxreg.dropout.elementwise")
    examples = {test.name for test in doctest.DocTestFinder().find(module) if test.examples}
    assert "jaxreg.dropout.elementwise.dropout" in examples


class Place(nn.Module):
    """A module of the user that calls a function of jaxreg."""

    @nn.compact
    def __call__(self, x):
        return dropout.dropout(self.make_rng("dropout"), x, rate=0.4)


def in_scan(w):
    def body(carry, _):
        return dropout.dropout(KEY, carry, rate=0.4), None

    return jax.lax.scan(body, w, None, length=2)[0]


def in_custom_gradient(w):
    @jax.custom_vjp
    def drop(w):
        return dropout.dropout(KEY, w, rate=0.4)

    drop.defvjp(lambda w: (drop(w), None), lambda _, g: (g,))
    return drop(w)


DROP = partial(dropout.dropout, KEY, rate=0.4)
WAYS = {
    "plain": DROP,
    "number of NumPy": lambda w: dropout.dropout(KEY, w, rate=np.float32(0.4)),
    "bits": partial(DROP, bits=jax.random.bits),
    "jit": jax.jit(DROP),
    "scan": in_scan,
    "vmap": lambda w: jax.vmap(DROP)(w[:, :5]),
    "remat": jax.checkpoint(DROP),
    "cond": lambda w: jax.lax.cond(w[0, 0] > 0, DROP, lambda w: w, w),
    "while": lambda w: jax.lax.fori_loop(0, 2, lambda _, w: DROP(w), w),
    "custom_vjp": in_custom_gradient,
    "gradient": jax.grad(lambda w: jnp.sum(DROP(w))),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_function_is_found_once(way):
    found = effects(WAYS[way])
    assert [each[:2] for each in found] == [("model", "dropout.dropout")]
    assert found[0][2] == pytest.approx(0.4)
    assert found[0][3] == "rate"


def test_the_place_is_the_module_around_the_call():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(8)(Place(name="inner")(x))

    class Nnx(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(8, 8, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return dropout.dropout(KEY, self.first(x), rate=0.4)

    variables = {"params": {"Dense_0": {"kernel": W, "bias": W[0]}}}
    want = [("dropout.dropout", 0.4, "rate")]
    assert effects(Linen(), variables, X) == [("inner", *each) for each in want]
    assert effects(Nnx(), None, X) == [("model", *each) for each in want]
    outer = nnx.Sequential(Nnx(), nnx.relu)
    assert effects(outer, None, X) == [("layers/0", *each) for each in want]


def test_layers_get_the_streams_that_they_ask_for():
    class Noisy(nnx.Module):
        def __call__(self, x, *, rngs):
            return dropout.dropout(rngs.dropout(), x, rate=0.4)

    model = nnx.Sequential(Noisy())
    call = lambda model, x: model(x, rngs=nnx.Rngs(0))  # noqa: E731
    assert effects(model, None, X, call=call) == [("layers/0", "dropout.dropout", 0.4, "rate")]


def test_what_a_module_or_a_function_calls_is_part_of_it():
    layers = [
        linen.Dropout(0.25, deterministic=False),
        linen.LayerNorm(use_scale=False, use_bias=False),
        linen.SpatialDropout(0.5, deterministic=False),
    ]
    assert effects(nn.Sequential(layers), {}, X[:, None]) == [
        ("layers_0", "Dropout", 0.25, "rate"),
        ("layers_1", "LayerNorm", pytest.approx(math.nan, nan_ok=True), ""),
        ("layers_2", "SpatialDropout", 0.5, "rate"),
    ]
    assert effects(lambda w: dropout.spatial_dropout(KEY, w[:, None], rate=0.5)) == [
        ("model", "dropout.spatial_dropout", 0.5, "rate")
    ]


def test_what_the_users_function_calls_is_listed_beside_the_caller():
    block = lambda w: dropout.dropout(KEY, w, rate=0.4)  # noqa: E731
    assert effects(lambda w: dropout.stochastic_depth(KEY, block, w, rate=0.1)) == [
        ("model", "dropout.stochastic_depth", 0.1, "rate"),
        ("model", "dropout.dropout", 0.4, "rate"),
    ]
    either = augment.one_of(partial(augment.random_invert, probability=0.2), lambda key, x: x)
    listed = effects(lambda w: either(KEY, w[None, :, :, None]))
    assert [each[1:3] for each in listed] == [
        ("augment.one_of", pytest.approx(math.nan, nan_ok=True)), ("augment.random_invert", 0.2)
    ]  # fmt: skip


def test_a_strength_in_the_program_is_not_known():
    found = effects(lambda w: dropout.dropout(KEY, w, rate=w[0, 0]))
    assert [each[1] for each in found] == ["dropout.dropout"]
    assert math.isnan(found[0][2])
    assert found[0][3] == "rate, traced"


def test_functions_without_a_number_and_with_a_default():
    both = lambda w: penalties.l1(normalization.layer_norm(w))  # noqa: E731
    assert [each[1:2] + each[3:] for each in effects(both)] == [
        ("normalization.layer_norm", ""), ("penalties.l1", "")
    ]  # fmt: skip
    stats = normalization.init_stats((8,))
    assert effects(lambda w: normalization.batch_norm(w, stats)[0]) == [
        ("model", "normalization.batch_norm", 0.99, "momentum")
    ]


UNKNOWN = "unknown random numbers"


@pytest.mark.parametrize(
    "draw",
    [
        lambda w: w * jax.random.bernoulli(KEY, 0.5, w.shape),
        lambda w: w + jax.random.normal(jax.random.PRNGKey(0), w.shape),
        lambda w: w * jax.random.gamma(KEY, 2.0, w.shape),
        lambda w: jax.lax.map(lambda row: row + jax.random.uniform(KEY), w),
    ],
)
def test_random_numbers_that_nothing_known_draws(draw):
    found = effects(draw)
    assert [each[:2] for each in found] == [("model", UNKNOWN)]


def test_keys_alone_are_no_random_numbers():
    def model(w):
        key = jax.random.fold_in(jax.random.split(KEY)[0], 3)
        return noise.gaussian_noise(key, w, stddev=0.3)

    assert effects(model) == [("model", "noise.gaussian_noise", 0.3, "stddev")]


def test_random_numbers_of_a_users_module():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x + jax.random.normal(self.make_rng("noise"), x.shape)

    class Own(linen.Stochastic):
        def transform(self, key, x):
            return x + jax.random.normal(key, x.shape)

    model = nn.Sequential([Noisy(), Own(deterministic=False)])
    found = [each[:2] for each in effects(model, {}, X)]
    assert found == [("layers_1", "Own"), ("layers_0", UNKNOWN)]


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_dropout_of_attention(kind):
    sizes = {"num_heads": 2, "qkv_features": 8}
    x = X[None]
    for rate in (0.0, 0.3):
        if kind == "linen":
            model = nn.MultiHeadDotProductAttention(**sizes, dropout_rate=rate)
            shapes = jax.eval_shape(partial(model.init, deterministic=True), KEY, x)
            params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
        else:
            options = {"in_features": 8, "dropout_rate": rate, "decode": False, "rngs": nnx.Rngs(0)}
            model = nnx.MultiHeadAttention(**sizes, deterministic=False, **options)
            params = None
        want = [("model", "attention dropout", 0.3, "dropout_rate")] if rate else []
        assert effects(model, params, x) == want


def test_cells_and_modules_of_linen_in_nnx():
    cell = nnx.SimpleCell(8, 8, rngs=nnx.Rngs(0))
    locked = regularized.LockedDropoutCell(cell, 0.2, 0.3, rngs=nnx.Rngs(0))
    assert effects(nnx.RNN(locked), None, X[None]) == [
        ("cell", "LockedDropoutCell", 0.2, "input_rate"),
        ("cell", "LockedDropoutCell", 0.3, "state_rate"),
    ]
    inner = nnx.bridge.ToNNX(nn.Dropout(0.3, deterministic=False), rngs=nnx.Rngs(0))
    assert effects(inner, None, X) == [("model", "Dropout", 0.3, "rate")]


def test_modules_in_evaluation_are_not_listed_as_if_they_acted():
    model = nnx.Sequential(regularized.Dropout(0.5, rngs=nnx.Rngs(0)), nnx.relu)
    assert effects(model, None, X) == [("layers/0", "Dropout", 0.5, "rate")]
    model.eval()
    found = explain(model, None, None, X)
    assert found.effects == ()
    assert [note.where for note in found.notes if note.what == "modules that are off"] == [
        ("layers/0",)
    ]


def test_functions_in_a_loss():
    def loss(logits, labels):
        mixed = augment.mixup(logits, labels, logits[::-1], labels[::-1], share=0.7, num_classes=8)
        return jnp.mean(mixed.x) + jnp.mean(targets.flood(jnp.sum(logits), level=0.1))

    labels = np.arange(8)
    found = explain(lambda w: w, None, W, loss=loss, targets=labels)
    assert [(e.place, e.regularizer, e.strength) for e in found.effects] == [
        ("loss", "augment.mixup", 0.7), ("loss", "targets.flood", 0.1)
    ]  # fmt: skip


def test_scopes_are_read_from_inside_to_outside():
    read = _marks.read
    scope = _marks.module_scope("a/b", _marks.MODULE)
    text = f"jvp({scope})/jaxreg.dropout.drop_path[rate=0.25]/jaxreg.dropout.dropout[rate=traced]"
    scopes = read(text, _marks.OUTSIDE)
    assert scopes.place == "a/b"
    assert [f.label for f in _marks.to_list(scopes)] == ["dropout.drop_path in a/b"]
    inner = read(_marks.module_scope("a/b/c", _marks.KNOWN), scopes)
    assert (inner.place, inner.functions) == ("a/b/c", ())
    assert _marks.to_list(read("jaxreg.dropout.dropout[]", inner)) == ()
