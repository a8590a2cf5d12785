"""Collecting sources, and the imports that a text needs."""

from jaxreg.study.arms import batches, layers, terms
from jaxreg.study.program.sources import Sources, names_in, sort_imports


def test_a_function_comes_after_what_it_uses_of_its_file():
    sources = Sources()
    sources.add(layers.gate_units)
    assert list(sources.texts) == ["Gates", "gate_units"]
    assert sources.texts["gate_units"].startswith("def gate_units(x: jax.Array")
    assert "class Gates(nn.Module):" in sources.texts["Gates"]
    # Twice is once, and another text takes the place of its own.
    sources.add(layers.gate_units, "def gate_units(): pass")
    assert "pass" not in sources.texts["gate_units"]
    sources.add(layers.drop_units, "def drop_units(): pass")
    assert sources.texts["drop_units"] == "def drop_units(): pass"


def test_imports_are_those_of_the_files():
    sources = Sources("import optax\nfrom my_data import load as loaded\nimport a.b\nimport c as d")
    sources.add(terms.elastic_net_penalty)
    sources.add(batches.drop_words)
    body = "\n".join(sources.texts.values())
    assert sources.imports_for(body + "\noptax.sgd(1); loaded(); a.b.c(); d()") == (
        "from functools import partial\n"
        "from typing import Any\n"
        "\n"
        "import a.b\nimport c as d\n"
        "import jax\nimport jax.numpy as jnp\nimport optax\n"
        "from my_data import load as loaded\n"
        "\n"
        "from jaxreg import dropout, masks, penalties\n"
        "from jaxreg.study.data.sentences import PADDING, UNKNOWN"
    )
    assert sources.imports_for("x = 1") == ""
    # What was given first stays: a file does not change the import of a name.
    sources.add(layers.drop_units)
    assert sources.imports["optax"] == "import optax"


def test_long_imports_are_split():
    names = [f"a_long_name_{index}" for index in range(8)]
    text = sort_imports([f"from jaxreg.study import {name}" for name in names])
    assert text.startswith("from jaxreg.study import (\n    a_long_name_0,\n")
    assert text.endswith("    a_long_name_7,\n)")
    assert sort_imports(["from a import c", "from a import b"]) == "from a import b, c"


def test_names_are_those_that_a_text_reads():
    assert names_in("y = f(x).attribute + 'z'") >= {"f", "x"}
    assert not names_in("y = f(x).attribute + 'z'") & {"attribute", "z"}
