"""The code of the advice: it can be called as written, and its sources can be opened."""

import inspect
import re

import jax
import pytest

from jaxreg.advice import works
from jaxreg.advice.rows import ROWS
from jaxreg.advice.starts import STARTS
from tests.advice.calls import evaluate, resolve

# Sites that show a work, or at least its abstract, without an account.
SITES = r"arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\d{4}/\S+|jmlr\.org/papers/\S+\.html|"
SITES += r"openreview\.net/forum\?id=\w+|papers\.nips\.cc/paper/\d{4}/hash/\w+-Abstract\.html"
WORK = re.compile(rf"[A-Z][^\d;]+ \d{{4}}, https://({SITES})")
NAMES = {name: value for name, value in vars(works).items() if name.isupper() and name != "OURS"}


@pytest.mark.parametrize("name", STARTS)
def test_every_call_runs_at_both_ends(name):
    start = STARTS[name]
    assert start.call.count(start.address) == 1
    for strength in {start.low, start.high}:
        made = jax.eval_shape(lambda s=strength: evaluate(start.call.format(f"{s:g}")))
        assert jax.tree.leaves(made)


@pytest.mark.parametrize("name", STARTS)
def test_the_strength_is_an_argument_of_the_code_or_a_factor(name):
    start = STARTS[name]
    assert start.low <= start.high
    if not start.high:
        assert "{0}" not in start.call
        return
    if not start.argument:
        assert start.call.startswith("{0} * jaxreg.")
        return
    assert f"{start.argument}={{0}}" in start.call
    assert start.argument in inspect.signature(resolve(start.address)).parameters
    assert start.source


@pytest.mark.parametrize("name", NAMES)
def test_works_have_an_address_that_opens(name):
    assert WORK.fullmatch(NAMES[name])


def test_everything_that_is_said_has_a_source():
    """A statement cites a work; a range cites one, or is called ours, or is a default."""
    for row in ROWS:
        assert WORK.fullmatch(row.source)
    for start in STARTS.values():
        assert not start.source or re.search(f"{WORK.pattern}|{works.OURS}", start.source)
    used = " ".join([row.source for row in ROWS] + [start.source for start in STARTS.values()])
    assert [name for name, work in NAMES.items() if work not in used] == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.against], ids=lambda r: r.technique)
def test_objections_cite_a_work_that_stands_beside_them(row):
    cited = re.findall(r"([A-Z]\w+)(?: et al\.| and [A-Z]\w+)? \d{4}", row.against)
    assert cited
    for name in cited:
        assert re.search(rf"{name}[^;]* \d{{4}}, https://", f"{row.source}; {row.against}"), name
