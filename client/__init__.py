"""What runs outside the cluster: the SDK, the worker, the command line."""
