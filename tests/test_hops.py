"""The way from a module to its mathematics is short."""

import pytest

from tests import hops


@pytest.mark.programs(40)  # An eager call compiles each of its operations.
def test_dropout_is_at_most_thirty_one_functions_from_its_bits():
    counted = hops.dropout()
    assert "_bits.hash_index" in counted.functions
    assert len(counted.functions) <= 31, counted.functions


def test_functions_are_counted_once_and_calls_each_time():
    def inner():
        pass

    def outer():
        inner()
        inner()

    counted = hops.count(outer, __file__)
    assert (counted.calls, len(counted.functions), counted.files, counted.depth) == (3, 2, 1, 2)
