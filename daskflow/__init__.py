"""daskflow: Python workflows on a Dask cluster."""
