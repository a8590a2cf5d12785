"""Shardings on an Explicit mesh of eight devices, read from types: nothing runs."""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import _sharding


def mesh(kind=AxisType.Explicit, size=8):
    return jax.make_mesh((size,), ("d",), axis_types=(kind,), devices=jax.devices()[:size])


def inside(function, *arrays, on=None):
    """The answer of a function for arrays with shapes and specs, in a program on a mesh."""
    on = on or mesh()
    told = []
    with jax.set_mesh(on):
        types = [
            jax.ShapeDtypeStruct(shape, "float32", sharding=NamedSharding(on, spec))
            for shape, spec in arrays
        ]
        jax.eval_shape(lambda *x: told.append(function(*x)), *types)
    return told[0]


def spec(x):
    return jax.typeof(x).sharding.spec


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 16), P("d", None)), ((1, 16), P(None, None)), ((8, 1), P("d", None))],
)
def test_an_axis_of_length_one_is_not_sharded(shape, expected):
    def for_shape(x):
        return _sharding.for_shape(_sharding.explicit_sharding(x), shape)

    assert inside(for_shape, ((8, 16), P("d", None))).spec == expected


def test_a_sharding_along_one_axis():
    def for_each_axis(x):
        sharding = _sharding.explicit_sharding(x)
        return [_sharding.for_axis(sharding, axis).spec for axis in (0, 1)]

    assert inside(for_each_axis, ((8, 16), P("d", None))) == [P("d", None), P(None, None)]


def test_an_array_is_placed_as_another_one():
    placed = inside(
        lambda x, like: spec(_sharding.place_like(x, like)), ((8, 4), P()), ((8, 4), P("d", None))
    )
    assert placed == P("d", None)


def test_the_first_axis_is_placed_as_that_of_another_array():
    arrays = (((8, 4, 2), P()), ((8, 16), P("d", None)))
    assert inside(lambda x, like: spec(_sharding.place_first(x, like)), *arrays) == P(
        "d", None, None
    )
    arrays = (((8, 4, 2), P()), ((8, 16), P(None, "d")))
    assert inside(lambda x, like: spec(_sharding.place_first(x, like)), *arrays) == P(
        None, None, None
    )


def test_axes_that_work_together_are_gathered_and_others_stay():
    x = ((8, 16), P("d", None))
    assert inside(lambda x: spec(_sharding.whole_along(x, [0])), x) == P(None, None)
    assert inside(lambda x: _sharding.whole_along(x, [1]) is x, x)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        (AxisType.Explicit, 1, True),
        (AxisType.Explicit, 8, True),
        (AxisType.Auto, 8, True),
        (AxisType.Auto, 1, False),
    ],
)
def test_types_tell_whether_arrays_may_be_spread(kind, size, expected):
    assert inside(_sharding.is_spread, ((8,), P()), on=mesh(kind, size)) == expected
    assert not _sharding.is_spread(jax.device_put(1.0))
