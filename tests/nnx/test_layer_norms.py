"""NNX norms of each example are Flax's: variables, defaults, numbers, metadata."""

import copy
import inspect
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as flax_nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import nnx
from tests.helpers import few
from tests.trees import assert_close, assert_equal, draw

KEY = jax.random.key(11)
NAMES = ["LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"]
# Flax's defaults, but for the variance that loses digits where the mean is large.
ACCURATE = {"use_fast_variance": False}
# Name, fields, and features for an input [4, 5, 6].
KINDS = [
    ("LayerNorm", {"reduction_axes": (1, 2), "feature_axes": (1, 2)}, (5, 6)),
    ("LayerNorm", {}, 6),
    ("LayerNorm", {"reduction_axes": (1, 2), "feature_axes": -1, "epsilon": 0.1}, 6),
    ("RMSNorm", {"reduction_axes": (-2, -1), "feature_axes": 1, "epsilon": 0.1}, 5),
    ("RMSNorm", {}, 6),
    ("GroupNorm", {"num_groups": 3}, 6),
    ("GroupNorm", {"num_groups": None, "group_size": 3, "epsilon": 0.1}, 6),
    ("InstanceNorm", {"feature_axes": (1,), "epsilon": 0.1}, 5),
    ("InstanceNorm", {}, 6),
]
# One row of each class, for which all options are tried.
SHORT = [KINDS[i] for i in (0, 3, 6, 7)]
# Whether there are an offset and a factor; dtypes of the result and of the parameters.
BOOLS, DTYPES = (True, False), (jnp.float32, jnp.bfloat16)
OPTIONS = list(itertools.product(BOOLS, BOOLS, (None, *DTYPES), DTYPES))
every_name = pytest.mark.parametrize("name", NAMES)


def groups(name):
    return {"num_groups": 3} if name == "GroupNorm" else {}


def arguments(name, fields, use_bias, use_scale, dtypes, inits):
    """Arguments of a norm, without the offset's if it has none."""
    given = {**fields, "dtype": dtypes[0], "param_dtype": dtypes[1], "use_scale": use_scale}
    given |= {"scale_init": inits.uniform()}
    if name != "RMSNorm":
        given |= {"use_bias": use_bias, "bias_init": inits.uniform()}
    return given


@pytest.mark.parametrize(
    ("name", "fields", "features"), [kind for kind in KINDS if kind not in SHORT]
)
def test_norms_are_those_of_flax(name, fields, features):
    assert_that_of_flax(name, fields, features, *OPTIONS[0])


@pytest.mark.parametrize(("name", "fields", "features"), SHORT)
@few(("use_bias", "use_scale", "dtype", "param_dtype"), OPTIONS)
def test_options_are_those_of_flax(name, fields, features, use_bias, use_scale, dtype, param_dtype):
    assert_that_of_flax(name, fields, features, use_bias, use_scale, dtype, param_dtype)


def assert_that_of_flax(name, fields, features, use_bias, use_scale, dtype, param_dtype):
    """If Flax's module takes one feature axis only, compares with Linen's instead."""
    shape = features if isinstance(features, tuple) else (features,)
    options = use_bias, use_scale, (dtype, param_dtype)

    given = arguments(name, fields, *options, flax_nnx.initializers)
    names = [n for n, used in (("bias", use_bias), ("scale", use_scale)) if used]
    names = [n for n in names if (name, n) != ("RMSNorm", "bias")]
    params = {n: draw(*shape, seed=i).astype(param_dtype) for i, n in enumerate(names)}

    def layer(cls, params, **more):
        made = cls(features, **given, **more, rngs=flax_nnx.Rngs(0))
        first = dict(flax_nnx.to_pure_dict(flax_nnx.state(made, flax_nnx.Param)))
        for key, value in params.items():
            getattr(made, key).set_value(value)
        return made, first

    @jax.jit
    def run(params, x):
        ours, first = layer(getattr(nnx, name), params)
        if len(shape) > 1:
            linen = getattr(nn, name)(**arguments(name, fields, *options, nn.initializers))
            return first, first, ours(x), linen.apply({"params": params}, x)
        theirs, same = layer(getattr(flax_nnx, name), params, **ACCURATE)
        return first, same, ours(x), theirs(x)

    ours, theirs, y, expected = run(params, draw(4, 5, 6, mean=1))
    assert set(ours) == set(params)
    assert_equal(ours, theirs)
    assert all((a.shape, a.dtype) == (shape, param_dtype) for a in jax.tree.leaves(ours))
    assert_close(y, expected)


