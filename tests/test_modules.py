"""Every module of Linen and of NNX equals its function: one row of ``cases/modules.py`` each."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jaxreg import linen, nnx
from tests.cases.modules import ELSEWHERE, MODULES

TESTS = Path(__file__).parent
# Stochastic depth keeps its layer with this key, and skips it with the bits of `jax.random`.
KEY = jax.random.key(8)
ADVICE = (
    "{name} has no row: add a row to tests/cases/modules.py. If it lifts no single function, name "
    "the test file that has it in ELSEWHERE there."
)

every_module = pytest.mark.parametrize("row", MODULES, ids=str)


def rows(chosen):
    """A test for each of the chosen rows."""
    return pytest.mark.parametrize("row", [row for row in MODULES if chosen(row)], ids=str)


def arrays(row):
    """The arguments of a row's compiled program."""
    return {"inputs": row.inputs, "params": row.params, "state": row.state, "mask": row.mask}


def linen_variables(row, params, state):
    """The tree of variables, with Flax's names for the variables of wrapped layers."""
    if row.inside != "layer_instance":
        return {"params": dict(params), **({"batch_stats": dict(state)} if state else {})}
    own = {name: value for name, value in params.items() if name != "scale"}
    tree = {"layer_instance": own}
    if "scale" in params:
        tree["layer_instance/kernel/scale"] = params["scale"]
    if not state:
        return {"params": tree}
    named = {f"layer_instance/kernel/{name}": value for name, value in state.items()}
    return {"params": tree, "batch_stats": named}


def nnx_variables(row, layer):
    """The variables of a layer by the names of parameters and state of the row."""
    target = getattr(layer, row.inside) if row.inside else layer
    found = {}
    for name in row.params:
        scaled = row.inside == "layer_instance" and name == "scale"
        found[name] = layer.scales[("kernel",)] if scaled else getattr(target, name)
    for name in row.state:
        wrapped = row.inside == "layer_instance"
        found[name] = layer.batch_stats["kernel", name] if wrapped else getattr(layer, name)
    return found


def of_function(row, values, *, key=None, evaluate=False, mask=None, **changes):
    arguments = {**values["params"], **values["state"], **row.arguments(**changes)}
    if mask is not None:
        arguments["where"] = mask
    if evaluate:
        return row.evaluation(*values["inputs"], **arguments)
    keys = [key] if row.mode == "deterministic" else []
    return row.function(*keys, *values["inputs"], **arguments)


def of_linen(
    row, values, *, key=None, evaluate=False, at_call=False, mask=None, given=(), **changes
):
    """The mode, and what is ``given``, at the call; otherwise in the constructor."""
    mode = {row.mode: evaluate != (row.mode == "update_stats")} if row.mode else {}
    call = {"rng": key, "mask": mask, **(mode if at_call else {}), **dict(given)}
    call = {name: value for name, value in call.items() if value is not None}
    module = row.linen(**{**row.fields, **changes, **({} if at_call else mode)})
    variables = linen_variables(row, values["params"], values["state"])
    y, updated = module.apply(variables, *values["inputs"], **call, mutable=["batch_stats"])
    if not row.state:
        assert not updated
        return y
    stats = {name.split("/")[-1]: value for name, value in updated["batch_stats"].items()}
    return y, {name: jnp.reshape(stats[name], np.shape(row.state[name])) for name in row.state}


def of_nnx(
    row,
    values,
    *,
    key=None,
    evaluate=False,
    at_call=False,
    mask=None,
    how=None,
    given=(),
    **changes,
):
    """As for Linen; ``how`` changes the mode, and a call overrides the one of the constructor."""
    trains = row.mode == "update_stats"
    mode = {row.mode: evaluate != (at_call != trains)} if row.mode and not how else {}
    call = {"rngs": key, "mask": mask, **dict(given)}
    if at_call:
        call[row.mode] = evaluate != trains
    call = {name: value for name, value in call.items() if value is not None}
    layer = row.nnx(**{**row.fields, **changes, **mode})
    variables = nnx_variables(row, layer)
    for name, variable in variables.items():
        variable.set_value({**values["params"], **values["state"]}[name])
    layer = how(layer) if how else layer
    y = layer(*values["inputs"], **call)
    return (y, {name: variables[name][...] for name in row.state}) if row.state else y


