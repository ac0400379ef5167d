"""A fleet under load while everything that can break is broken at random, and an account of it.

    plan     which fault, where, when (pure, from a seed)    link     a peer that stalls or breaks
    ledger   what became of each request (pure)              driver   does what the plan says
    arena    the fleet, and how its engines start            watcher  who was well, and when
    keeping  one registry, or two on one Redis               ending   what must hold at the end
    clients  the load

    run      all of it together: `python -m tests.faults.chaos --seed 7 --minutes 10`

Left out: a jumping clock. Libfaketime reaches neither uvloop's clock nor the kernel's timers, so
what it shows is itself; that wall time decides nothing is held by a lint rule and by the pure
tests, in which time is an argument.
"""
