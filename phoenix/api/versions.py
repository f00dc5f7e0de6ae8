"""ETags of what is edited: the number of its version."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from phoenix.errors import PayloadInvalid

IfMatch = Annotated[str | None, Header(description="The ETag that was read; another version answers 412.")]


def etag(version: int) -> str:
    """Return the ETag of a version."""
    return f'"{version}"'


def expected(if_match: str | None) -> int | None:
    """Return the version that a change expects; None for whatever it is.

    Raises:
        PayloadInvalid: the header is no ETag that was given here.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise PayloadInvalid("If-Match is no ETag that was given here.", field="header.if-match")
    return int(text)
