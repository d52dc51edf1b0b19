"""What loads minibatches. Each engine is in the parent; `_engine` says what they have in common.

`_inline` loads in the thread that asks, `_threads` in threads of this process, `_arrays` out of
memory, and `_workers` in worker processes.
"""
