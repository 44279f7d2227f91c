"""Other engines on the same work, each in a virtual environment of its own; all are optional.

`environments` makes the environment of a peer, `comparing` runs the peers in turns with plain Dask
and daskflow, and ``python -m benchmarks.peers PEER CASE SIZE`` is what runs inside such an
environment: one engine, one workload, one line of JSON.  The ``*_engine`` modules say how each peer
submits; they are imported only there.
"""