def evaluated(layer):
    layer.eval()
    return layer


def viewed(layer):
    stochastic = isinstance(layer, nnx.Stochastic)
    return flax_nnx.view(layer, **{"deterministic" if stochastic else "use_running_average": True})


def trained_again(layer):
    layer.eval()
    layer.train()
    return layer


def slopes(call, row, values, **options):
    """Gradients of the parameters."""

    def loss(params):
        y = call(row, {**values, "params": params}, **options)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(y[0] if row.state else y))

    return jax.grad(loss)(dict(values["params"]))


def in_all(row, values, **options):
    """The results of the function, of Linen and of NNX."""
    return [call(row, values, **options) for call in (of_function, of_linen, of_nnx)]


def everything(row, key, values, traced):
    """The results of the function, of Linen and of NNX, by the name of the comparison."""
    key = {"key": key} if row.mode == "deterministic" else {}
    found = {"training": in_all(row, values, **key)}
    if row.params:
        calls = (of_function, of_linen, of_nnx)
        found["gradients"] = [slopes(call, row, values, **key) for call in calls]
    if row.mode:
        found["evaluation"] = in_all(row, values, evaluate=True)
    if row.mask is not None:
        found["masked"] = in_all(row, values, mask=values["mask"])
    # In the first row of a class alone.
    if row.name == row.kind:
        found |= ways_of_a_class(row, key, values, traced, found)
    return found


def ways_of_a_class(row, key, values, traced, plain):
    """Other ways to set the mode, other bits, no strength, a traced one."""
    found = {}
    if row.mode:
        train = plain["training"][0]
        evaluation = plain["evaluation"][0]
        for name, expected, options in (
            ("training at the call", train, key),
            ("evaluation at the call", evaluation, {"evaluate": True}),
        ):
            both = [call(row, values, at_call=True, **options) for call in (of_linen, of_nnx)]
            found[name] = [expected, *both]
        found["eval()"] = [evaluation, of_nnx(row, values, how=evaluated)]
        found["train()"] = [train, of_nnx(row, values, how=trained_again, **key)]
        found["view"] = [evaluation, of_nnx(row, values, how=viewed)]
    if row.mode == "deterministic":
        found["bits"] = in_all(row, values, bits=jax.random.bits, **key)
    if row.strength:
        off = {row.strength: 0.0}
        both = [call(row, values, **off) for call in (of_linen, of_nnx)]
        found["off"] = [of_function(row, values, **key, **off), *both]
    if row.mode == "deterministic" and (name := row.strength or row.traced):
        other = {name: row.fields[name] + 0.25}
        mode = {"evaluate": True} if name == "threshold" else key
        expected = of_function(row, values, **mode, **other)
        unset = {} if name in ("temperature", "threshold") else {name: None}
        both = [call(row, values, **mode, given=other, **unset) for call in (of_linen, of_nnx)]
        found["at the call alone"] = [expected, *both]
        both = [call(row, values, **mode, given=other) for call in (of_linen, of_nnx)]
        found["at the call"] = [expected, *both]
    if (name := row.traced or row.strength) in row.fields:
        found["traced"] = in_all(row, values, **key, **{name: traced})
        found["traced, evaluation"] = in_all(row, values, evaluate=True, **{name: traced})
    return found


def assert_equal(ours, expected, name, tolerance):
    assert jax.tree.structure(ours) == jax.tree.structure(expected), name
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


