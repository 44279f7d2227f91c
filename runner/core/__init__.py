"""Pure decisions: states, retries, graph, packing, driver; no I/O, no clock, no threads."""
