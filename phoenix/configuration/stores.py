"""Where secrets are read from: HashiCorp Vault, AWS Secrets Manager, files.

All of it blocks: not for the loop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from phoenix.configuration.live import Reference
from phoenix.errors import SecretUnavailable, SettingInvalid

if TYPE_CHECKING:
    import hvac

STORE_SECONDS = 10.0
"""How long a store may take for one answer."""


@dataclass(frozen=True)
class VaultOptions:
    """Where Vault is, and as whom Phoenix reads there."""

    address: str = ""
    namespace: str = ""
    mount: str = "secret"
    """Of the KV engine, version 2."""
    auth: Literal["token", "approle", "kubernetes"] = "token"
    auth_mount: str = ""
    """Of the login; empty for its usual one."""
    token: SecretStr | None = None
    role: str = ""
    """The Kubernetes role, or the AppRole's role id."""
    secret_id: SecretStr | None = None
    jwt_path: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    ca: Path | None = None


@dataclass(frozen=True)
class AwsOptions:
    """Which Secrets Manager; credentials are found as AWS's own tools find them."""

    region: str = ""
    endpoint: str = ""


class Vault:
    """Reads secrets of Vault's KV engine, version 2."""

    def __init__(self, options: VaultOptions) -> None:
        self.options = options

    @cached_property
    def _client(self) -> hvac.Client:
        try:
            import hvac
        except ImportError as error:
            raise _no_extra("vault") from error
        given = self.options
        if not given.address:
            raise SettingInvalid(
                "There are references to Vault, but its address is not set.", field="PHOENIX_VAULT_ADDRESS"
            )
        client = hvac.Client(
            url=given.address,
            namespace=given.namespace or None,
            verify=True if given.ca is None else str(given.ca),
            timeout=STORE_SECONDS,
        )
        # `Client` would otherwise take VAULT_TOKEN or a file of the user's home in its place.
        client.token = None
        return client

    def login(self) -> None:
        """Make the login good for a while: renew the token, or sign in anew.

        Raises:
            SettingInvalid: something that the login needs is not set, or Vault refuses it.
            SecretUnavailable: Vault cannot be reached or is broken.
        """
        client = self._client
        with _Translated(f"Vault at {self.options.address}", "PHOENIX_VAULT_ADDRESS"):
            if self.options.auth == "token":
                client.token = _needed(self.options.token, "PHOENIX_VAULT_TOKEN")
                if client.auth.token.lookup_self()["data"].get("renewable"):
                    client.auth.token.renew_self()
            elif self.options.auth == "approle":
                client.auth.approle.login(
                    role_id=_needed(self.options.role, "PHOENIX_VAULT_ROLE"),
                    secret_id=_needed(self.options.secret_id, "PHOENIX_VAULT_SECRET_ID"),
                    mount_point=self.options.auth_mount or "approle",
                )
            else:
                client.auth.kubernetes.login(
                    role=_needed(self.options.role, "PHOENIX_VAULT_ROLE"),
                    jwt=_file(self.options.jwt_path),
                    mount_point=self.options.auth_mount or "kubernetes",
                )

    def read(self, path: str) -> Mapping[str, Any]:
        """Return the fields of a secret.

        Raises:
            SettingInvalid: there is none, or it may not be read.
            SecretUnavailable: Vault cannot be reached or is broken.
        """
        with _Translated(f"Vault at {self.options.address}", "PHOENIX_VAULT_ADDRESS", path=f"vault:{path}"):
            answer = self._client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=self.options.mount, raise_on_deleted_version=True
            )
            return dict(answer["data"]["data"])