def differ(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return any(np.shape(a) != np.shape(b) or np.any(np.asarray(a) != b) for a, b in pairs)


@every_module
def test_both_modules_equal_their_function(row):
    """In one program: training, evaluation, other bits, no strength, a traced one, a mask."""
    program = jax.jit(lambda *arguments: everything(row, *arguments))
    found = program(KEY, arrays(row), 0.55)
    for name, (expected, *modules) in found.items():
        # Of parameters: products are ordered otherwise.
        tolerance = 2e-6 if row.params else 0.0
        for module in modules:
            assert_equal(module, expected, name, 1e-5 if name == "gradients" else tolerance)
        assert_equal(modules[0], modules[-1], f"Linen and NNX, {name}", 0.0)
    for name in {"evaluation", "bits", "off", "masked", "at the call"} & set(found):
        plain = "evaluation" if (name, row.traced) == ("at the call", "threshold") else "training"
        assert differ(found[name][0], found[plain][0]), name
    if "traced" in found:
        pairs = [("traced", "training"), ("traced, evaluation", "evaluation")]
        assert any(differ(found[a][0], found[b][0]) for a, b in pairs)


@rows(lambda row: row.mode)
def test_linen_asks_for_the_mode_exactly_once(row):
    variables = linen_variables(row, row.params, row.state)

    def run(fields, call):
        module = row.linen(**row.fields, **fields)
        rngs = {"dropout": KEY}
        apply = lambda: module.apply(variables, *row.inputs, rngs=rngs, mutable=True, **call)  # noqa: E731
        jax.eval_shape(apply)

    given = {row.mode: True}
    with pytest.raises(ValueError, match=f'"{row.mode}" must be passed to the constructor or'):
        run({}, {})
    with pytest.raises(ValueError, match=f'"{row.mode}" was passed to the constructor and at call'):
        run(given, given)
    run(given, {})
    run({}, given)


@rows(lambda row: row.mode == "deterministic")
def test_training_needs_a_key(row):
    variables = linen_variables(row, row.params, row.state)
    module = row.linen(**row.fields, rng_collection="noise", deterministic=False)
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "noise"'):
        module.apply(variables, *row.inputs, rngs={"dropout": KEY})
    keyed = jax.eval_shape(lambda: module.apply(variables, *row.inputs, rngs={"noise": KEY}))
    expected = jax.eval_shape(lambda: of_function(row, arrays(row), key=KEY))
    assert jax.tree.map(jnp.shape, keyed) == jax.tree.map(jnp.shape, expected)

    def without():
        layer = row.nnx(**row.fields)
        layer.rngs = None
        layer(*row.inputs)

    with pytest.raises(ValueError, match=rf"no `rngs` argument was provided to {row.kind}"):
        jax.eval_shape(without)


@rows(lambda row: row.strength)
def test_a_wrong_strength_raises_in_the_constructor(row):
    for wrong in (row.wrong, float("nan")) + ((1.5,) if row.strength == "rate" else ()):
        message = rf"`{row.strength}` must be .*, got {wrong}"
        fields = {**row.fields, row.strength: wrong}
        with pytest.raises(ValueError, match=message):
            row.linen(**fields)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda fields=fields: row.nnx(**fields) and 0)


@every_module
def test_the_variables_have_the_names_and_shapes_of_the_row(row):
    """Initialization needs the parameters' key if there are parameters, and no other key."""
    rngs = {"params": KEY, **({} if row.params else {"dropout": KEY})}
    mode = {row.mode: row.mode == "update_stats"} if row.mode else {}
    module = row.linen(**row.fields, **mode)
    made = jax.eval_shape(lambda: module.init(rngs, *row.inputs))
    expected = linen_variables(row, row.params, row.state)
    described = jax.tree.map(lambda a: (a.shape, str(a.dtype)), dict(made))
    expected = jax.tree.map(lambda a: (a.shape, str(a.dtype)), expected)
    assert described == ({} if expected == {"params": {}} else expected)

    layer = flax_nnx.eval_shape(lambda: row.nnx(**row.fields))
    kinds = (flax_nnx.Param, flax_nnx.BatchStat)
    state = jax.tree.leaves(flax_nnx.state(layer, lambda _, value: isinstance(value, kinds)))
    named = nnx_variables(row, layer)
    assert len(state) == len(named)
    for name, value in {**row.params, **row.state}.items():
        assert isinstance(named[name], kinds[name in row.state])
        assert (named[name].shape, named[name].dtype) == (value.shape, value.dtype)


