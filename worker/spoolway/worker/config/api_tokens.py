"""Who may ask the API, as a file has it: `api_tokens`, a list of mappings."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from spoolway.worker.config.options import nearest

SHORTEST_TOKEN: Final = 16
"""Characters. What is shorter can be guessed, by whoever may ask a few hundred times a second."""
_TOKEN: Final = re.compile(rf"[!-~]{{{SHORTEST_TOKEN},512}}", re.ASCII)
"""What a header can carry."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"\w[\w.@-]{0,63}", re.ASCII)
MOST_NAMED: Final = 100
"""Users, or organizations, of a token: what a question may have of each."""
LONGEST_NAME: Final = 1_000
"""Characters of one: likewise."""
_KEYS: Final = ("name", "token", "sha256", "users", "organizations")


class ApiToken(BaseModel):
    """A token and what it sees: rows of these users and organizations; of all, where none is named."""

    model_config = ConfigDict(frozen=True)

    name: str
    """For the log. Never the token."""
    token: str = Field("", repr=False)
    """As it was given; or nothing, and its digest."""
    sha256: str = Field("", repr=False)
    users: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()


def check_token(token: str) -> str:
    """Return a token that can be sent and is hard to guess.

    Raises:
        ValueError: it is neither. The message is without the token.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            f"is no token: give {SHORTEST_TOKEN} to 512 letters, digits or signs without spaces, "
            "for example from openssl rand -hex 24"
        )
    return token


def checked_tokens(given: object) -> tuple[ApiToken, ...]:
    """Check what a file has under `api_tokens`.

    Raises:
        ValueError: what is wrong with which of them; never with a token in it.
    """
    if not isinstance(given, list | tuple):
        raise ValueError("is no list: give - name, token or sha256, and who may be seen")  # noqa: TRY004 - pydantic takes it
    tokens = tuple(_token(number, each) for number, each in enumerate(given, start=1))
    for what in ("name", "token", "sha256"):
        seen = [value for each in tokens if (value := getattr(each, what))]
        if len(set(seen)) < len(seen):
            raise ValueError(f"has the same {what} twice")
    return tokens


def _token(number: int, given: object) -> ApiToken:
    if isinstance(given, ApiToken):
        return given
    where = f"token {number}"
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is no mapping of keys to values")  # noqa: TRY004 - pydantic takes it
    for key in given:
        if key not in _KEYS:
            raise ValueError(
                f"{where} has an unknown key {str(key)[:40]}{nearest(str(key), _KEYS)}"
            )
    name, token, digest = (given.get(key) for key in ("name", "token", "sha256"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{where} needs a name of up to 64 letters, digits, and . _ @ -")
    where = f"{where} ({name})"
    if (token is None) == (digest is None):
        raise ValueError(f"{where} needs either token or sha256")
    if token is not None:
        try:
            check_token(str(token))
        except ValueError as error:
            raise ValueError(f"{where} {error}") from None
    elif not _SHA256.fullmatch(digest := str(digest).lower()):
        raise ValueError(
            f"{where}: sha256 is 64 hexadecimal digits, as printf %s TOKEN | sha256sum"
        )
    return ApiToken(
        name=name,
        token=str(token or ""),
        sha256=digest or "",
        users=_those(given, "users", where),
        organizations=_those(given, "organizations", where),
    )


def _those(given: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """Return whose rows are seen. Nobody's would be read as everybody's, and is refused."""
    if key not in given:
        return ()
    named = given[key]
    if not isinstance(named, list | tuple) or not named:
        raise ValueError(f"{where}: {key} is a list of at least one; without it, all are seen")
    if not all(isinstance(each, str) and each for each in named):
        raise ValueError(f"{where}: {key} has one that is empty")
    if len(named) > MOST_NAMED:
        raise ValueError(f"{where}: {key} has {len(named)} names: give at most {MOST_NAMED}")
    if any(len(each) > LONGEST_NAME or "\0" in each for each in named):
        raise ValueError(f"{where}: {key} has one of over {LONGEST_NAME} characters, or with a NUL")
    return tuple(named)
