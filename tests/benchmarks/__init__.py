"""Speed and memory beside other loaders: ``hatch run bench:compare`` and ``hatch run bench:soak``.

Read `experiments` first: it says what is measured, with whom, and what is expected. `compare` runs
each measurement in a process of its own (`isolated`, `measure`), and writes the report.
"""
