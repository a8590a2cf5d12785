"""Benchmarks of jaxreg against its peers.

Times on a shared machine mean little, but ratios of times measured side by side are reliable. So
jaxreg and its peers take turns in one process, and the shortest of several turns counts.

Install the peers with ``pip install -r benchmarks/requirements.txt``, then::

    python -m benchmarks                 # everything, and writes RESULTS.md
    python -m benchmarks dropout circles # some topics, which are only printed
    python -m benchmarks --quick         # tiny sizes, to test that everything runs
    python -m benchmarks accelerators    # on a GPU or a TPU, and writes ACCELERATORS.md

Every topic is a module with a function ``measure(small)`` that returns rows.
"""
