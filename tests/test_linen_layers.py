"""Linen layers whose weights, rate or depth are random, and wrappers around other layers."""

from collections.abc import Callable
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import dropout, linen, masks, noise
from jaxreg._trees import map_kernels, map_with_keys

pytestmark = pytest.mark.slow

KEY = jax.random.key(5)
KEYS = {"params": jax.random.key(6), "dropout": KEY}
X = jnp.asarray(np.random.default_rng(0).normal(1, 1, (4, 6, 6, 8)), jnp.float32)
FLAT = X[:, 0, 0]
SERIES = X[:, 0]
LAYERED = [
    linen.DropConnect(nn.Dense(3), 0.3),
    linen.Perturb(nn.Dense(3), 0.3),
    linen.DropConnectDense(3, rate=0.3),
    linen.DropConnectConv(3, (2, 2), rate=0.3),
    linen.VariationalDense(3, log_variance_init=nn.initializers.constant(-2.0)),
    linen.StochasticDepth(nn.Dense(8), 0.5),
    linen.ConcreteDropout(0.3),
]
every_layered = pytest.mark.parametrize("module", LAYERED, ids=lambda m: type(m).__name__)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def loss_gradient(module, variables, x=X, **kwargs):
    fixed = {name: tree for name, tree in variables.items() if name != "params"}

    def loss(params):
        y, _ = module.apply({"params": params, **fixed}, x, mutable=["batch_stats"], **kwargs)
        return jnp.sum(jnp.sin(y))

    return jax.jit(jax.grad(loss))(variables["params"])


@every_layered
def test_layers_draw_in_training_and_learn(module):
    variables = module.init(KEYS, X, deterministic=False)
    evaluated = module.apply(variables, X, deterministic=True)
    train = partial(module.apply, variables, X, deterministic=False)
    assert_equal(train(rng=KEY), train(rng=KEY))
    outputs = [np.asarray(train(rng=key)) for key in jax.random.split(KEY, 8)]
    assert len({y.tobytes() for y in outputs}) > 1
    assert any(np.any(y != evaluated) for y in outputs)
    train = partial(module.clone(bits=jax.random.bits).apply, variables, X, deterministic=False)
    others = [np.asarray(train(rng=key)) for key in jax.random.split(KEY, 8)]
    assert any(np.any(a != b) for a, b in zip(outputs, others, strict=True))
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        train()
    key = jax.random.key(1)  # Of stochastic depth it adds the layer.
    gradient = loss_gradient(module, variables, deterministic=False, rng=key)
    assert shapes(gradient) == shapes(variables["params"])
    assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in jax.tree.leaves(gradient))


@every_layered
def test_initialization_changes_no_parameters(module):
    """They are the same in both modes, and need no key of dropout."""
    training = module.init(KEYS["params"], X, deterministic=False)
    assert_equal(training, module.init(KEYS["params"], X, deterministic=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linen.DropConnect(nn.Dense(3), 1.5), r"`rate`.*got 1.5"),
        (lambda: linen.Perturb(nn.Dense(3), -1), r"`stddev`.*got -1"),
        (lambda: linen.Perturb(nn.Dense(3), np.ones(3)), r"`stddev`.*shape \(3,\)"),
        (lambda: linen.DropConnectDense(3, rate=1.5), r"`rate`.*got 1.5"),
        (lambda: linen.DropConnectConv(3, (2, 2), rate=1.5), r"`rate`.*got 1.5"),
        (lambda: linen.StochasticDepth(nn.Dense(3), -0.5), r"`rate`.*got -0.5"),
        (lambda: linen.ConcreteDropout(0.0), r"`init_rate`.*\(0, 1\), got 0"),
        (lambda: linen.ConcreteDropout(1), r"`init_rate`.*\(0, 1\), got 1"),
        (lambda: linen.ZoneoutCell(nn.LSTMCell(3), 1.5), r"`rate`.*got 1.5"),
        (lambda: linen.LockedDropoutCell(nn.LSTMCell(3), 1.5, 0.5), r"`input_rate`.*got 1.5"),
        (lambda: linen.LockedDropoutCell(nn.LSTMCell(3), 0.5, 1.5), r"`state_rate`.*got 1.5"),
    ],
)
def test_a_layer_names_a_wrong_field(make, message):
    with pytest.raises(ValueError, match=message):
        make()


