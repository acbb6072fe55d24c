"""W3C trace context: which texts are taken as a ``traceparent``; anything else is as good as none."""

from __future__ import annotations

import re

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def traceparent_of(given: str | bytes | None) -> str | None:
    """The header's value where it is ``version-traceid-parentid-flags``, 55 lower-case ASCII characters, else None."""
    text = given.decode("ascii", "replace") if isinstance(given, bytes) and len(given) == 55 else given
    return text if isinstance(text, str) and _FORM.fullmatch(text) else None
