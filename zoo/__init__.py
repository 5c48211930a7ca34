"""Teachers: finding and reading checkpoints, bundled agents, benchmarks."""
