"""One copy of the project, in which faults are tried one after the other."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Self

from tests.mutants import ROOT, changed
from tests.mutants.row import Mutant

KILLED, ELSEWHERE, EQUIVALENT = "killed", "killed elsewhere", "equivalent"
SURVIVED, ERROR = "SURVIVED", "ERROR"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "shared"
)
START = 1_000_000_000  # the time of the first file written, in seconds
BYTECODE = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")  # the copy keeps its own
PATIENCE = 300.0  # seconds for the tests of a fault; a longer run hangs and counts as killed
PASSED, FAILED, BROKEN_OFF, NOTHING_RUN = 0, 1, 2, 5  # exit statuses of pytest

Command = tuple[str, ...]  # arguments of pytest


class Verdict(NamedTuple):
    """The outcome for one fault."""

    mutant: Mutant
    word: str
    seen_by: str  # the first test that failed, or the reason
    seconds: float


class Result(NamedTuple):
    """The end of a run of tests."""

    status: int | None  # None if it took too long
    first: str  # the first test that failed
    seconds: float

    @property
    def has_passed(self) -> bool:
        return self.status in (PASSED, NOTHING_RUN)

    @property
    def has_failed(self) -> bool:
        return self.status in (FAILED, BROKEN_OFF, None)


class Bench:
    """The copy, and the results of each module's tests in it without a fault."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="jaxreg-mutants-")
        self.copy = Path(self.folder.name, "project")
        self.sound: dict[Command, Result] = {}
        self.time = START

    def __enter__(self) -> Self:
        shutil.copytree(ROOT, self.copy, ignore=LEFT_OUT)
        # -P keeps the modules beside the server out of its way.
        self.server = self.start("-P", "tests/mutants/server.py")
        imported, _ = self.start("-c", "import jaxreg; print(jaxreg.__file__)").communicate()
        if Path(imported.strip()).resolve() != (self.copy / "jaxreg" / "__init__.py").resolve():
            raise RuntimeError(f"Python must import the copy, got {imported}")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.communicate()  # It ends with its input.
        self.folder.cleanup()

    def try_out(self, mutant: Mutant) -> Verdict:
        """Runs the tests of a fault's module, and all tests of its package if they pass."""
        start = time.perf_counter()
        word, seen_by = self.judge(mutant)
        return Verdict(mutant, word, seen_by, time.perf_counter() - start)

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        own = own_commands(mutant, self.copy)
        if not own:
            return ERROR, "no tests of this module were found"
        for command in dict.fromkeys((*own, *whole_package(mutant, self.copy))):
            sound = self.run_sound(command)
            if not sound.has_passed:
                return ERROR, f"without the fault, {sound.first or command} fails"
            result = self.run_with(mutant, command, max(PATIENCE, 3 * sound.seconds))
            if result.has_failed:
                return KILLED if command in own else ELSEWHERE, result.first or "it hangs"
            if not result.has_passed:
                return ERROR, f"pytest ended with {result.status} for {command}"
        return (EQUIVALENT, mutant.equivalent) if mutant.equivalent else (SURVIVED, "")

    def run_sound(self, command: Command) -> Result:
        """Runs tests without a fault, once for all faults."""
        if command not in self.sound:
            self.sound[command] = self.pytest(command, 4 * PATIENCE)
        return self.sound[command]

    def run_with(self, mutant: Mutant, command: Command, patience: float) -> Result:
        path = self.copy / "jaxreg" / mutant.path
        source = path.read_text()
        self.write(path, changed(mutant, source))
        try:
            return self.pytest(command, patience)
        finally:
            self.write(path, source)

    def write(self, path: Path, source: str) -> None:
        """Writes a file with a time of its own, since Python takes bytecode of an equal time."""
        path.write_text(source)
        self.time += 1
        os.utime(path, (self.time, self.time))

    def pytest(self, command: Command, patience: float) -> Result:
        start = time.perf_counter()
        output = self.copy.with_name("output")
        arguments = ("-x", "-q", "-n0", "-rfE", "-p", "no:cacheprovider", *command)
        print(json.dumps((int(patience), str(output), arguments)), file=self.server.stdin)
        self.server.stdin.flush()
        status = json.loads(self.server.stdout.readline())
        found = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", output.read_text(), re.MULTILINE)
        return Result(status, found[1] if found else "", time.perf_counter() - start)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        # The cache holds the programs that a fault does not change.
        own = {"PYTHONPATH": str(self.copy), "JAXREG_TEST_CACHE": str(self.copy.with_name("cache"))}
        kept = {name: value for name, value in os.environ.items() if name not in BYTECODE}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.copy,
            env={**kept, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def own_commands(mutant: Mutant, root: Path) -> list[Command]:
    """Lists the runs of the default suite that should notice a fault, the likeliest first."""
    path = Path(mutant.path).with_suffix("")
    room = path.parts[0]
    helper = path.name.startswith("_")
    modules = [Path("tests", path.with_name(f"test_{path.name.lstrip('_')}.py"))]
    modules += map(Path, mutant.tests)
    files = [str(module) for module in modules if (root / module).exists()]
    commands: list[Command] = [tuple(files)] if files else []
    if (helper and len(path.parts) > 1) or not files:
        commands += whole_package(mutant, root)
    rows = [path.parent if helper else path]
    rows += [Path(*Path(test).parts[1:-1], test_of(test)) for test in mutant.tests]
    names = [".".join(row.parts) for row in rows if row.parts]
    # A row's name is at the start of the parameter, or after another parameter.
    expression = " or ".join(f"[{name}. or -{name}." for name in names)
    if room == "testing":
        expression = "fail"  # the tests that show that the contract can fail
    if expression:
        commands.append(("tests/test_contract.py", "-k", expression))
    modules_of_flax = "tests/test_modules.py"
    if room in ("linen", "nnx") and (root / modules_of_flax).exists():
        commands.append((modules_of_flax,))
    return commands


def whole_package(mutant: Mutant, root: Path) -> list[Command]:
    folder = Path("tests", mutant.path).parent
    exists = len(folder.parts) > 1 and (root / folder).is_dir()
    return [(str(folder),)] if exists else []


def test_of(file: str) -> str:
    """The module that a file of tests belongs to."""
    return Path(file).stem.removeprefix("test_")
