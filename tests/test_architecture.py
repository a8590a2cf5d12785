"""Who may import whom, and how large things may be."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "jaxreg"
FILES = sorted(ROOT.rglob("*.py"))
FOLDERS = (
    "advice", "augment", "augment/matrices", "augment/series", "augment/tables", "augment/text",
    "diagnosis", "dropout", "information", "normalization", "penalties", "projections", "proximal",
    "reparam", "smoothness", "testing",
)  # fmt: skip
PURE = sorted(
    path
    for place in ("", *(f"{folder}/" for folder in FOLDERS))
    for path in ROOT.glob(f"{place}*.py")
)
ADAPTERS = sorted([*ROOT.glob("linen/*.py"), *ROOT.glob("nnx/*.py")])


OUTER = tuple(
    f"jaxreg.{n}" for n in ("cli", "explain", "linen", "nnx", "study", "training", "transforms")
)
MOST_FLOORS = 9


def imports(path):
    """Full names of everything a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def relative(path):
    return str(path.relative_to(ROOT))


def test_the_core_knows_no_framework():
    known = {"jax", "numpy", "jaxreg", *sys.stdlib_module_names}
    strangers = {
        f"{relative(path)} imports {name}"
        for path in PURE
        if path.name != "__main__.py"
        for name in imports(path)
        if name.split(".")[0] not in known or name.startswith(OUTER)
    }
    assert not strangers


@pytest.mark.parametrize("package", ["penalties", "projections", "proximal"])
def test_plain_mathematics_imports_ground_rooms_alone(package):
    for path in (ROOT / package).glob("*.py"):
        for name in imports(path):
            own = name.startswith((f"jaxreg.{package}.", "jaxreg._"))
            assert own or not name.startswith("jaxreg"), f"{relative(path)} imports {name}"


def test_adapters_hold_no_mathematics():
    words = ("jax.numpy", "jax.lax", "jax.random", "jnp.", "math.")
    mathematics = set()
    for path in ADAPTERS:
        code = ast.unparse(without_docstrings(ast.parse(path.read_text())))
        named = {name for name in imports(path) if f"{name}.".startswith(words)}
        mathematics |= {f"{relative(path)} imports {name}" for name in named}
        mathematics |= {f"{relative(path)} uses {word}" for word in words if word in code}
    assert not mathematics


def test_transformations_know_no_flax():
    for path in ROOT.glob("transforms/*.py"):
        strangers = {
            n
            for n in imports(path)
            if n.startswith(("flax", "jaxreg.linen", "jaxreg.nnx", "jaxreg.study"))
        }
        assert not strangers, f"{relative(path)} imports {strangers}"


def rooms():
    """The folders and modules of the package, and what each of them imports, lazily or at once."""
    doors = (ROOT / "__init__.py", ROOT / "__main__.py")
    graph = {room_of(path): set() for path in FILES if path not in doors}
    for path in FILES:
        own = room_of(path)
        named = {name.split(".")[1] for name in imports(path) if name.startswith("jaxreg.")}
        if own in graph:
            graph[own] |= (named & set(graph)) - {own}
    return graph


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def test_imports_go_down_over_few_floors():
    """A circle raises; a room is one floor above the highest that it imports."""
    graph = rooms()
    floors = {}
    for room in graphlib.TopologicalSorter(graph).static_order():
        floors[room] = 1 + max((floors[below] for below in graph[room]), default=0)
    assert max(floors.values()) <= MOST_FLOORS, floors


def test_files_and_functions_stay_small():
    large = []
    for path in FILES:
        text = path.read_text()
        tree = ast.parse(text)
        if text.count("\n") - docstring_lines(tree) > 400:
            large.append(f"{relative(path)} has over 400 lines of code: split it by topic")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and length(node) > 50:
                large.append(f"{relative(path)} {node.name}: {length(node)} lines")
    assert not large


def docstring_lines(tree):
    """Lines of all docstrings of a file."""
    lines = 0
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            lines += node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


def length(function):
    """Lines of a function's body, without its docstring."""
    documented = ast.get_docstring(function) and len(function.body) > 1
    return function.end_lineno - function.body[1 if documented else 0].lineno + 1


@pytest.mark.parametrize("folder", ["jaxreg", "examples", "benchmarks"])
def test_nothing_loads_code_from_data(folder):
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in sorted((ROOT.parent / folder).rglob("*.py")):
        assert not {name.split(".")[0] for name in imports(path)} & forbidden, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).removeprefix("builtins.")
                assert called not in {"eval", "exec", "__import__", "torch.load"}, path
                assert "allow_pickle" not in {keyword.arg for keyword in node.keywords}, path
            assert not isinstance(node, ast.Attribute) or node.attr not in forbidden, path


def test_importing_jaxreg_imports_no_framework():
    code = (
        "import sys, jaxreg, jaxreg.advice, jaxreg.diagnosis, jaxreg.training.early_stopping; "
        "[getattr(jaxreg, name) for name in jaxreg.__all__]; "
        "print([m for m in ('flax', 'optax', 'sklearn', 'matplotlib', 'rich') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_jaxreg_loads_no_further_modules_of_jax():
    """The import of jax.scipy.linalg alone would take a quarter of the time of jaxreg."""
    code = (
        "import sys, jax, numpy; before = set(sys.modules); import jaxreg; "
        "[getattr(jaxreg, name) for name in jaxreg.__all__]; "
        "print(sorted(m for m in set(sys.modules) - before if m.split('.')[0] == 'jax'))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_packages_are_imported_on_first_use():
    """All are attributes, and only those that a program uses take time to import."""
    code = (
        "import sys, jaxreg; "
        "alone = [m for m in sys.modules if m.startswith('jaxreg.')] == ['jaxreg._version']; "
        "names = (*jaxreg.__all__[1:], 'advice', 'diagnosis', 'explain', 'linen', 'nnx', "
        "'study', 'testing', 'training', 'transforms'); "
        "listed = [n in dir(jaxreg) for n in names]; before = 'flax' in sys.modules; "
        "own = [getattr(jaxreg, n).__name__ for n in names]; "
        "own += [jaxreg.training.statistics.__name__]; "
        "inner = ['statistics' in dir(jaxreg.training)]; "
        "print(alone, all(listed + inner), before, len(own), hasattr(jaxreg, 'transform'), "
        "hasattr(jaxreg.training, 'statistic'))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "True", "False", "22", "False", "False"]


def without_docstrings(tree):
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
