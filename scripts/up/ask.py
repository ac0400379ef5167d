"""Short questions to our own daemons on loopback. What does not answer is None."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 2.0
#: Where there is no second question.
ONCE_S = 10.0


def get(url: str, timeout_s: float = TIMEOUT_S) -> tuple[int, Any] | None:
    """Status and JSON of a GET, or None. No proxy is asked, whatever the environment says."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        return answer.status, json.loads(body)
    except ValueError:
        return answer.status, None


def is_ready(url: str) -> bool:
    answer = get(url)
    return answer is not None and answer[0] == 200


def table(url: str, key: str, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """The list under `key` of a JSON answer; empty when there is none."""
    answer = get(url, timeout_s)
    if answer is None or not isinstance(answer[1], dict):
        return []
    found = answer[1].get(key)
    return found if isinstance(found, list) else []
