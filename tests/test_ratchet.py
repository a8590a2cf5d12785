"""The limit of compiled programs and the two tiers do what they say."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from tests import conftest, ratchet


def test_a_test_over_its_limit_fails():
    ratchet.check("tests/test_new.py::test_it", 16, 16)
    message = r"test_it compiled 17 programs, the limit is 16\. .*move the test to tests/exhaustive"
    with pytest.raises(pytest.fail.Exception, match=message):
        ratchet.check("tests/test_new.py::test_it", 17, 16)


def test_a_suite_over_its_ceiling_fails():
    ceiling = int(ratchet.CEILING.read_text())
    assert not ratchet.message(ceiling)
    told = ratchet.message(ceiling + 1)
    assert f"compiled {ceiling + 1} programs, the ceiling in tests/ceiling.txt is {ceiling}" in told
    assert "raise the ceiling and give the reason in the commit" in told


def test_programs_are_counted(request):
    plugin = request.config.pluginmanager.get_plugin("ratchet")
    before = plugin.programs
    program = jax.jit(lambda x: jnp.sin(x) + 1)
    program(1.0)
    program(2.0)
    assert plugin.programs == before + 1


def item(name, few, marker=None, **values):
    marks = [pytest.mark.few(*few).mark]
    return SimpleNamespace(
        nodeid=f"tests/test_new.py::test_it[{name}]",
        callspec=SimpleNamespace(params=values),
        iter_markers=lambda _: marks,
        get_closest_marker=lambda name: marker if name == marker else None,
    )


def test_the_default_suite_has_the_first_and_one_other():
    """Of all combinations of thinned parameters, for each value of the others."""
    items = [
        item(f"{a}-{b}-{each}", ("a", "b"), a=a, b=b, each=each)
        for each in range(2)
        for b in range(3)
        for a in range(4)
    ]
    chosen = list(conftest.default_suite(items))
    assert chosen[0] is items[0]
    assert chosen[2] is items[12]
    assert [one.callspec.params["each"] for one in chosen] == [0, 0, 1, 1]
    # The other one depends on names alone, so that every worker of a run chooses the same.
    assert list(conftest.default_suite([items[0], *items[:0:-1]]))[1] is chosen[1]


def test_nothing_is_left_out_where_all_values_matter():
    items = [item(str(each), (), each=each) for each in range(5)]
    assert list(conftest.default_suite(items)) == items


def test_what_takes_seconds_has_its_first_case_or_none():
    items = [item(str(a), ("a",), "first", a=a) for a in range(3)]
    assert list(conftest.default_suite(items)) == items[:1]
    assert not list(conftest.default_suite([item("night", (), "exhaustive")]))


@pytest.mark.parametrize("text", ["3", "0/8", "9/8", "a/b"])
def test_a_wrong_shard_is_named(text):
    with pytest.raises(ValueError, match=rf"`--shard` must be I/N with 1 <= I <= N, got {text}"):
        conftest.shard(text)
