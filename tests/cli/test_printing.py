"""Text in color on a terminal, and unchanged elsewhere."""

import re
import sys

from jaxreg.cli.printing import style_of
from tests.cli.helpers import run_command


def test_a_terminal_gets_the_same_words_in_color(capsys, monkeypatch):
    plain = run_command(capsys, "advise", "--batch-size", 2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    colored = run_command(capsys, "advise", "--batch-size", 2)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain
    assert style_of("avoid batch_norm") == "red"
    assert style_of("decay: jaxreg") == "bold"


def test_styles_of_lines():
    styles = {line: style_of(line) for line in (
        "avoid batch_norm", "decay: jaxreg", "  because it rises", "  try: less", "", "  what",
        "conflict: decay", "  see: a paper", "  but: it may not", "  fix: a mask",
    )}  # fmt: skip
    assert list(styles.values()) == [
        "red", "bold", "", "green", "", "", "bold red", "dim", "yellow", "green",
    ]  # fmt: skip
