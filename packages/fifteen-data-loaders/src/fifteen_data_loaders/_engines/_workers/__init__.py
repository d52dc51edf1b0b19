"""The engine with worker processes: two sides, and a line between them.

The modules of this folder run in the parent, the process of the training loop:

- `_pool`, the engine itself: minibatches are asked for and waited for;
- `_schedule`, which rows of which minibatch (`_flight`) are loaded where, and `_pace`, in how long
  runs;
- `_crew`, the workers, each a `_process`;
- `_arena`, the memory of minibatches;
- `_descriptors`, for all of them.

`_child` runs in the workers, and `_wire` is what both sides must agree on: the board, a slot's
format, the boot record, and how datasets, classes, exceptions and spilled samples travel. Neither
side imports the other, and the wire imports neither.

Nothing is imported here: a worker comes through before it knows how it is to import numpy.
"""
