"""Names in running text find the page of the name that they mean."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false

import pytest

pytest.importorskip("sphinx")

from docs.site import names

KNOWN = {
    "dropout.drop_path",
    "penalties.l1",
    "proximal.l1",
    "linen.Dropout",
    "nnx.Dropout",
    "linen.fold_batch_norm",
    "nnx.fold_batch_norm",
    "normalization.fold_batch_norm",
    "augment.matrices.chain",
    "training.early_stopping.update",
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dropout.drop_path", "dropout.drop_path"),
        ("jaxreg.dropout.drop_path", "dropout.drop_path"),
        ("dropout.drop_path(key, x, rate=p)", "dropout.drop_path"),
        ("rl.Dropout(0.5)", "linen.Dropout"),
        ("rx.Dropout", "nnx.Dropout"),
        ("matrices.chain", "augment.matrices.chain"),
        ("early_stopping.update(..., start=n)", "training.early_stopping.update"),
        ("drop_path", "dropout.drop_path"),
        ("fold_batch_norm", "normalization.fold_batch_norm"),
        ("l1", None),
        ("rate", None),
        ("dropout.unknown", None),
        ("x = dropout.drop_path", None),
        ("optax.adam", None),
    ],
)
def test_a_name_has_at_most_one_address(text, found):
    assert names.address(text, KNOWN, names.single_names(KNOWN)) == found