def defaults(cls):
    return {p.name: p.default for p in inspect.signature(cls.__init__).parameters.values()}


def positional(function):
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind != keyword]


@pytest.mark.parametrize("name", [*NAMES, "BatchNorm"])
def test_arguments_and_defaults_are_those_of_flax(name):
    """All of them, at their positions, also of the call; initializers by what they make."""
    places = getattr(nnx, name), getattr(flax_nnx, name)
    ours = defaults(places[0])
    theirs = defaults(places[1])
    assert set(theirs) <= set(ours)
    assert positional(places[0].__init__) == positional(places[1].__init__)
    assert positional(places[0].__call__) == positional(places[1].__call__)
    for key in set(theirs) - {"param_dtype", "promote_dtype"}:
        values = ours[key], theirs[key]
        if key.endswith("_init"):
            values = tuple(init(KEY, (2,), jnp.float32).tolist() for init in values)
        assert values[0] == values[1], key
    assert jnp.dtype(ours["param_dtype"]) == jnp.dtype(theirs["param_dtype"])


@every_name
def test_metadata_and_partitions(name):
    mesh = jax.make_mesh((2,), ("model",), (AxisType.Auto,), devices=jax.devices()[:2])
    names = ("scale",) if name == "RMSNorm" else ("scale", "bias")
    metadata = {f"{n}_metadata": {"out_sharding": ("model",), "role": n} for n in names}
    with jax.set_mesh(mesh):
        layer = getattr(nnx, name)(6, **groups(name), rngs=flax_nnx.Rngs(0), **metadata)
    for n in names:
        variable = getattr(layer, n)
        assert variable.get_metadata()["role"] == n
        assert variable.sharding.spec == P("model")


@every_name
def test_states_load_both_ways(name):
    x = draw(4, 5, 6)

    @jax.jit
    def run(x):
        layers = [
            getattr(p, name)(6, **groups(name), rngs=flax_nnx.Rngs(0)) for p in (nnx, flax_nnx)
        ]
        ours, theirs = layers
        random = jax.tree.map(lambda a: jnp.asarray(draw(*a.shape, seed=3)), flax_nnx.state(ours))
        flax_nnx.update(ours, random)
        flax_nnx.update(theirs, flax_nnx.state(ours))
        results = ours(x), theirs(x)
        flax_nnx.update(ours, flax_nnx.state(theirs))
        return *results, ours(x)

    y, expected, again = run(x)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(again, y)


@every_name
def test_masks_reach_the_norms(name):
    x = draw(4, 5, 6)
    valid = np.arange(20).reshape(4, 5) % 3 != 0
    valid[1] = False
    mask = valid[..., None]

    @jax.jit
    def run(x, wrong):
        layer = getattr(nnx, name)(6, **groups(name), rngs=flax_nnx.Rngs(0))
        return layer(x, mask=mask), layer(wrong, mask=mask), layer(x)

    wrong = np.where(mask, x, 9.0).astype(np.float32)
    masked, with_others, whole = [np.asarray(a) for a in run(x, wrong)]
    # What is masked out changes nothing but itself.
    np.testing.assert_allclose(masked[valid], with_others[valid], rtol=1e-6)
    assert np.isfinite(masked).all()
    assert np.any(masked != whole)


@few("axes", [(2, -1), (1, 2, 3), (3,), None])
def test_groups_for_any_number_of_batch_axes(axes):
    """NNX repeats its statistics along axis 1, which Linen does not."""
    x = draw(2, 3, 4, 6)

    @jax.jit
    def run(x):
        layer = nnx.GroupNorm(6, 3, reduction_axes=axes, rngs=flax_nnx.Rngs(0))
        linen = nn.GroupNorm(3, use_bias=False, use_scale=False)
        if axes is None or len(axes) == 3:
            return layer(x), linen.apply({}, x)
        rows = x.reshape(6, 4, 6) if len(axes) == 2 else x.reshape(24, 6)
        return layer(x), linen.apply({}, rows).reshape(x.shape)

    y, expected = run(x)
    np.testing.assert_allclose(y, expected, atol=2e-4)


