"""How fast is daskflow, against plain Dask on the same cluster in the same run?

``python -m benchmarks list``, ``run [W1 …] [--quick] [--check] [--rounds N] [--json FILE]`` and
``report FILE``.

Every figure is a ratio to a control that is measured in turns with it; absolute times are printed
and never asserted.  `workloads` says what is run, `engines` by whom, `harness` how it is timed,
`cpu` what it costs, `budgets` what a build must not fall below.
"""
