"""Entry point of the command line: ``jaxreg`` and ``python -m jaxreg``."""

import os
import signal
import socket
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
        # Imported here, so that an interrupt while modules load is handled too.
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

    Without it, Python would raise KeyboardInterrupt in the main thread, where a compiled program
    delays it and a callback of the garbage collector ignores it. ``ending`` tells what to print.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.signal(signal.SIGINT, _do_nothing)
    # Python's handler in C writes the signal number there at once.
    signal.set_wakeup_fd(theirs.detach())
    threading.Thread(target=_wait_for_interrupt, args=(ours, ending), daemon=True).start()


def _do_nothing(number: int, frame: object) -> None:
    """Takes the place of the handler that raises KeyboardInterrupt."""


def _wait_for_interrupt(numbers: socket.socket, ending: Ending) -> None:
    while signal.SIGINT not in numbers.recv(1):
        pass
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
