"""The file of named API keys, in TOML.

```toml
[mobile]
keys = ["2f6d...", "sha256:9b71..."]   # any of these; two while clients change from one to the other
requests_per_second = 50               # in all processes together; no limit where it is left out
burst = 100                            # at once, after a pause; as many as in a second where it is left out

[operations]
keys = ["sha256:03ac..."]
admin = true                           # may load and unload models, too
```
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contract.errors import UsageError

MOST_KEYS: Final = 1000
"""Names in a file: each is a label in the metrics."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_FIELDS: Final = frozenset({"keys", "requests_per_second", "burst", "admin"})
_FASTEST: Final = 1e6


@dataclass(frozen=True)
class NamedKey:
    """Who may ask.

    Attributes:
        name: in metrics and logs.
        rate: requests a second that it may send; None for any number.
        burst: requests that it may send at once, after a pause.
        is_admin: whether it may load and unload models.
    """

    name: str
    rate: float | None = None
    burst: float = 1.0
    is_admin: bool = False


def read(path: Path) -> dict[bytes, NamedKey]:
    """The keys in a file, by the SHA-256 of each.

    Raises:
        UsageError: it cannot be read, or is not as it should be; the message says where, and never tells a key.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def parse(data: bytes) -> dict[bytes, NamedKey]:
    """As `read`; raises `ValueError`.

    Example:
        >>> list(parse(b'[mobile]\\nkeys = ["secret"]').values())
        [NamedKey(name='mobile', rate=None, burst=1.0, is_admin=False)]
    """
    try:
        tables = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML: {str(error).lower()}") from None
    if len(tables) > MOST_KEYS:
        raise ValueError(f"it has {len(tables)} names; {MOST_KEYS} are taken at most")
    keys: dict[bytes, NamedKey] = {}
    for name, table in tables.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name {name[:80]!r} is not taken: letters, digits, dot, dash and underscore are")
        if not isinstance(table, dict):
            raise ValueError(f"{name} is no table: expected [{name}] and under it keys = [...]")  # noqa: TRY004 -- a wrong file
        key = _named_key(name, table)
        for digest in _digests(name, table.get("keys")):
            if digest in keys:
                raise ValueError(f"{keys[digest].name} and {name} have the same key")
            keys[digest] = key
    return keys


def digest_of(key: bytes) -> bytes:
    """What stands for a key: looking it up takes no longer for one that is nearly right."""
    return hashlib.sha256(key).digest()


def check_key(key: str) -> None:
    """Raise a `ValueError` for a key that some client could not send, or that would be several."""
    if not key:
        raise ValueError("a key is empty")
    if not key.isascii() or not key.isprintable() or " " in key or "," in key:
        raise ValueError("keys are of printable ASCII characters, without blanks and commas")


def _named_key(name: str, table: Mapping[str, Any]) -> NamedKey:
    unknown = sorted(set(table) - _FIELDS)
    if unknown:
        raise ValueError(f"{name} has a field {unknown[0]!r}: expected {', '.join(sorted(_FIELDS))}")
    admin = table.get("admin", False)
    if not isinstance(admin, bool):
        raise ValueError(f"{name}: admin is true or false")  # noqa: TRY004 -- a wrong file
    rate = _number(name, "requests_per_second", table.get("requests_per_second"))
    burst = _number(name, "burst", table.get("burst"))
    if burst is not None and rate is None:
        raise ValueError(f"{name} has a burst and no requests_per_second")
    return NamedKey(name, rate, max(1.0, burst or rate or 1.0), admin)


def _number(name: str, field: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _FASTEST:
        raise ValueError(f"{name}: {field} is a number above 0, at most {_FASTEST:g}")
    return float(value)


def _digests(name: str, keys: Any) -> list[bytes]:
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
        raise ValueError(f'{name} has no keys: expected keys = ["..."]')
    digests = []
    for key in keys:
        match = _DIGEST.fullmatch(key)
        if key.startswith("sha256:") and not match:
            raise ValueError(f"{name}: behind sha256: come 64 hexadecimal digits, in lower case")
        if not match:
            try:
                check_key(key)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        digests.append(bytes.fromhex(match[1]) if match else digest_of(key.encode()))
    return digests
