"""How fast jaxreg is beside its peers.

A time on a shared machine means little, a ratio of times taken side by side means something: every
peer takes its turns between ours, in one process, and the shortest of several turns counts.

Install the peers with ``pip install -r benchmarks/requirements.txt``, then::

    python -m benchmarks                 # everything, and writes RESULTS.md
    python -m benchmarks dropout circles # some topics, printed alone
    python -m benchmarks --small         # tiny sizes: does everything run?

Every topic is a module with a function ``measure(small)`` that returns rows.
"""
