"""A pytest plugin that runs Flax's own tests with the classes of jaxreg in place of Flax's.

It replaces each class of ``flax.linen`` and ``flax.nnx`` that jaxreg has under the same name.
Flax's tests are not part of this project. Take them from a checkout of the installed release::

    git clone --depth 1 --branch v0.12.8 https://github.com/google/flax ../flax
    python -m pytest -n0 -p tests.flax_suite -c ../flax/pyproject.toml --rootdir ../flax \
        ../flax/tests/linen/linen_test.py ../flax/tests/nnx/nn/normalization_test.py

``--flax`` leaves Flax's classes in place, to tell our failures from Flax's.
"""

import inspect

import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import linen, nnx


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--flax", action="store_true", help="leave Flax's classes in place")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--flax"):
        return
    for ours, theirs in ((linen, flax_linen), (nnx, flax_nnx)):
        for name in shared_names(ours, theirs):
            setattr(theirs, name, getattr(ours, name))


def shared_names(ours: object, theirs: object) -> list[str]:
    """Names of the classes that both namespaces have."""
    public = ours.__all__
    return [name for name in public if inspect.isclass(getattr(theirs, name, None))]
