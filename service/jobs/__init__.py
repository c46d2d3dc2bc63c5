"""Long work: kinds of job, and the worker that does them with checkpoints on the state database."""
