"""Speed and memory beside other loaders: ``hatch run bench:compare`` and ``hatch run bench:soak``.

Read `experiments` first: it says what is measured, with whom, and what is expected. `compare` runs
each measurement in a process of its own (`isolated`, `measure`), and writes the report.

The maps have commands of their own: ``hatch run bench:overlap`` for loading during the step, and
``hatch run bench:device`` for bandwidth, stall and memory on a GPU.
"""
