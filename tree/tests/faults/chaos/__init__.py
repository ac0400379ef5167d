"""A fleet under load while everything that can break is broken at random, and an account of it.

    plan     which fault, where, when (pure, from a seed)    link     a peer that stalls or breaks
    ledger   what became of each request (pure)              driver   does what the plan says
    arena    the fleet, and how its engines start            watcher  who was well, and when
    keeping  one registry, or two on one Redis               ending   what must hold at the end
    clients  the load

    run      all of it together: `python -m tests.faults.chaos --seed 7 --minutes 10`

Left out: a jumping clock, which has tests of its own (`tests/faults/test_clock_jumps.py`).
"""
