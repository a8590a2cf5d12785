"""Counts the programs that tests compile, and fails a test, or a suite, that compiles too many.

The suite spends most of its time compiling. A count is the same on every machine; a time is not.
"""

from pathlib import Path

import jax.monitoring
import pytest

COMPILED = "/jax/core/compile/backend_compile_duration"
LIMIT = 16  # programs of one test when it runs alone
CEILING = Path(__file__).with_name("ceiling.txt")  # programs of the default suite on two workers
TOO_MANY = (
    "{name} compiled {count} programs, the limit is {limit}. Compute references in NumPy, wrap "
    "each function that is called or differentiated in one `jax.jit`, share shapes between cases; "
    "or move the test to tests/exhaustive. If it needs them all, mark it: "
    "@pytest.mark.programs({count})."
)
OVER_THE_CEILING = (
    "The default suite compiled {count} programs, the ceiling in tests/ceiling.txt is {ceiling}. "
    "Make tests cheaper, or raise the ceiling and give the reason in the commit."
)


class Ratchet:
    """Pytest plugin with a limit for each test and a ceiling for the suite."""

    def __init__(self, config):
        self.config = config
        self.programs = 0
        self.before = 0
        self.of_workers = []
        jax.monitoring.register_event_duration_secs_listener(self.count)

    def count(self, event, _duration, **_):
        self.programs += event == COMPILED

    def pytest_runtest_setup(self, item):
        self.before = self.programs

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        result = yield
        if self.limits(item):
            mark = item.get_closest_marker("programs")
            check(item.nodeid, self.programs - self.before, mark.args[0] if mark else LIMIT)
        return result

    def limits(self, item):
        """Returns whether an item is a test of the default suite, not an example in a docstring."""
        exhaustive = self.config.option.exhaustive or "exhaustive" in item.path.parts
        return isinstance(item, pytest.Function) and not exhaustive

    def pytest_sessionfinish(self, session):
        worker = getattr(self.config, "workeroutput", None)
        if worker is not None:
            worker["programs"] = self.programs
            return
        self.of_workers.append(self.programs)
        if self.is_whole_suite() and message(sum(self.of_workers)):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_testnodedown(self, node):
        self.of_workers.append(getattr(node, "workeroutput", {}).get("programs", 0))

    def pytest_terminal_summary(self, terminalreporter):
        count = sum(self.of_workers)
        terminalreporter.write_line(f"{count} programs compiled")
        if self.is_whole_suite() and message(count):
            terminalreporter.write_line(message(count), red=True)

    def is_whole_suite(self):
        """Returns whether the whole default suite ran, on few enough workers to share programs."""
        option = self.config.option
        narrowed = option.exhaustive or option.shard or option.keyword or option.markexpr
        named = self.config.args_source is not pytest.Config.ArgsSource.TESTPATHS
        return not (narrowed or named) and len(self.of_workers) <= 3


def check(name, count, limit):
    """Fails the test of that name if it compiled more programs than its limit."""
    if count > limit:
        pytest.fail(TOO_MANY.format(name=name, count=count, limit=limit), pytrace=False)


def message(count):
    """Returns advice if the suite is over its ceiling, and otherwise an empty text."""
    ceiling = int(CEILING.read_text())
    return OVER_THE_CEILING.format(count=count, ceiling=ceiling) if count > ceiling else ""
