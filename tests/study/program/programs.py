"""Programs of recipes, their parts as Python objects, and what reads their sources."""

import ast
import builtins

from jaxreg.study import CLASSIFICATION, Policy, Recipe, conv_net, grid, mlp, transformer
from jaxreg.study.arms import ARMS
from jaxreg.study.program import Origin, source

ROWS = 60
# By kind: the data with its number of classes, and the network.
KINDS = {
    "table": ("circles", 2, mlp((8,), 2)),
    "image": ("digits", 10, conv_net((4,), 10)),
    "series": ("digit_rows", 10, transformer(8, 1, 10)),
    "text": ("text", 2, transformer(8, 1, 2, vocabulary=109)),
}
OF_IMAGES = ("drop_path", "spatial_dropout")
POLICY = Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))
TABLE_ARMS = [a for a in ARMS.values() if "table" in a.kinds and a.name not in OF_IMAGES]
# Everything that suits a table at once; of the norms, one.
EVERYTHING = Recipe(
    {a.name: a.grid.low if a.grid else True for a in TABLE_ARMS if not a.slot}
    | {"batch_norm": True, "early_stopping": 3.0}
)


def recipe_of(arm):
    """The arm at one strength, with what it needs."""
    return grid(arm.name, count=1).recipes[0]


def kind_of(arm):
    return "image" if arm.name in OF_IMAGES else arm.kinds[0]


def program(recipe, kind="table", *, objective=CLASSIFICATION, origin=None, epochs=2, remarks=()):
    """Source of the program of a recipe on the built-in data of a kind."""
    name, classes, make = KINDS[kind]
    if origin is None:
        origin = Origin(
            data_import=f"from jaxreg.study.data.builtin import {name}",
            data_code=f"{name}(train_size={ROWS})",
            batch_size=20,
            learning_rate=0.01,
            network=make(recipe),
        )
    num_classes = classes if objective is CLASSIFICATION else None
    return source(
        recipe, origin, objective, epochs=epochs, num_classes=num_classes, remarks=remarks
    )


def loaded(text):
    """The names that a program defines."""
    names = {"__name__": "recipe"}
    exec(compile(text, "recipe.py", "exec"), names)
    return names


def imported(tree):
    """Names that a program imports."""
    nodes = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    aliases = [alias for node in nodes for alias in node.names]
    return [(alias.asname or alias.name).partition(".")[0] for alias in aliases]


def names_of(tree):
    """Names that a program reads, and those that it binds anywhere."""
    nodes = list(ast.walk(tree))
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return read, bound | set(dir(builtins)) | {"__name__"}
