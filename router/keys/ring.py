"""All keys that hold now: a text to its Caller. Pure: time is given. Replaced, never edited."""

from collections.abc import Iterable, Mapping, Set
from math import inf

from msgspec import structs

from router import caller, needs
from router.caller import Caller
from router.errors import Problem, RequestError
from router.keys.record import TEXT_MAX, Key, id_of, is_text_of
from router.seam import Fields

#: What an unknown key is compared with: it must take as long as a known one.
_NOBODY = "0" * 64
#: Where clients put their key: OpenAI's, Anthropic's and Azure's SDKs.
_HEADERS = ("x-api-key", "api-key")


class KeyRing:
    def __init__(self, keys: Iterable[Key] = ()) -> None:
        held = [key for key in keys if key.revoked is None]
        self._digests: dict[str, str] = {key.id: key.digest for key in held}
        self._callers: dict[str, Caller] = {key.id: caller_of(key) for key in held}

    @property
    def ids(self) -> Set[str]:
        return self._callers.keys()

    @property
    def callers(self) -> Iterable[Caller]:
        return self._callers.values()

    def find(self, text: str, wall: float) -> Caller | Problem:
        """Whose key `text` is. `wall`: unix seconds now."""
        id_ = id_of(text) if len(text) <= TEXT_MAX else None
        same = is_text_of(text[:TEXT_MAX], self._digests.get(id_ or "", _NOBODY))
        found = self._callers.get(id_ or "") if same else None
        if found is None:
            return caller.WRONG_KEY
        return found if wall < found.expires else caller.expired(found)

    def identify(self, headers: Fields | Mapping[str, str], wall: float) -> Caller:
        """Who sends these headers, in lower case. Raises RequestError (401)."""
        text = given(headers)
        found = self.find(text, wall) if text else caller.NO_KEY
        if isinstance(found, Problem):
            raise RequestError(found)
        return found


def given(headers: Fields | Mapping[str, str]) -> str:
    """The key that came with a request; empty: none did."""
    said = headers.get("authorization")
    if said is not None:
        scheme, _, text = said.strip().partition(" ")
        return text.strip() if scheme.lower() == "bearer" else ""
    for name in _HEADERS:
        said = headers.get(name)
        if said is not None:
            return said.strip()
    return ""


def caller_of(key: Key) -> Caller:
    wanted = {name: value for name, value in structs.asdict(key.needs).items() if value is not None}
    return Caller(
        key.name,
        id=key.id,
        tenant=key.tenant,
        scope=key.scope,
        models=key.models,
        privacy=None if key.privacy is None else needs.PRIVACY.index(key.privacy),
        needs=wanted,
        limits=key.limits,
        budget=key.budget,
        weight=key.weight,
        band_max=caller.BANDS.index(key.priority_max),
        expires=inf if key.expires is None else key.expires,
    )
