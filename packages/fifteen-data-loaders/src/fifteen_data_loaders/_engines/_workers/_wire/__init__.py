"""What both processes agree on, and what travels between them.

`_boot_record` tells a worker all that it needs. `_payload` holds the dataset, as `_pickler` pickles
it, and `_unpickling` says whether it is just arriving. `_board` has the jobs and their answers, and
`_slot` says what lies where in a minibatch's memory. What fits no slot goes through a `_spill`
file, exceptions as in `_exceptions`, and classes that only the parent can import as in
`_shared_classes`.
"""