@every_name
def test_elements_on_several_devices_are_normalized_together(name):
    mesh = jax.make_mesh((4,), ("d",), (AxisType.Auto,), devices=jax.devices()[:4])
    fields = groups(name)
    if name in ("LayerNorm", "RMSNorm"):
        fields = fields | {"reduction_axes": (1, 2)}
    spec = P(None, "d")

    @jax.jit
    def run(x):
        layer = getattr(nnx, name)(6, **fields, axis_name="d", rngs=flax_nnx.Rngs(0))
        whole = getattr(nnx, name)(6, **fields, rngs=flax_nnx.Rngs(0))
        graph, state = flax_nnx.split(layer)

        def local(state, x):
            return flax_nnx.merge(graph, state)(x)

        sharded = jax.shard_map(local, mesh=mesh, in_specs=(P(), spec), out_specs=spec)
        return sharded(state, x), whole(x)

    sharded, whole = run(draw(2, 8, 6, mean=2))
    np.testing.assert_allclose(sharded, whole, rtol=2e-5, atol=2e-6)


def test_wrong_arguments_raise():
    def call(*arguments):
        return nnx.GroupNorm(6, *arguments, rngs=flax_nnx.Rngs(0))(jnp.ones((2, 6)))

    for arguments in ((2, 3), (None, None)):
        with pytest.raises(ValueError, match="Exactly one of `num_groups` and `group_size` "):
            jax.eval_shape(lambda a=arguments: call(*a))
    with pytest.raises(ValueError, match="`group_size` must divide the 6 channels, got 4"):
        jax.eval_shape(lambda: call(None, 4))
    with pytest.raises(ValueError, match="`num_groups` must divide the 6 channels, got 4"):
        nnx.GroupNorm(6, 4, rngs=flax_nnx.Rngs(0))


@every_name
def test_integers_are_named(name):
    def call():
        norm = getattr(nnx, name)(6, **groups(name), rngs=flax_nnx.Rngs(0))
        return norm(jnp.ones((2, 6), jnp.int32))

    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        jax.eval_shape(call)


@pytest.mark.parametrize("name", NAMES[:2])
def test_narrow_inputs_are_rounded_once(name):
    """The parameters are wider, and so is the result."""
    x = jnp.asarray(draw(5, 6, mean=1), jnp.bfloat16)
    y = jax.jit(lambda x: getattr(nnx, name)(6, rngs=flax_nnx.Rngs(0))(x))(x)
    assert y.dtype == jnp.float32
    wide = np.asarray(x, np.float64)
    wide = wide - (wide.mean(-1, keepdims=True) if name == "LayerNorm" else 0)
    expected = wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


ALL = [*NAMES, "BatchNorm", "GhostBatchNorm", "BatchRenorm", "FilterResponseNorm"]


def build(name, seed=0, **fields):
    special = {
        "GhostBatchNorm": {"ghost_batch_size": 2},
        "BatchRenorm": {"r_max": 3.0, "d_max": 5.0},
    }
    given = groups(name) | special.get(name, {}) | fields
    return getattr(nnx, name)(6, **given, rngs=flax_nnx.Rngs(seed))


@pytest.mark.parametrize("name", ALL)
def test_norms_that_are_made_alike_are_one_graph(name):
    """Initializers are functions, of which two are never equal: they are used, and not kept."""

    def make(seed):
        return build(name, seed, scale_init=flax_nnx.initializers.constant(0.5))

    layers = flax_nnx.eval_shape(lambda: [make(seed) for seed in range(2)])
    assert flax_nnx.graphdef(layers[0]) == flax_nnx.graphdef(layers[1])


