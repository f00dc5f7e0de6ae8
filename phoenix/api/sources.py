"""What a client may name as a repository or a model: nothing that reads this machine's own files."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from phoenix.domain.model_name import behind_chaos
from phoenix.errors import NoModel, PayloadInvalid

REMOTE = ("https", "ssh", "git")
SCP_FORM = re.compile(r"[\w.-]+@[\w.-]+:[^\s:][^\s]*")
"""`git@host:path`, as git takes it."""


class Sources:
    """Checks names that come from outside.

    Args:
        find_model: Returns the service's own model.
        is_local: Clients are on this machine and its user's own: paths and recordings are allowed.
        is_choice: Tells whether the service's model catalogue knows a name; None where there is none.
    """

    def __init__(
        self,
        find_model: Callable[[], Awaitable[str]],
        *,
        is_local: bool,
        is_choice: Callable[[str], bool] | None = None,
    ) -> None:
        self._find_model = find_model
        self._is_local = is_local
        self._is_choice = is_choice

    async def model(self, name: str) -> str:
        """Return the model of a launch.

        Raises:
            PayloadInvalid: it names a file, or is not of the form `provider:model`.
            ModelUnknown: the catalogue does not know it.
            NoModel: none is named, and the service has none.
        """
        if not name:
            return await self._find_model()
        if self._is_choice is not None and self._is_choice(name):
            return name
        provider, colon, rest = behind_chaos(name).partition(":")
        if not colon or not provider or not rest:
            raise PayloadInvalid(
                f"{name!r} is no model.", field="body.model", hint="Give one as provider:model."
            )
        if provider == "recorded" and not self._is_local:
            raise PayloadInvalid("Recordings are files of the service's machine.", field="body.model")
        return name

    async def check_repository(self, repository: str) -> None:
        """Check that a repository may be taken in.

        Raises:
            PayloadInvalid: it is no URL of a remote repository.
        """
        if self._is_local or SCP_FORM.fullmatch(repository):
            return
        parts = urlsplit(repository)
        if parts.scheme not in REMOTE or not parts.hostname:
            raise PayloadInvalid(
                "This is no URL of a remote repository.",
                field="body.repository",
                hint="Give one such as https://host/path.git; files of the service's machine are not read.",
            )
        if parts.password:
            raise PayloadInvalid(
                "The URL holds a password, which would be stored with the project.",
                field="body.repository",
                hint="Give the service's machine a git credential instead.",
            )


async def no_model() -> str:
    """Stand for a service that has no model of its own.

    Raises:
        NoModel: always.
    """
    raise NoModel("No model is named, and the service has none.", field="body.model")
