"""What an operator asks for: a key to be made. Checked here, whoever asks. Pure."""

import re

from router.keys.record import Key, Positive, Terms

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,128}\Z")
NAME_FORM = "letters, digits, . _ @ -, at most 128 of them"
MODELS_MAX, MODEL_LENGTH_MAX = 256, 256


class OrderError(Exception):
    """What is wrong with it: one sentence."""


class Order(Terms, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of POST /admin/keys. `expires_s` counts from now."""

    expires_s: Positive | None = None

    def check(self) -> None:
        """Raises OrderError."""
        if not _NAME.match(self.name):
            raise OrderError(f"a key's name is made of {NAME_FORM}")
        if self.tenant is not None and not _NAME.match(self.tenant):
            raise OrderError(f"a tenant's name is made of {NAME_FORM}")
        if len(self.models) > MODELS_MAX:
            raise OrderError(f"a key names at most {MODELS_MAX} models")
        for model in self.models:
            if not model or len(model) > MODEL_LENGTH_MAX or not model.isprintable():
                raise OrderError(f"{model[:MODEL_LENGTH_MAX]!r} is no model's name")
            if "*" in model[:-1]:
                raise OrderError(f"{model!r}: a * stands at the end alone")

    def key(self, id: str, digest: str, now: float) -> Key:
        terms = {name: getattr(self, name) for name in Terms.__struct_fields__}
        expires = None if self.expires_s is None else now + self.expires_s
        return Key(id=id, digest=digest, created=now, expires=expires, **terms)
