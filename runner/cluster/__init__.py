"""Everything that touches Dask: sessions, dispatch of parcels, and the executor on the workers."""
