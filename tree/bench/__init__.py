"""Side-by-side benchmarks, run by hand and by `make bench-quick` and `make bench-times`.

    quick     CPU per JSON request and per event: our router against nginx, in one run
    times     how long after: a departure, a registration, an engine's death
    load      requests in, answers counted            cpu       what a process has used, and where
    servers   the servers under test                  figures   numbers into words

Claims are ratios from one run only: docs/benchmarks.md.
"""
