"""What an operator asks for: a key to be made. Checked here, whoever asks. Pure."""

import re

from msgspec import Struct

from router.caller import Scope
from router.keys.record import Key, KeyNeeds, Positive
from router.named import Budget, Limits, Priority, Privacy

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,128}\Z")
NAME_FORM = "letters, digits, . _ @ -, at most 128 of them"
MODELS_MAX, MODEL_LENGTH_MAX = 256, 256


class OrderError(Exception):
    """What is wrong with it: one sentence."""


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/keys. As a Key's fields; `expires_s` counts from now."""

    name: str
    tenant: str | None = None
    scope: Scope = Scope.USE
    models: tuple[str, ...] = ()
    privacy: Privacy | None = None
    needs: KeyNeeds = KeyNeeds()
    limits: Limits = Limits()
    budget: Budget = Budget()
    weight: Positive = 1.0
    priority_max: Priority = "high"
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
        return Key(
            id=id,
            name=self.name,
            digest=digest,
            created=now,
            tenant=self.tenant,
            scope=self.scope,
            models=self.models,
            privacy=self.privacy,
            needs=self.needs,
            limits=self.limits,
            budget=self.budget,
            weight=self.weight,
            priority_max=self.priority_max,
            expires=None if self.expires_s is None else now + self.expires_s,
        )
