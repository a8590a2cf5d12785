"""The HTML of the site has no lists without terms, and focusable regions where it scrolls."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false
from docs.site import markup


def test_long_signatures_are_lines():
    body = '<span class="sig-paren">(</span>\n\n<dl>\n<dd><em>key</em>,</dd>\n</dl>\n'
    mended = markup.mend_body(body)
    assert '<span class="sig-line"><em>key</em>,</span>' in mended
    assert "<dl>" not in mended


def test_what_scrolls_is_focusable():
    assert 'tabindex="0"' in markup.mend_body('<div class="highlight"><pre>x</pre></div>')
    assert 'aria-level="2"' in markup.mend_navigation('<p class="caption" role="heading">')