FIELDS = [
    (linen.DropConnectDense, nn.Dense, {"features": 3, "bias_init": nn.initializers.ones}),
    (
        linen.DropConnectDense,
        nn.Dense,
        {
            "features": 3,
            "use_bias": False,
            "dtype": jnp.bfloat16,
            "kernel_init": nn.with_partitioning(nn.initializers.normal(), (None, "model")),
        },
    ),
    (
        linen.DropConnectConv,
        nn.Conv,
        {"features": 3, "kernel_size": (2, 2), "bias_init": nn.initializers.ones},
    ),
    (
        linen.DropConnectConv,
        nn.Conv,
        {
            "features": 4,
            "kernel_size": (3, 3),
            "strides": 2,
            "padding": "CIRCULAR",
            "feature_group_count": 2,
            "use_bias": False,
            "param_dtype": jnp.bfloat16,
        },
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "fields"), FIELDS)
def test_drop_connect_layers_are_those_of_flax(ours, theirs, fields):
    """Variables are exchanged; a rate of zero is equal to the bit, another one drops the kernel."""
    plain, off = theirs(**fields), ours(**fields, rate=0.0, deterministic=False)
    module = ours(**fields, rate=0.3)
    variables = plain.init(KEYS["params"], X)
    assert_equal(module.init(KEYS["params"], X, deterministic=True), variables)
    expected = plain.apply(variables, X)
    assert_equal(off.apply(variables, X), expected)
    assert_equal(module.apply(variables, X, deterministic=True), expected)
    # A rate of zero that is traced goes the way of training.
    traced = jax.jit(lambda rate: ours(**fields, rate=rate).apply(variables, X, False, KEY))
    assert_equal(traced(0.0), jax.jit(plain.apply)(variables, X))

    loaded = flax.serialization.from_bytes(
        module.init(jax.random.key(9), X, deterministic=True),
        flax.serialization.to_bytes(variables),
    )
    drop = partial(dropout.drop_connect, KEY, rate=0.3)
    dropped = jax.tree.map(drop, variables["params"]["kernel"])
    changed = {"params": {**variables["params"], "kernel": dropped}}
    assert_equal(module.apply(loaded, X, deterministic=False, rng=KEY), plain.apply(changed, X))


LAYERS = [
    (nn.Dense(3, bias_init=nn.initializers.ones), (X,)),
    (nn.Conv(3, (2, 2)), (X,)),
    (nn.Sequential([nn.Dense(3), nn.LayerNorm(), nn.Dense(2)]), (X,)),
    (nn.LSTMCell(3), ((jnp.ones((4, 3)), jnp.ones((4, 3))), FLAT)),
    (nn.RNN(nn.LSTMCell(3)), (SERIES,)),
    (nn.MultiHeadDotProductAttention(2), (SERIES, SERIES)),
]


