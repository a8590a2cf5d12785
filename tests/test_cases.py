"""Every public name has a row in ``tests/cases``, or a test of its package that names it."""

import inspect
import re
import types
from pathlib import Path

import pytest

import jaxreg
from jaxreg import advice, diagnosis, explain, linen, nnx, testing, training, transforms
from jaxreg.training import statistics
from tests import cases

TESTS = Path(__file__).parent
ROWS = {case.function for case in cases.FUNCTIONS}
ROWS |= {case.factory for case in cases.TRANSFORMATIONS}


def public_names():
    """The address and the object of everything public but modules."""
    modules = [jaxreg, advice, diagnosis, explain, statistics, training]
    modules += [transforms, linen, nnx, testing]
    for module in (jaxreg, jaxreg.augment, training):
        members = (getattr(module, name) for name in module.__all__)
        modules += [
            member
            for member in members
            if isinstance(member, types.ModuleType) and hasattr(member, "__all__")
        ]
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name in module.__all__
        if not name.startswith("__") and not isinstance(getattr(module, name), types.ModuleType)
    }


NAMES = public_names()


def check_row(address, member):
    """Fails where a function has neither a row nor an entry among those without one."""
    if inspect.isfunction(member) and not address.startswith(("jaxreg.linen", "jaxreg.nnx")):
        assert member in ROWS or address in cases.WITHOUT_ROW, (
            f"{address} has no row: add a `Case` or a `Transformation` to tests/cases, or its "
            "address to `WITHOUT_ROW` there if it is no regularizer of arrays"
        )


def check_named(address, member):
    """Fails where neither a row nor a test of its package mentions a function.

    Records are tested by the functions that return them, and modules by ``test_modules.py``.
    """
    if not inspect.isfunction(member) or member in ROWS:
        return
    package, *_, name = address.removeprefix("jaxreg.").split(".")
    folders = [TESTS / package, TESTS / "exhaustive" / package]
    files = [path for folder in folders for path in folder.rglob("test_*.py")]
    files += [*TESTS.glob(f"test_{package}.py"), TESTS / "cases" / "modules.py"]
    files.append(TESTS / "exhaustive" / "test_contract.py")
    named = re.compile(rf"\b{name}\b")
    assert any(named.search(path.read_text()) for path in files), (
        f"no test in tests/{package} mentions {address}: write one, in the file of its module"
    )


@pytest.mark.parametrize("check", [check_row, check_named])
def test_every_public_name_is_tested(check):
    for address, member in NAMES.items():
        check(address, member)


def test_no_entry_is_left_over():
    assert set(NAMES) >= cases.WITHOUT_ROW
    assert not ROWS & {NAMES[address] for address in cases.WITHOUT_ROW}


def test_a_public_name_without_a_row_fails():
    def new(x):
        return x

    with pytest.raises(AssertionError, match=r"jaxreg.dropout.new has no row: add a `Case`"):
        check_row("jaxreg.dropout.new", new)
    with pytest.raises(AssertionError, match=r"no test in tests/dropout mentions .*brand_new"):
        check_named("jaxreg.dropout.brand_new", new)


def test_every_public_name_is_documented():
    for address, member in NAMES.items():
        doc = inspect.getdoc(member) or ""
        assert doc, f"{address} has no docstring"
        if inspect.isfunction(member):
            assert "Args:" in doc, f"{address} documents no arguments"
            assert ">>>" in doc, f"{address} has no example"
