"""The command line of ``jaxreg``: thin layers over the packages, one module per command."""
