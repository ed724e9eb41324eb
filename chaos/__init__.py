"""What loads the cluster and breaks things: local clusters, benchmarks, faults."""
