"""Entries in this process, the least recently used going first. Bounded in bytes. Pure."""

from router.cache.entry import Entry


class Memory:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        #: Least recently used first.
        self._entries: dict[bytes, Entry] = {}
        self.bytes = 0
        #: Good entries that went because others came.
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> Entry | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if now >= entry.until:
            self.bytes -= entry.size
            return None
        self._entries[key] = entry
        return entry

    def peek(self, key: bytes, now: float) -> Entry | None:
        """As `get`, and nothing is used."""
        entry = self._entries.get(key)
        return None if entry is None or now >= entry.until else entry

    def put(self, key: bytes, entry: Entry, now: float) -> None:
        """In the place of what was there. One that would never fit is not taken."""
        self._drop(key)
        if entry.size > self._bytes_max:
            return
        self._entries[key] = entry
        self.bytes += entry.size
        self._fit(now)

    def allow(self, bytes_max: int, now: float) -> None:
        """Another bound from now on."""
        self._bytes_max = bytes_max
        self._fit(now)

    def _fit(self, now: float) -> None:
        while self.bytes > self._bytes_max:
            key = next(iter(self._entries))
            self.evictions += self._entries[key].until > now
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
