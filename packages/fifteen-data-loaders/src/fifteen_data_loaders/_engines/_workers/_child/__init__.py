"""What runs in a worker process: `_boot`, within the `_start_limit`, and then `_worker`."""
