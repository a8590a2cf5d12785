"""Entry point of the command line: ``jaxreg`` and ``python -m jaxreg``."""

import os
import sys
from contextlib import suppress

_INTERRUPTED = 130


def entry() -> int:
    """Runs the command line; an interrupt ends the process immediately.

    Returns:
      The exit status. An interrupt ends the process with status 130 instead.
    """
    try:
        # Imported inside, so that an interrupt while modules load is handled, too.
        from jaxreg.cli.main import main

        status = main()
    except KeyboardInterrupt:
        print("jaxreg: interrupted; nothing was written.", file=sys.stderr)
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        # A normal exit would wait for compilations in other threads, which may crash meanwhile.
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(entry())
