from common.config import decode
from router.config import Config
from router.difference import AT_START, changed, effective, waiting


def config(text: str) -> Config:
    return decode(text, Config)


OLD = config(
    """
    listen = "127.0.0.1:8000"
    registries = ["http://127.0.0.1:18000"]
    [timeouts]
    total_s = 10
    [providers.a]
    type = "openai"
    base_url = "https://a"
    [providers.b]
    type = "openai"
    base_url = "https://b"
    """
)
NEW = config(
    """
    listen = "127.0.0.1:8001"
    registries = ["http://127.0.0.1:18001"]
    [timeouts]
    total_s = 11
    upstream_idle_s = 3
    [providers.b]
    type = "openai"
    base_url = "https://b"
    status = "disabled"
    [providers.c]
    type = "openai"
    base_url = "https://c"
    """
)


def test_keys_that_differ_are_told_each_with_its_table() -> None:
    assert changed(OLD, NEW) == [
        "listen",
        "registries",
        "timeouts.total_s",
        "timeouts.upstream_idle_s",
        "providers.a",
        "providers.b",
        "providers.c",
    ]
    assert changed(OLD, OLD) == []


def test_ports_and_folders_wait_for_a_restart() -> None:
    assert waiting(OLD, NEW) == ["listen", "timeouts.upstream_idle_s"]
    assert waiting(OLD, OLD) == []


def test_the_rest_is_in_force_without_them() -> None:
    found = effective(OLD, NEW)
    assert found.listen == OLD.listen
    assert found.timeouts.upstream_idle_s == OLD.timeouts.upstream_idle_s
    assert found.timeouts.total_s == 11
    assert changed(found, NEW) == ["listen", "timeouts.upstream_idle_s"]
    assert waiting(found, NEW) == ["listen", "timeouts.upstream_idle_s"], "until it is restarted"


def test_every_key_that_waits_is_one() -> None:
    for key in AT_START:
        assert effective(Config(), Config()) == Config()
        table, _, name = key.rpartition(".")
        where = getattr(Config(), table) if table else Config()
        assert hasattr(where, name), key
