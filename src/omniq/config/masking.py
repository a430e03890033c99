"""URLs without what nobody else should read."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

# Everything up to the last @ before a path is credentials: a password may hold an @ itself.
_USERINFO = re.compile(r"(?<=://)([^\s/?#]*)@")
# A password somebody forgot to quote ends at the last @ too, whatever stands in it; a port is none.
_UNQUOTED = re.compile(r"(?<=://)([^\s/?#@:\[]*):(?!\d+(?:[/?#\s,]|$))[^@\n]*[/?#\[\s][^\n]*@")
_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:passw(?:or)?d|secret|token|key|credential|signature|sig|auth)[\w.-]*)=)[^&;#\s]*",
    re.IGNORECASE,
)


def mask_url(url: str) -> str:
    """`url` with passwords replaced by `***`, in the address and in the query.

    The user's name stays; a lone name before the @ is a token as often as a name, so it goes.
    """

    def hide(match: re.Match[str]) -> str:
        name, colon, _ = match[1].partition(":")
        return f"{name}:{HIDDEN}@" if colon else f"{HIDDEN}@"

    plain = _UNQUOTED.sub(rf"\g<1>:{HIDDEN}@", _USERINFO.sub(hide, url))
    return _QUERY.sub(rf"\g<1>{HIDDEN}", plain)
