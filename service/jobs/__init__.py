"""Long work as jobs: checkpoints, leases, cancellation; each kind is a file and a row."""
