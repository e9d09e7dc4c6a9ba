"""What a received file may not choose alone: where secret queries go, and which key goes with them.

A ``model.toml`` may come from the very person whose model is asked about. An address in it is used once the person at
the keyboard has named its host, and a variable of the environment only if its name says that it was set for whorl.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from whorl.errors import UsageError
from whorl.oracles.endpoint import HttpSettings

__all__ = ["PREFIX", "check_consent"]

PREFIX: Final = "WHORL_"  # a variable of another name, as AWS_SECRET_ACCESS_KEY, was not set to be sent by whorl


def check_consent(
    file: Path, settings: HttpSettings, *, named: Collection[str], trust_hosts: Collection[str] = ()
) -> None:
    """Refuse an endpoint that a file describes, unless the person consents to where queries and key would go.

    Parameters:
        file: the description that was received.
        settings: what it says, with the person's own settings over it.
        named: names of the settings that the person gave, ``url`` and ``key_env`` among them or not.
        trust_hosts: ``HOST`` (any port) or ``HOST:PORT`` that a file's address may be at.

    Raises:
        UsageError: the address or the variable is the file's own choice; says what to type.
    """
    parts = urlsplit(settings.url)
    place = parts.netloc.lower()
    host = place if parts.port is None else place.removesuffix(f":{parts.port}")
    if "url" not in named and not {host, place} & {each.lower() for each in trust_hosts}:
        key = f" and the key in {settings.key_env}" if settings.key_env is not None else ""
        raise UsageError(
            f"{file} would send the secret queries{key} to {place}, an address of its own choice; nothing was sent. "
            f"If you mean that host, type: --trust-host {place} (in Python trust_hosts=[{place!r}])"
        )
    variable = settings.key_env
    if variable is not None and "key_env" not in named and not variable.startswith(PREFIX):
        raise UsageError(
            f"{file} would send the environment variable {variable} to {place}; a file may only name variables that "
            f"begin with {PREFIX}. If you mean it, type: --set key_env={variable} (in Python key_env={variable!r})"
        )
