"""Clients' keys: kept as digests, known by every router in less than a second.

record   a key as it is kept; how one is made and told apart (pure)
ring     all keys that hold now: a key's text to its Caller (pure)
orders   what an operator asks to be made or revoked, checked (pure)
store    where they are kept: an interface     sqlite_file, redis_hash: the two that there are
keeper   follows the store, and replaces the ring
"""