@pytest.mark.parametrize(("layer", "inputs"), LAYERS, ids=lambda v: type(v).__name__)
def test_wrappers_change_the_weights_of_any_layer(layer, inputs):
    variables = layer.init(KEYS["params"], *inputs)
    dropping, noisy = linen.DropConnect(layer, 0.4), linen.Perturb(layer, 0.4)
    kernels = jax.tree.leaves(masks.kernels(variables))
    for wrapper in (dropping, noisy):
        own = wrapper.init(KEYS["params"], *inputs, deterministic=True)
        assert shapes(own) == shapes(variables)
        evaluated = wrapper.apply(variables, *inputs, deterministic=True)
        assert_equal(evaluated, layer.apply(variables, *inputs))
    off = [linen.DropConnect(layer, 0.0), linen.Perturb(layer, 0.0)]
    for wrapper in off:
        same = wrapper.apply(variables, *inputs, deterministic=False)
        assert_equal(same, layer.apply(variables, *inputs))

    dropped = map_kernels(partial(dropout.drop_connect, rate=0.4), KEY, variables)
    leaves = zip(jax.tree.leaves(variables), jax.tree.leaves(dropped), kernels, strict=True)
    for before, after, selected in leaves:
        zeros = np.mean(np.asarray(after) == 0)
        assert (0 < zeros < 1) if selected else np.array_equal(before, after)
    y = dropping.apply(variables, *inputs, deterministic=False, rng=KEY)
    assert_equal(y, layer.apply(dropped, *inputs))
    y = noisy.apply(variables, *inputs, deterministic=False, rng=KEY)
    assert_equal(y, layer.apply(noise.perturb(KEY, variables, stddev=0.4), *inputs))


def test_every_leaf_has_its_own_key():
    ones = [jnp.ones(64), {"a": jnp.ones(64)}, jnp.ones(64)]
    leaves = jax.tree.leaves(map_with_keys(partial(dropout.dropout, rate=0.5), KEY, ones))
    assert len({np.asarray(leaf).tobytes() for leaf in leaves}) == 3


