"""Which of several content types a request prefers (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The content type that an `Accept` header prefers; of equals the one that is offered first.

    Where it takes none of them, that one is sent, too: a reply that says what is wrong helps more than a 406.

    Example:
        >>> preferred("text/html, image/*;q=0.8, */*;q=0.1", ["application/json", "image/png"])
        'image/png'
    """
    weights = [_weight(accept, media_type) for media_type in offered] if accept else [1.0]
    return offered[weights.index(max(weights))]


def _weight(accept: str, media_type: str) -> float:
    """How much a type is wanted: what its most specific range says."""
    weights = {}
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weights[name] = float(quality)
        except ValueError:
            continue
    kind = media_type.partition("/")[0]
    return next((weights[name] for name in (media_type, f"{kind}/*", "*/*") if name in weights), 0.0)
