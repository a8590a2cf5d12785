"""Linen modules of dropout and noise: each is its function, and works with Flax's own tools."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import dropout, linen, noise

pytestmark = pytest.mark.slow

KEY = jax.random.key(5)
KEYS = {"params": jax.random.key(6), "dropout": KEY}
X = jnp.asarray(np.random.default_rng(0).normal(1, 1, (4, 6, 6, 8)), jnp.float32)
SERIES = X[:, 0]


@dataclasses.dataclass(frozen=True)
class Form:
    """A module, the function it is a form of, and the one of evaluation."""

    module: Callable[..., Any]
    function: Callable[..., Any]
    strengths: dict[str, Any] = dataclasses.field(default_factory=lambda: {"rate": 0.3})
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: Any = dataclasses.field(default_factory=lambda: X)
    evaluation: Callable[..., Any] = lambda x: x
    renamed: dict[str, str] = dataclasses.field(default_factory=dict)

    def make(self, **fields):
        return self.module(**{**self.strengths, **self.options, **fields})

    def expected(self, key=KEY, **changes):
        arguments = {**self.strengths, **self.options, **changes}
        named = {self.renamed.get(name, name): value for name, value in arguments.items()}
        data = self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)
        return self.function(key, *data, **named)


AXES = {"broadcast_dims": "broadcast_axes"}
FORMS = [
    Form(linen.Dropout, dropout.dropout, options={"broadcast_dims": (1,)}, renamed=AXES),
    Form(
        linen.ClassicalDropout,
        dropout.classical_dropout,
        evaluation=partial(dropout.classical_scale, rate=0.3),
    ),
    Form(linen.SpatialDropout, dropout.spatial_dropout),
    Form(linen.GaussianDropout, dropout.gaussian_dropout),
    Form(linen.AlphaDropout, dropout.alpha_dropout),
    Form(linen.FeatureAlphaDropout, dropout.feature_alpha_dropout),
    Form(linen.DropPath, dropout.drop_path),
    Form(
        linen.DropBlock,
        dropout.drop_block,
        options={"block_size": 2, "axis": (1, 2), "broadcast_dims": -1},
        renamed=AXES,
    ),
    Form(linen.LockedDropout, dropout.locked_dropout, options={"time_axis": 2}),
    Form(linen.EmbeddingDropout, dropout.embedding_dropout),
    Form(
        linen.PatchDropout,
        dropout.patch_dropout,
        options={"prefix": 2},
        inputs=SERIES,
        evaluation=dropout.every_patch,
    ),
    Form(
        linen.Zoneout,
        dropout.zoneout,
        inputs=(X, X + 1),
        evaluation=lambda pair: dropout.zoneout_mean(*pair, rate=0.3),
    ),
    Form(linen.GaussianNoise, noise.gaussian_noise, {"stddev": 0.3}),
    Form(linen.UniformNoise, noise.uniform_noise, {"limit": 0.3}),
    Form(linen.SaltAndPepper, noise.salt_and_pepper, options={"low": -5.0, "high": 7.0}),
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: f.module.__name__)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


@every_form
def test_a_form_equals_its_function(form):
    expected = form.expected()
    module = form.make(deterministic=False)
    assert_equal(module.apply({}, form.inputs, rng=KEY), expected)
    drawn = module.apply({}, form.inputs, rngs={"dropout": KEY})
    assert jax.tree.map(jnp.shape, drawn) == shapes(expected)
    changed = expected[0] if isinstance(expected, tuple) else expected
    before = form.inputs[0] if isinstance(form.inputs, tuple) else form.inputs
    assert changed.shape != before.shape or np.any(changed != before)
    assert not module.init(KEYS, form.inputs)


@every_form
def test_a_form_takes_other_bits(form):
    module = form.make(deterministic=False, bits=jax.random.bits)
    expected = form.expected(bits=jax.random.bits)
    assert_equal(module.apply({}, form.inputs, rng=KEY), expected)
    assert np.any(jax.tree.leaves(expected)[0] != jax.tree.leaves(form.expected())[0])


@every_form
def test_evaluation_needs_no_key(form):
    expected = form.evaluation(form.inputs)
    assert_equal(form.make().apply({}, form.inputs, deterministic=True), expected)
    assert_equal(form.make(deterministic=True).apply({}, form.inputs), expected)


@every_form
def test_a_form_asks_for_the_mode_and_the_key(form):
    with pytest.raises(ValueError, match='"deterministic" must be passed to the constructor or'):
        form.make().apply({}, form.inputs, rngs={"dropout": KEY})
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "noise"'):
        form.make(rng_collection="noise", deterministic=False).apply({}, form.inputs)


@every_form
def test_a_strength_of_zero_needs_no_key(form):
    name = next(iter(form.strengths))
    y = form.make(**{name: 0.0}).apply({}, form.inputs, deterministic=False)
    assert_equal(y, form.expected(**{name: 0.0}))


@every_form
def test_a_wrong_strength_raises_in_the_constructor(form):
    name = next(iter(form.strengths))
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, got -0.5"):
        form.make(**{name: -0.5})
    if name == "rate":
        with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got 1.5"):
            form.make(rate=1.5)


@pytest.mark.parametrize(
    "form",
    [f for f in FORMS if f.module is not linen.PatchDropout],
    ids=lambda f: f.module.__name__,
)
def test_a_traced_strength_is_a_field(form):
    name = next(iter(form.strengths))

    @jax.jit
    def run(strength):
        return form.make(**{name: strength}, deterministic=False).apply({}, form.inputs, rng=KEY)

    assert_equal(run(0.0), form.expected(**{name: 0.0}))
    np.testing.assert_allclose(run(0.3), form.expected(), rtol=1e-6, atol=1e-6)


@every_form
def test_axis_name_gives_every_device_its_own_key(form):
    """With ``vmap`` in place of devices: a named axis is a named axis."""
    module = form.make(deterministic=False, axis_name="d")

    def run(key):
        return module.apply({}, form.inputs, rngs={"dropout": key})

    outputs = jax.vmap(run, in_axes=None, axis_size=2, axis_name="d")(KEY)
    assert any(np.any(leaf[0] != leaf[1]) for leaf in jax.tree.leaves(outputs))


@pytest.mark.parametrize("lift", ["scan", "vmap"])
@pytest.mark.parametrize(("split", "distinct"), [(True, 3), (False, 1)])
def test_lifts_of_drop_path_split_the_keys_if_told_to(lift, split, distinct):
    x = jnp.ones((3, 64, 2))
    if lift == "vmap":
        module = nn.vmap(linen.DropPath, split_rngs={"dropout": split})(0.5, deterministic=False)
        masks = module.apply({}, x, rngs={"dropout": KEY})
    else:

        class Layer(nn.Module):
            @nn.compact
            def __call__(self, carry, x):
                return carry, linen.DropPath(0.5, deterministic=False)(x)

        module = nn.scan(Layer, length=3, split_rngs={"dropout": split})()
        _, masks = module.apply({}, None, x, rngs={"dropout": KEY})
    assert len({np.asarray(mask).tobytes() for mask in masks}) == distinct


@every_form
def test_two_layers_have_different_masks(form):
    class Twice(nn.Module):
        def setup(self):
            self.layers = [form.make(deterministic=False) for _ in range(2)]

        def __call__(self, x):
            first, second = self.layers
            return first(x), second(x), first(x)

    outputs = Twice().apply({}, form.inputs, rngs={"dropout": KEY})
    first, second, again = ([np.asarray(a) for a in jax.tree.leaves(y)] for y in outputs)
    for other in (second, again):
        assert any(np.any(a != b) for a, b in zip(first, other, strict=True))