def test_wrapped_layers_keep_their_place_and_other_variables():
    """Names of parameters are those without the wrapper; statistics and keys inside still work."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False, momentum=0.5)(nn.Dense(8)(x))
            return linen.Dropout(0.5, deterministic=False)(x)

    class Net(nn.Module):
        wrap: Callable[[nn.Module], nn.Module]

        def setup(self):
            self.block = self.wrap(Block())
            self.head = self.wrap(nn.Dense(2))

        def __call__(self, x):
            return self.head(self.block(x))

    def wrap(layer):
        outer = linen.Perturb(linen.DropConnect(layer, 0.5, deterministic=False), 0.1)
        return outer.clone(deterministic=False)

    variables = Net(lambda layer: layer).init(KEYS, FLAT)
    net = Net(wrap)
    assert shapes(net.init(KEYS, FLAT)) == shapes(variables)
    y, updated = net.apply(variables, FLAT, mutable=["batch_stats"], rngs={"dropout": KEY})
    assert y.shape == (4, 2)
    before, after = variables["batch_stats"], updated["batch_stats"]
    assert shapes(before) == shapes(after)
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))


def test_variational_dense_equals_its_functions():
    module = linen.VariationalDense(3, log_variance_init=nn.initializers.normal(3), threshold=1.0)
    variables = module.init(KEYS["params"], X, deterministic=True)
    params = variables["params"]
    arguments = (X, params["kernel"], params["log_variance"])
    bias = {"bias": params["bias"]}
    y = module.apply(variables, X, deterministic=False, rng=KEY)
    assert_equal(y, dropout.variational_dense(KEY, *arguments, **bias))
    evaluated = module.apply(variables, X, deterministic=True)
    assert_equal(evaluated, dropout.variational_dense_inference(*arguments, **bias, threshold=1.0))
    assert np.any(evaluated != dropout.variational_dense_inference(*arguments, **bias))


def test_variational_dense_without_a_bias_and_in_bfloat16():
    module = linen.VariationalDense(3, use_bias=False, param_dtype=jnp.bfloat16)
    variables = module.init(KEYS, X, deterministic=False)
    dtypes = {name: w.dtype for name, w in variables["params"].items()}
    assert dtypes == {"kernel": jnp.bfloat16, "log_variance": jnp.bfloat16}
    np.testing.assert_array_equal(variables["params"]["log_variance"], -10)
    y = module.apply(variables, X.astype(jnp.bfloat16), deterministic=False, rng=KEY)
    assert (y.shape, y.dtype) == ((4, 6, 6, 3), jnp.bfloat16)
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        module.init(KEYS, jnp.ones(3, jnp.int32), deterministic=True)


def test_concrete_dropout_learns_its_rate():
    module = linen.ConcreteDropout(0.2, temperature=0.5, deterministic=False)
    variables = module.init(KEYS, X)
    logit = variables["params"]["logit"]
    np.testing.assert_allclose(1 / (1 + np.exp(-np.float64(logit))), 0.2, rtol=1e-6)
    y = module.apply(variables, X, rng=KEY)
    assert_equal(y, dropout.concrete_dropout(KEY, X, logit=logit, temperature=0.5))
    assert_equal(module.clone(deterministic=True).apply(variables, X), X)
    bits = module.clone(bits=jax.random.bits).apply(variables, X, rng=KEY)
    assert np.any(bits != y)


class Block(nn.Module):
    """A residual branch with statistics, keys of its own and intermediates."""

    @nn.compact
    def __call__(self, x, gain=1.0):
        self.sow("intermediates", "inputs", x)
        y = nn.BatchNorm(use_running_average=False, momentum=0.5)(nn.Dense(8)(x))
        return gain * linen.Dropout(0.5, deterministic=False, rng_collection="inner")(y)


@pytest.mark.parametrize("mutable", [["batch_stats"], ["batch_stats", "intermediates"]])
def test_stochastic_depth_with_statistics_inside(mutable):
    module = linen.StochasticDepth(Block(), 0.5, deterministic=False)
    variables = module.init({**KEYS, "inner": KEY}, FLAT)
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    assert shapes(variables["params"]) == shapes(Block().init(KEYS, FLAT)["params"])

    @jax.jit
    def run(key):
        rngs = {"dropout": key, "inner": KEY}
        return module.apply(variables, FLAT, 2.0, mutable=mutable, rngs=rngs)

    added = 0
    for key in jax.random.split(KEY, 12):
        y, updated = run(key)
        difference = np.asarray(y - FLAT)
        assert set(updated) == {"batch_stats"}
        stats = updated["batch_stats"]["BatchNorm_0"]
        if np.any(difference != 0):
            added += 1
            # Batch norm of 4 examples is at most the root of 3; 2 dropouts and the gain double it.
            assert np.mean(difference == 0) < 0.9
            assert np.max(abs(difference)) < 8 * np.sqrt(3) + 1e-3
            assert np.max(abs(difference)) > 4 * np.sqrt(3) + 1e-3
            assert np.any(stats["mean"] != 0)
        else:
            assert_equal(updated["batch_stats"], variables["batch_stats"])
    assert 0 < added < 12


def test_stochastic_depth_equals_its_function():
    layer = nn.Dense(8)
    variables = layer.init(KEY, FLAT)
    block = partial(layer.apply, variables)
    for key in jax.random.split(KEY, 6):
        module = linen.StochasticDepth(layer, 0.5)
        y = module.apply(variables, FLAT, deterministic=False, rng=key)
        assert_equal(y, dropout.stochastic_depth(key, block, FLAT, rate=0.5))
    evaluated = module.apply(variables, FLAT, deterministic=True)
    np.testing.assert_array_equal(evaluated, FLAT + block(FLAT))
    narrow = linen.StochasticDepth(nn.Dense(8, dtype=jnp.bfloat16), 0.5)
    with pytest.raises(TypeError, match="`block` must return the dtype of `x`"):
        narrow.apply(variables, FLAT, deterministic=True)
    off = linen.StochasticDepth(layer, 0.0).apply(variables, FLAT, deterministic=False)
    np.testing.assert_array_equal(off, evaluated)


def test_stochastic_depth_skips_the_computation():
    """The layer stands in a branch of a conditional, and nowhere else."""
    layer = nn.Dense(8)
    variables = layer.init(KEY, FLAT)
    module = linen.StochasticDepth(layer, 0.5, deterministic=False)
    program = jax.make_jaxpr(lambda key: module.apply(variables, FLAT, rng=key))(KEY)
    names = [equation.primitive.name for equation in program.eqns]
    assert "cond" in names
    assert "dot_general" not in names
    assert "dot_general" in str(program)