def defaults(cls, row):
    """Defaults of arguments by the names of the function."""
    found = {}
    for name, argument in inspect.signature(cls.__init__).parameters.items():
        default = argument.default
        if default is not argument.empty and (not callable(default) or name == "feature_axes"):
            found[row.renamed.get(name, name)] = default
    return found


# Other defaults in the frameworks than in the function: `momentum` and `epsilon` are Flax's.
FLAX_HAS = {"momentum", "eps", "num_groups", "axis"}


@every_module
def test_defaults_are_those_of_the_function(row):
    of_linen = defaults(getattr(linen, row.kind), row)
    of_nnx = defaults(getattr(nnx, row.kind), row)
    function = inspect.signature(row.function).parameters
    for name in set(function) & set(of_linen) - FLAX_HAS:
        if function[name].default is not inspect.Parameter.empty:
            assert of_linen[name] == function[name].default, name
    ours = set(row.arguments()) & set(of_linen)
    assert {name: of_linen[name] for name in ours} == {name: of_nnx[name] for name in ours}


# The table is complete.


def classes(package):
    return {name for name in package.__all__ if inspect.isclass(getattr(package, name))}


def missing(public, rows, elsewhere, folder):
    """Tells what to do about classes without a row and about entries that have gone stale."""
    for name in sorted(public - rows - set(elsewhere)):
        yield ADVICE.format(name=name)
    for name in sorted(public & rows & set(elsewhere)):
        yield f"{name} has a row: take it out of ELSEWHERE in tests/cases/modules.py."
    for name in sorted(public & set(elsewhere)):
        path = folder / elsewhere[name]
        if not path.is_file():
            yield f"{name} is to be tested in {path.name} of {folder.name}, which does not exist."
        elif name not in path.read_text():
            yield f"{name} is to be tested in {path.name} of {folder.name}, which does not name it."


@pytest.mark.parametrize("package", [linen, nnx], ids=lambda p: p.__name__)
def test_every_public_class_has_a_row_or_a_test_file(package):
    folder = TESTS / package.__name__.split(".")[-1]
    found = list(missing(classes(package), {row.kind for row in MODULES}, ELSEWHERE, folder))
    assert not found, "\n".join(found)


def test_rows_and_exceptions_name_public_classes():
    both = classes(linen) | classes(nnx)
    assert set(ELSEWHERE) <= both
    assert {row.kind for row in MODULES} <= classes(linen) & classes(nnx)
    assert len({row.name for row in MODULES}) == len(MODULES)


def test_a_class_without_a_row_is_told_what_to_do(tmp_path):
    package = SimpleNamespace(__all__=["Dropout", "Base", "Lost"], Dropout=int, Base=int, Lost=int)
    (tmp_path / "test_base.py").write_text("mentions Base")

    def told(elsewhere, rows=("Dropout",)):
        return list(missing(classes(package), set(rows), elsewhere, tmp_path))

    base = {"Base": "test_base.py"}
    assert told({**base, "Lost": "test_base.py"}) == [
        f"Lost is to be tested in test_base.py of {tmp_path.name}, which does not name it."
    ]
    assert told(base) == [ADVICE.format(name="Lost")]
    assert "add a row to tests/cases/modules.py" in told(base)[0]
    assert "does not exist" in told({**base, "Lost": "test_gone.py"})[0]
    assert told(base, ["Dropout", "Lost", "Base"]) == [
        "Base has a row: take it out of ELSEWHERE in tests/cases/modules.py."
    ]
