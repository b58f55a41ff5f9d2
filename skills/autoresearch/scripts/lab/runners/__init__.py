"""Where a run is executed: one file for each kind, and the catalog that names them."""