def test_norms_of_three_seeds_are_one_trace_and_can_be_averaged_and_copied():
    traces = []

    @flax_nnx.jit
    def run(layers, x):
        traces.append(1)
        return [layer(x) for layer in layers]

    @jax.jit
    def make(key):
        inits = {"scale_init": flax_nnx.initializers.normal()}
        return flax_nnx.split(
            [getattr(nnx, n)(6, **groups(n), rngs=flax_nnx.Rngs(key), **inits) for n in NAMES]
        )

    made = [flax_nnx.merge(*make(jax.random.key(seed))) for seed in range(3)]
    x = draw(4, 5, 6)
    results = [run(flax_nnx.List(layers), x) for layers in made]
    assert len(traces) == 1
    for copied in (copy.deepcopy(made[0]), pickle.loads(pickle.dumps(made[0]))):
        assert_equal(run(flax_nnx.List(copied), x), results[0])
    assert len(traces) == 1
    states = [flax_nnx.to_pure_dict(flax_nnx.state(layers)) for layers in made]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *states)
    flax_nnx.update(made[0], mean)
    np.testing.assert_allclose(made[0][0].scale[...], mean[0]["scale"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("flops", [True, False])
def test_tabulate_lists_the_layers_alone(flops):
    model = flax_nnx.Sequential(*[build(name) for name in ALL])
    console = {"force_terminal": False, "width": 240}
    table = flax_nnx.tabulate(model, draw(4, 5, 6), compute_flops=flops, console_kwargs=console)
    rows = [line for line in table.splitlines() if "layers/" in line]
    assert [row.split()[3] for row in rows] == ALL


@few("name", NAMES)
def test_what_cannot_change_the_result_is_accepted(name):
    def promote(arrays, **_):
        raise AssertionError("nothing is promoted")

    @jax.jit
    def run(x):
        layers = [build(name), build(name, use_fast_variance=False, promote_dtype=promote)]
        return [layer(x) for layer in layers]

    np.testing.assert_array_equal(*run(draw(4, 5, 6, mean=1)))


@few("name", NAMES)
def test_groups_of_devices_are_those_of_flax(name):
    """Given as lists, which are kept as tuples: a graph definition has to be hashable."""
    fields = groups(name) | {"axis_name": "d", "axis_index_groups": [[0, 3], [2, 1]]}
    if name in ("LayerNorm", "RMSNorm"):
        fields |= {"reduction_axes": (1, 2)}

    def run(x):
        layers = [
            getattr(place, name)(6, **fields, rngs=flax_nnx.Rngs(0)) for place in (nnx, flax_nnx)
        ]
        assert hash(flax_nnx.graphdef(layers[0]))
        return [layer(x) for layer in layers]

    found = jax.pmap(run, axis_name="d")(draw(4, 2, 8, 6, mean=2))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


@every_name
def test_a_mask_that_does_not_broadcast_is_named(name):
    message = r"`mask` must broadcast to the shape of `x`, .*, got shape \(4, 5\)"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: build(name)(x, mask=np.ones((4, 5), bool)), draw(4, 5, 6))


@few("name", NAMES)
def test_the_offset_is_added_to_the_factor(name):
    """In float32, though the factor is bfloat16: ``1 + gamma`` would be 1 there."""

    @jax.jit
    def run(x):
        fields = {"scale_init": flax_nnx.initializers.zeros, "param_dtype": jnp.bfloat16}
        layer = build(name, **fields, scale_offset=1.0)
        y = layer(x)
        layer.scale[...] = jnp.full(6, 2**-10, jnp.bfloat16)
        return y, layer(x)

    y, moved = run(draw(4, 5, 6))
    np.testing.assert_allclose(moved, np.asarray(y) * (1 + 2**-10), rtol=2e-7)


def test_complex_numbers_are_those_of_flax():
    """Flax's NNX is right without an offset and a factor."""

    @jax.jit
    def run(x):
        fields = {"use_bias": False, "use_scale": False, "use_fast_variance": False}
        return [place.LayerNorm(6, **fields, rngs=flax_nnx.Rngs(0))(x) for place in (nnx, flax_nnx)]

    found, expected = run((draw(4, 6, mean=1) + 1j * draw(4, 6, seed=1)) + 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
