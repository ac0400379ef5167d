"""Requests that wait for a place: who is next, how long it takes, who is told to come back. Pure.

slots   how many requests an upstream takes at once, declared or learnt
fair    the order: weighted between bands, between callers, first come first served within one
line    those that wait for one model: their order, and the pace at which they go
queues  all lines: who may wait, who is offered what has come free
asked   what a request's headers say of its waiting
told    what those hear that may not wait
"""
