"""Entry point of the command line: ``jaxreg`` and ``python -m jaxreg``."""

import os
import signal
import sys
import threading
from contextlib import suppress

from jaxreg.cli.ending import Ending

_INTERRUPTED = 130


def entry() -> int:
    """Runs the command line; an interrupt ends the process immediately.

    Returns:
      The exit status. An interrupt ends the process with status 130 instead.
    """
    ending = Ending()
    _watch_interrupts(ending)
    try:
        # Imported inside, so that an interrupt while modules load is handled, too.
        from jaxreg.cli.main import main

        status = main(ending=ending)
    except KeyboardInterrupt:
        print(f"jaxreg: interrupted{ending.remark}.", file=sys.stderr)
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        _leave()
    return status


def _watch_interrupts(ending: Ending) -> None:
    """Starts a thread that ends the process at the first interrupt.

    Python would raise KeyboardInterrupt in the main thread: after a compiled program returns, or in
    a callback of the garbage collector, which ignores exceptions.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return
    # Threads inherit the mask, so the interrupt waits for the one that asks for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_wait_for_interrupt, args=(ending,), daemon=True).start()


def _wait_for_interrupt(ending: Ending) -> None:
    signal.sigwait({signal.SIGINT})
    # A progress bar hides the cursor.
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    print(f"{show_cursor}jaxreg: interrupted{ending.remark}.", file=sys.stderr)
    _leave()


def _leave() -> None:
    """Ends the process; a normal exit would wait for compilations in other threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(entry())
