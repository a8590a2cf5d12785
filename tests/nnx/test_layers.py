"""NNX layers of Flax that drop elements of their kernels."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx

from jaxreg import nnx
from tests.helpers import few
from tests.trees import assert_equal, draw

KEY = jax.random.key(15)
X = draw(16, 6, 4, mean=1)
LINEARS = [
    {},
    {"use_bias": False, "dtype": jnp.bfloat16},
    {"param_dtype": jnp.bfloat16, "preferred_element_type": jnp.float32, "precision": "highest"},
    {"kernel_init": fnx.initializers.ones, "bias_init": fnx.initializers.ones},
]
CONVS = [
    *LINEARS,
    {"padding": "VALID", "strides": 2, "kernel_dilation": 2},
    {"padding": "CIRCULAR", "feature_group_count": 2},
    {"padding": [(1, 1)], "input_dilation": 2},
]
MASK = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
LAYERS = [(nnx.DropConnectDense, fnx.Linear, (4, 4), fields) for fields in LINEARS]
LAYERS += [(nnx.DropConnectConv, fnx.Conv, (4, 4, (3,)), fields) for fields in CONVS]
NAMES = [f"{theirs.__name__}-{'-'.join(f) or 'defaults'}" for _, theirs, _, f in LAYERS]


@pytest.mark.parametrize(("ours", "theirs", "shape", "fields"), LAYERS, ids=NAMES)
def test_evaluation_is_the_program_of_flax(ours, theirs, shape, fields):
    """Nothing is computed here, so that all arguments can be tried."""

    def program(build, **options):
        layer = fnx.eval_shape(lambda: build(*shape, **fields, **options, rngs=fnx.Rngs(0)))
        graph, params, others = fnx.split(layer, fnx.Param, ...)

        def call(params, x):
            return fnx.merge(graph, params, others)(x)

        return str(jax.make_jaxpr(call)(params, X))

    expected = program(theirs)
    assert program(ours, rate=0.0) == expected
    assert program(ours, rate=0.5, deterministic=True) == expected


MASKED = (nnx.DropConnectConv, fnx.Conv, (4, 4, (3,)), {"feature_group_count": 2, "mask": MASK})


@few(("ours", "theirs", "shape", "fields"), [MASKED, *LAYERS], ids=["Conv-mask", *NAMES])
def test_a_traced_rate_of_zero_is_the_layer_of_flax_to_the_bit(ours, theirs, shape, fields):
    @fnx.jit
    def make(key):
        streams = fnx.Rngs(params=key, dropout=key)
        rate = jnp.zeros(())
        return [
            ours(*shape, **fields, rate=rate, rngs=streams),
            theirs(*shape, **fields, rngs=fnx.Rngs(params=key)),
        ]

    layers = make(KEY)
    assert_equal(*[fnx.to_pure_dict(fnx.state(layer, fnx.Param)) for layer in layers])
    y, expected = fnx.jit(lambda layers, x: [layer(x) for layer in layers])(layers, X)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(np.float32(y), np.float32(expected))


@pytest.mark.parametrize(
    ("build", "shape"), [(nnx.DropConnectDense, (4, 4)), (nnx.DropConnectConv, (4, 4, 3))]
)
def test_initializers_are_arguments(build, shape):
    values = {"kernel": 2.0, "bias": 3.0}
    inits = {f"{name}_init": fnx.initializers.constant(value) for name, value in values.items()}

    @jax.jit
    def run(key):
        layer = build(*shape, rate=0.5, **inits, param_dtype=jnp.bfloat16, rngs=fnx.Rngs(key))
        return fnx.to_pure_dict(fnx.state(layer, fnx.Param))

    for name, param in run(KEY).items():
        assert param.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.float32(param), values[name])


@pytest.mark.parametrize(
    ("ours", "theirs"), [(nnx.DropConnectDense, fnx.Linear), (nnx.DropConnectConv, fnx.Conv)]
)
def test_every_argument_of_flax_is_taken(ours, theirs):
    taken = inspect.signature(ours.__init__).parameters
    given = inspect.signature(theirs.__init__).parameters
    assert set(given) <= set(taken)
    for name, parameter in given.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert list(taken).index(name) == list(given).index(name)
        if name not in ("rngs", "kernel_init", "bias_init", "param_dtype"):
            assert taken[name].default == parameter.default, name


def test_the_kernel_that_is_dropped_is_a_copy():
    seen = []

    @fnx.jit
    def run(layer, x):
        layer(x)
        return seen.pop() / layer.kernel[...], layer.rngs.count[...]

    metadata = {"kernel_metadata": {"role": "k"}, "bias_metadata": {"role": "b"}}
    layer = nnx.DropConnectDense(4, 64, rate=0.5, **metadata, rngs=fnx.Rngs(0))
    layer.promote_dtype = lambda arrays, dtype: seen.append(arrays[1]) or arrays
    before = np.asarray(layer.kernel[...])
    factors, count = run(layer, X)
    assert set(np.unique(np.round(factors, 5))) == {0, 2}
    np.testing.assert_array_equal(layer.kernel[...], before)
    assert count == 1
    assert layer.kernel.get_metadata()["role"] == "k"
    assert layer.bias.get_metadata()["role"] == "b"


@pytest.mark.parametrize(
    ("build", "shape", "name"),
    [
        (nnx.DropConnectDense, (4, 4), "dot_general"),
        (nnx.DropConnectDense, (4, 4), "promote_dtype"),
        (nnx.DropConnectConv, (4, 4, 3), "conv_general_dilated"),
        (nnx.DropConnectConv, (4, 4, 3), "promote_dtype"),
    ],
)
def test_functions_of_the_computation_are_arguments(build, shape, name):
    def function(*arguments, **options):
        raise NotImplementedError

    layer = fnx.eval_shape(lambda: build(*shape, rate=0.5, **{name: function}, rngs=fnx.Rngs(0)))
    assert getattr(layer, name) is function


def test_metadata_of_a_convolution():
    metadata = {"kernel_metadata": {"role": "k"}, "bias_metadata": {"role": "b"}}
    layer = fnx.eval_shape(
        lambda: nnx.DropConnectConv(4, 4, (3,), rate=0.5, **metadata, rngs=fnx.Rngs(0))
    )
    assert layer.kernel.get_metadata()["role"] == "k"
    assert layer.bias.get_metadata()["role"] == "b"


@pytest.mark.parametrize(
    "build",
    [
        lambda rngs: nnx.DropConnectDense(3, 5, rate=0.5, rngs=rngs),
        lambda rngs: nnx.DropConnectConv(3, 5, 3, rate=0.5, rngs=rngs),
    ],
    ids=["Dense", "Conv"],
)
def test_layers_with_parameters_need_streams(build):
    for rngs in (None, fnx.Rngs(0).params):
        with pytest.raises(TypeError, match=r"`rngs` of \w+, which has param.*nnx\.Rngs\(seed"):
            build(rngs)
