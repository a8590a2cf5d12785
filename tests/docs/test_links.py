"""Links from the site to documents outside of its folder lead to their pages."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false
import pytest

from docs.site import links


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("guides/randomness", "[r](../../benchmarks/RESULTS.md)", "[r](/benchmarks/results.md)"),
        ("advise", "[table](../README.md#which)", "[table](/index.md)"),
        ("advise", "[folder](digits)", "folder"),
        ("guides/loop", "[p](../../examples/lasso.py)", "[p](../../examples/lasso.py)"),
        ("guides/loop", "[s](../strengths.md#at-the-call)", "[s](/strengths.md#at-the-call)"),
        ("guides/loop", "[s](https://example.org/a/b.md)", "[s](https://example.org/a/b.md)"),
        ("project/changelog", "[s](docs/strengths.md)", "[s](/strengths.md)"),
        ("project/changelog", "[p](examples/lasso.py)", "p"),
        ("index", "layers[i](x) and ![p](../.github/report.png)", None),
        ("index", "```python\nlayers[i](a/b)\n```", None),
    ],
)
def test_links(page, text, expected):
    assert links.rewrite(text, page) == (text if expected is None else expected)


def test_every_document_outside_has_a_page():
    assert all(links.copies().values())
