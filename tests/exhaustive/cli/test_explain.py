"""The explanation of the network of a study."""

import re

from jaxreg.cli.main import main


def test_explain_takes_a_recipe(capsys):
    recipe = "l2=0.5,dropout=0.25,batch_norm,max_norm=2"
    assert main(["explain", "--recipe", recipe]) == 0
    text = capsys.readouterr().out
    assert re.search(r"kernel +decay +0\.0\d+  of the weight per step", text)
    assert re.search(r"kernel +projection +2  largest norm of a unit", text)
    assert re.search(r"Dropout +0\.25  rate", text)
    assert "conflict: dropout before batch norm" in text
    assert "note: decay on weights before a norm" in text
