"""Each promise of the system and the faults that prove it; among the tests, whose tiny model and samples it needs.

`make chaos` runs the long form, row by row, into `tests/chaos/results.json`; `make test` runs the short one.
"""
