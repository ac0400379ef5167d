"""The mock engine: an OpenAI-compatible server without a model, with every fault on demand.

Operators rehearse with it, tests and benchmarks run against it (docs/mock-engine.md).

    settings  what it is told at start           faults   what may go wrong, and for whom (pure)
    text      the words it says (pure)           answers  a request's answer (pure but for ids)
    shapes    OpenAI's and others' JSON (pure)   script   an answer and its faults as actions (pure)
    gate      how many at once (pure)            stats    what it saw
    engine    owns all of these                  connection, websocket   bytes in, bytes out
"""
