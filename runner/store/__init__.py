"""The run record: schema, one writer thread, queries."""
