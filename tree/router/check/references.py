"""Models that the file names and nobody will list, providers where models belong, and the other way
round: the dangling chain, found before it is needed. Pure.
"""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check import near, words
from router.check.file import File
from router.check.listing import ACTIVE, VIRTUAL
from router.check.mentions import Kind, Mention, mentions


def find(file: File) -> Iterator[Problem]:
    missing: dict[str, list[Mention]] = {}
    for one in mentions(file.config):
        if one.name in file.listing:
            continue
        if one.name in file.config.providers:
            yield _a_provider(file, one)
        else:
            missing.setdefault(one.name, []).append(one)
    for name, places in missing.items():
        yield _unlisted(file, name, sorted(places, key=lambda one: file.line(one.path)))
    yield from _asked_providers(file)


def blamed(file: File) -> set[str]:
    """Silent providers that a missing model is put down to: nothing more is to be said of them."""
    unlisted = any(one.name not in file.listing for one in mentions(file.config))
    return set(file.listing.silent()) if unlisted else set()


def _unlisted(file: File, name: str, places: list[Mention]) -> Problem:
    """One fault for one missing model, however often it is named."""
    first, *others = places
    alone = all(one not in file.listing for one in first.beside)
    owner = first.path[1] if first.path[0] in VIRTUAL else None
    cause, fix = _cause(file, name, str(owner))
    effect = [cause, first.effect(alone)]
    if others:
        named = [f"{_what(one)} (line {file.line(one.path)})" for one in others]
        effect.append(f"Named too by {words.listed(named)}.")
    if not file.listing.complete:
        effect.insert(1, "Whether static_file lists it cannot be known here.")
    say = file.error if file.listing.complete else file.warning
    who = "nobody will list" if file.listing.complete else "nothing here lists"
    return say(
        first.path,
        f"{first.says} {words.quoted(name)}, which {who}",
        effect="\n".join(effect),
        fix=fix,
        on_key=first.on_key,
    )


def _what(mention: Mention) -> str:
    match mention.kind:
        case Kind.DEFAULT:
            return "default"
        case Kind.CHAIN if not mention.first:
            return "default_fallbacks"
        case Kind.CHAIN:
            return mention.says.removesuffix(" name")
        case _:
            return mention.owner


def _cause(file: File, name: str, owner: str) -> tuple[str, str]:
    """Who could have listed it and does not, and the one line that settles it."""
    if resting := file.listing.resting(name):
        key = resting[0]
        status = file.config.providers[key].status
        return (
            f'{file.table("providers", key)} lists it, but its status is "{status}".',
            f'set  status = "{ACTIVE}"  under {words.table("providers", key)}',
        )
    if meant := file.listing.closest(name, owner):
        line = file.line(file.listing.places[meant])
        return f'"{meant}" (line {line}) is much like it.', f'did you mean "{meant}"?'
    models = f"models = {words.array([name])}"
    pattern = file.listing.pattern(name)
    if pattern is not None:
        entry = file.config.patterns[pattern]
        line = file.line(("patterns", pattern))
        return (
            f'The pattern "{entry.match}" (line {line}) matches it, but patterns serve\n'
            "what clients ask for, never what the file names.",
            f"add  {models}  under {words.table('providers', entry.provider)}",
        )
    if silent := file.listing.silent():
        places = words.listed([file.table("providers", key) for key in silent])
        tables = words.listed([words.table("providers", key) for key in silent], "or")
        if len(silent) == 1:
            cause = f'{places} lists no "models", and "expect" does not name it.'
            return cause, f"add  {models}  under {tables}"
        cause = f'{places} list no "models",\nand "expect" does not name it.'
        return cause, f"add  {models}  under {tables}, whichever has it"
    cause = 'It is in no provider\'s "models", in no entry of [models] and not in "expect".'
    if file.config.registries:
        expect = words.array([*file.config.expect, name])
        return cause, f"if the registry will have it:  expect = {expect}"
    return cause, f"add  {models}  under the provider that has it"


def _a_provider(file: File, mention: Mention) -> Problem:
    provider = file.config.providers[mention.name]
    if provider.models:
        fix = f"name a model of it, like {words.quoted(provider.models[0])}"
    else:
        fix = f'give {words.table("providers", mention.name)} its "models", and name one of them'
    return file.error(
        mention.path,
        f"{mention.says} {words.quoted(mention.name)}: a provider, where a model belongs",
        effect=f"No model is called so.\n{mention.effect(alone=True)}",
        fix=fix,
        on_key=mention.on_key,
    )


def _asked_providers(file: File) -> Iterator[Problem]:
    """Entries that name a provider: it must be there, and active."""
    config = file.config
    for name, model in config.models.items():
        if model.provider is not None:
            yield from _provider(file, ("models", name, "provider"), model.provider, f'"{name}"')
    for at, rule in enumerate(config.rules):
        if rule.provider is not None:
            who = f'rule "{rule.name}"' if rule.name else f"rule {at + 1}"
            yield from _provider(file, ("rules", at, "provider"), rule.provider, who)
    for at, pattern in enumerate(config.patterns):
        path = ("patterns", at, "provider")
        yield from _provider(file, path, pattern.provider, f'the pattern "{pattern.match}"')


def _provider(file: File, path: Path, key: str, who: str) -> Iterator[Problem]:
    providers = file.config.providers
    if key not in providers:
        yield _no_provider(file, path, key, who)
        return
    status = providers[key].status
    if status == ACTIVE:
        return
    # Patterns stand ready for a provider that is to come; [models] and [[rules]] promise one.
    say = file.warning if path[0] == "patterns" else file.error
    yield say(
        path,
        f'{who} asks the provider "{key}", whose status is "{status}"',
        effect="What it serves falls back, or is answered with 503.",
        fix=f'set  status = "{ACTIVE}"  under {words.table("providers", key)}',
    )


def _no_provider(file: File, path: Path, key: str, who: str) -> Problem:
    meant = near.closest(key, file.config.providers)
    a_model = ""
    if key in file.listing and path[0] != "patterns":
        a_model = f"{words.quoted(key)} is a model. "
        instead = "model" if path[0] == "rules" else "backend_model"
        fix = f"{instead} = {words.quoted(key)}  in its place"
    elif meant is not None:
        fix = f'did you mean "{meant}"?'
    elif file.config.providers:
        names = words.listed([words.quoted(one) for one in file.config.providers], "or")
        fix = f"name one of this file: {names}"
    else:
        fix = f"write a table {words.table('providers', key)} with its type and base_url"
    return file.error(
        path,
        f'{who} asks the provider "{key}", which this file does not have',
        effect=f"{a_model}What it serves falls back, or is answered with 503.",
        fix=fix,
    )
