"""Signatures print in words: types by their names, functions that are defaults by theirs."""

import inspect
import pydoc

import jax
import pytest
from flax import nnx as flax_nnx

from jaxreg import augment, dropout, linen, nnx, targets
from jaxreg._signatures import in_words
from tests.test_cases import NAMES

# Packages whose names print their annotations as their files write them.
POSTPONED = ("jaxreg.advice", "jaxreg.diagnosis", "jaxreg.explain")
SPREAD = (" at 0x", "jaxlib", "Union[", "Optional[", "typing.", "collections.abc")


def test_no_signature_spreads_a_type_or_an_address():
    for address, member in NAMES.items():
        if callable(member) and not address.startswith(POSTPONED):
            text = str(inspect.signature(member))
            assert not [part for part in SPREAD if part in text], f"{address}{text}"


def test_functions_print_types_as_words_and_defaults_by_name():
    assert str(inspect.signature(dropout.stochastic_depth)) == (
        "(key: jax.Array, block: Block, x: jax.Array, *, rate: ArrayLike, cond: "
        "Callable[..., Any] = cond, bits: Bits | None = None) -> jax.Array"
    )
    assert "operations: " in str(inspect.signature(augment.rand_augment))
    assert "= RAND_AUGMENT" in str(inspect.signature(augment.rand_augment))
    assert "= weighted_mean" in str(inspect.signature(targets.smoothed_cross_entropy))


def test_a_default_in_a_signature_is_the_value_itself():
    signature = inspect.signature(targets.smoothed_cross_entropy)
    assert signature.parameters["reduce"].default is targets.weighted_mean
    bound = signature.replace(parameters=[signature.parameters["reduce"]]).bind()
    bound.apply_defaults()
    assert bound.arguments == {"reduce": targets.weighted_mean}
    assert "= weighted_mean" in str(signature.replace(return_annotation=None))


def test_modules_print_their_fields():
    for module in (nnx.DropPath, linen.DropPath):
        text = str(inspect.signature(module))
        assert text.startswith("(rate: ArrayLike | None")
        assert "deterministic: bool | None" in text
    assert "rngs: " in str(inspect.signature(nnx.DropPath))
    helped = pydoc.plain(pydoc.render_doc(nnx.DropPath)).partition("NNX module for")[0]
    assert "rate: ArrayLike | None" in helped
    assert "*args" not in helped


def test_a_subclass_and_an_instance_have_their_own_signature():
    class Sign(nnx.Stochastic):
        def __init__(self, size: int, rngs: flax_nnx.Rngs):
            super().__init__(rngs=rngs)

        def transform(self, key, x):
            return x

    assert str(inspect.signature(Sign)) == "(size: int, rngs: nnx.Rngs)"
    called = inspect.signature(nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0)))
    assert list(called.parameters)[:1] == ["inputs"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int | None, "int | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        ("Later", "Later"),
        (list[dict[str, jax.Array]], "list[dict[str, jax.Array]]"),
    ],
)
def test_types_in_words(kind, text):
    def function(x):
        return x

    function.__annotations__ = {"x": kind}
    assert str(in_words(inspect.signature(function), {})) == f"(x: {text})"
