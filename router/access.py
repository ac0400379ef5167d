"""Who may use which port, settled before it opens. Refusals say the line that settles it."""

from common import address, auth
from common.address import Address
from common.errors import RefusalError
from router.config import Config


def listens(config: Config) -> list[Address]:
    """The clients' address, then the control address where there is one."""
    texts = [config.listen, *([config.control_listen] if config.control_listen else [])]
    return [address.parse(text) for text in texts]


def settle(config: Config, config_file: str) -> str | None:
    """The token that guards what is not open to all, or None. Raises RefusalError."""
    public = listens(config)[0]
    if config.client_keys is None and not address.is_loopback(public.host):
        raise RefusalError(
            f"{public} is reachable by others and client_keys is not set.\n"
            f"  Add one line to {config_file}:\n"
            '    client_keys = "required"    then: creche key create ana\n'
            '    client_keys = "none"        anyone who reaches the port may use it'
        )
    operators = listens(config)[-1]
    if (
        config.client_keys == "required"
        and config.token_file is None
        and not address.is_loopback(operators.host)
    ):
        raise RefusalError(
            f"{operators} is reachable by others, and without token_file any of them could make a "
            f"client key.\n  Add one line to {config_file}:\n"
            '    token_file = "/etc/creche/cluster.token"    who has it makes keys\n'
            '    control_listen = "127.0.0.1:8001"           who is on this machine makes keys'
        )
    return auth.settle(
        listens(config),
        token_file=config.token_file,
        auth=config.auth,
        config_file=config_file,
        others_may="read services, stats and metrics",
    )