class Aws:
    """Reads secrets of AWS Secrets Manager."""

    def __init__(self, options: AwsOptions) -> None:
        self.options = options

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise _no_extra("aws") from error
        try:
            return boto3.client(
                "secretsmanager",
                region_name=self.options.region or None,
                endpoint_url=self.options.endpoint or None,
                config=Config(
                    connect_timeout=STORE_SECONDS,
                    read_timeout=STORE_SECONDS,
                    retries={"total_max_attempts": 2},
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise SettingInvalid(f"AWS Secrets Manager: {error}", field="PHOENIX_AWS_REGION") from error

    def read(self, name: str) -> str:
        """Return the text of a secret.

        Raises:
            SettingInvalid: there is none, or it may not be read.
            SecretUnavailable: AWS cannot be reached or is broken.
        """
        client = self._client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = client.get_secret_value(SecretId=name)
        except ClientError as error:
            about = error.response.get("Error", {})
            code = str(about.get("Code", ""))
            if code.endswith(("NotFoundException", "AccessDeniedException", "InvalidRequestException")):
                raise SettingInvalid(f"aws:{name} cannot be read: {code}.") from error
            raise SecretUnavailable(f"AWS Secrets Manager failed for aws:{name}: {code}.") from error
        except BotoCoreError as error:
            raise SecretUnavailable(f"AWS Secrets Manager cannot be asked for aws:{name}: {error}") from error
        if "SecretString" not in answer:
            raise SettingInvalid(f"aws:{name} holds no text.")
        return str(answer["SecretString"])


@dataclass
class Stores:
    """All stores. One object reads each secret once in `read_all`, however many settings refer to it."""

    vault: Vault
    aws: Aws

    def read_all(self, references: Mapping[str, Reference]) -> dict[str, str]:
        """Return the values of references, by the names of their settings. Blocks.

        Raises:
            SettingInvalid: one cannot be resolved; names setting and reference.
            SecretUnavailable: a store cannot be reached; likewise.
        """
        if any(reference.store == "vault" for reference in references.values()):
            self.vault.login()
        known: dict[tuple[str, str], Any] = {}
        found: dict[str, str] = {}
        for said, reference in references.items():
            key = (reference.store, reference.path)
            try:
                if key not in known:
                    known[key] = self._read(reference)
                found[said] = _field_of(known[key], reference)
            except (SettingInvalid, SecretUnavailable) as error:
                raise type(error)(error.message, field=said, hint=error.hint) from error
        return found

    def _read(self, reference: Reference) -> Any:
        if reference.store == "vault":
            return self.vault.read(reference.path)
        if reference.store == "aws":
            return self.aws.read(reference.path)
        return _file(Path(reference.path))


def _field_of(value: Any, reference: Reference) -> str:
    """Return what a reference means of a secret that was read."""
    if reference.store == "aws" and reference.field:
        try:
            value = json.loads(value)
        except ValueError as error:
            raise SettingInvalid(f"aws:{reference.path} is no JSON, so it has no fields.") from error
    if reference.field:
        if not isinstance(value, Mapping) or reference.field not in value:
            raise SettingInvalid(f"{reference.store}:{reference.path} has no field {reference.field!r}.")
        value = value[reference.field]
    if not isinstance(value, str) or not value:
        raise SettingInvalid(f"{reference} holds no text.")
    return value


def _file(path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SettingInvalid(f"{path} cannot be read: {reason}.") from error


def _needed(value: SecretStr | str | None, said: str) -> str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not text:
        raise SettingInvalid("The login at Vault needs it.", field=said)
    return text


def _no_extra(name: str) -> SettingInvalid:
    return SettingInvalid(
        f"References to {name} need a package that is not installed.",
        hint=f"Install it: pip install 'phoenix-engine[{name}]'.",
    )


class _Translated:
    """Turns what hvac raises into errors of Phoenix. Their texts may hold no answer of Vault."""

    def __init__(self, where: str, field: str, *, path: str = "") -> None:
        self.where, self.field, self.path = where, field, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from hvac import exceptions
        from requests import RequestException

        what = f" for {self.path}" if self.path else " the login"
        if isinstance(error, exceptions.InvalidPath):
            raise SettingInvalid(
                f"{self.where} has no {self.path or 'such login'}.", field=self.field
            ) from error
        if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized | exceptions.InvalidRequest):
            raise SettingInvalid(f"{self.where} refuses{what}.", field=self.field) from error
        if isinstance(error, exceptions.VaultError):
            raise SecretUnavailable(
                f"{self.where} failed{what or ''}: {type(error).__name__}.", field=self.field
            ) from error
        if isinstance(error, RequestException):
            raise SecretUnavailable(
                f"{self.where} cannot be reached: {type(error).__name__}.", field=self.field
            ) from error
        if isinstance(error, KeyError | TypeError):
            raise SecretUnavailable(
                f"{self.where} does not answer as Vault does.", field=self.field
            ) from error
