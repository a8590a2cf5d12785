"""The kind of rows."""

import numpy as np
import pytest

from jaxreg.study import data


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((5, 3), np.float32, "table"),
        ((5, 3), np.int32, "text"),
        ((5, 3, 2), np.float32, "series"),
        ((5, 3, 2), np.int32, "series"),
        ((5, 3, 2, 1), np.float32, "image"),
    ],
)
def test_the_shape_of_a_row_tells_its_kind(shape, dtype, kind):
    assert data.kind(np.zeros(shape, dtype)) == kind


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1, 1, 1)])
def test_rows_of_other_shapes_raise(shape):
    with pytest.raises(ValueError, match=r"`x` must contain rows of table .*, got shape \("):
        data.kind(np.ones(shape))


def test_a_missing_module_names_the_line_that_installs_it():
    with pytest.raises(ImportError, match=r"a study needs nowhere, .*: pip install .jaxreg.study"):
        data.extra("nowhere.at_all")
    with pytest.raises(ImportError, match=r"a study needs nowhere, .*: pip install somewhere$"):
        data.extra("nowhere.at_all", install="somewhere")
