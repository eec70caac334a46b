"""Environment variables that begin with `KERNELSCOPE_`: which are settings, and which only look like some.

Kubernetes gives every pod variables for each Service: one that is named `kernelscope` makes `KERNELSCOPE_PORT` a
`tcp://` address, which is no port of ours.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

log = logging.getLogger("kernelscope")

PREFIX: Final = "KERNELSCOPE_"
_ELSEWHERE: Final = frozenset(f"{PREFIX}{name}" for name in ("CACHE", "CHROMIUM", "DATA", "NAME"))
"""Variables of this project that are no settings of the service: training's, the tests', and compose's."""
_SERVICE_LINK: Final = re.compile(rf"{PREFIX}(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


class Variables(EnvSettingsSource):
    """Settings from the environment, but for what Kubernetes has put there."""

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool) -> Any:
        """The field's value; None, which is the default, for a Service's address in place of a port."""
        if field_name == "port" and isinstance(value, str) and _ADDRESS.match(value):
            return None
        return super().prepare_field_value(field_name, field, value, value_is_complex)


def warnings(environment: Mapping[str, str], settings: Collection[str]) -> list[str]:
    """What a person should know of variables that are not what they seem.

    Args:
        environment: all variables.
        settings: the names of the fields.

    Example:
        >>> warnings({"KERNELSCOPE_MAXBODY": "1"}, ["max_body"])
        ['there is no setting KERNELSCOPE_MAXBODY: is it KERNELSCOPE_MAX_BODY?']
    """
    known = [f"{PREFIX}{name.upper()}" for name in settings]
    lines = []
    for name, value in sorted(environment.items()):
        if not name.upper().startswith(PREFIX):
            continue
        if _ADDRESS.match(value):
            if name == f"{PREFIX}PORT":
                lines.append(f"{name} is {value[:40]!r}, the address of a Service: it is ignored; --port sets the port")
        elif name.upper() not in known and name not in _ELSEWHERE and not _SERVICE_LINK.fullmatch(name):
            near = difflib.get_close_matches(name.upper(), known, 1)
            lines.append(f"there is no setting {name}" + (f": is it {near[0]}?" if near else ""))
    return lines


def log_warnings(environment: Mapping[str, str], settings: Collection[str]) -> None:
    """Write `warnings` to the log."""
    for text in warnings(environment, settings):
        log.warning("%s", text)
