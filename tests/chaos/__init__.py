"""Each promise of the system and the faults that prove it; here, because it stands on the tests' tiny model and samples.

`make chaos` runs the long form, row by row, into `benchmarks/results/chaos.json`; `make test` runs the short one.
"""
