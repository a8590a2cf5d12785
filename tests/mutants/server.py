"""A process that has imported JAX and runs pytest in forks of itself, one for each line it reads.

A line of its input is a JSON list: the seconds that a run may take, the file for its output, and
the arguments of pytest. A line of its output is the exit status, or null after too long a run.
"""

import importlib
import json
import os
import signal
import sys

# Most tests import these. None of them imports jaxreg, which every fork imports anew.
COMMON = (
    "flax.linen",
    "flax.nnx",
    "jax",
    "optax",
    "PIL.Image",
    "pytest",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.pipeline",
)


def main() -> None:
    for name in COMMON:
        importlib.import_module(name)
    for line in sys.stdin:
        patience, output, arguments = json.loads(line)
        print(json.dumps(run_in_fork(patience, output, arguments)), flush=True)


def run_in_fork(patience: int, output: str, arguments: list[str]) -> int | None:
    child = os.fork()
    if child == 0:
        run(patience, output, arguments)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return None
    return os.waitstatus_to_exitcode(status)


def run(patience: int, output: str, arguments: list[str]) -> None:
    """Runs pytest and ends the process."""
    import pytest

    signal.alarm(patience)  # ends the process, also within compiled code
    with open(os.devnull) as nothing, open(output, "w") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        status = 3  # pytest's own error
        try:
            status = int(pytest.main(arguments))
        finally:
            sys.stdout.flush()
            os._exit(status)


if __name__ == "__main__":
    main()
