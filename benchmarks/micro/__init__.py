"""Micro-benchmarks of pure parts, with pytest-benchmark; not part of the tests.

``python -m pytest benchmarks/micro`` runs them; ``--benchmark-autosave`` and
``--benchmark-compare`` hold one build against another.  A round handles ``RUNS`` task runs, and
``extra_info`` says so: divide by it.
"""
