"""``python -m jaxreg``: the command line of :mod:`jaxreg.study`."""

import sys

from jaxreg.study.cli import main

if __name__ == "__main__":
    sys.exit(main())
