"""Pure decisions: states, retries, the graph, packing and the driver; no I/O, no clock, no threads."""
