"""Settings for a person to read: passwords hidden."""

from pathlib import Path
from typing import Any, Final

from spoolway.worker.config.addresses import address, is_secret, shown_url
from spoolway.worker.config.api_tokens import ApiToken
from spoolway.worker.config.settings import Settings

_REDIS: Final = ("redis_url", "jobs_redis_url")


def masked(settings: Settings, name: str) -> Any:
    """Return the value of a setting as a JSON value without what is secret in it."""
    value = getattr(settings, name)
    if name == "database_url":
        return address(value).shown if value else f"sqlite:///{settings.database.database}"
    if name == "read_database_url":
        return address(value).shown if value else ""
    if name == "api_token":
        return "***" if value else ""
    if name == "api_tokens":
        return [_token(each) for each in value]
    if name == "prices":
        return {model: price.shown() for model, price in value.items()}
    if name in _REDIS:
        return shown_url(value)
    if name == "database_engine":
        return _without_secrets(value)
    return str(value) if isinstance(value, Path) else value


def _token(token: ApiToken) -> dict[str, Any]:
    """Return a token's name and what it sees."""
    return token.model_dump(exclude={"token", "sha256"}, mode="json")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "***" if is_secret(str(key)) else _without_secrets(each)
            for key, each in value.items()
        }
    return value
