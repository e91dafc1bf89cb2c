"""What can be wrong with what arrives, named by what the caller does next."""

import reprlib
from uuid import UUID

_brief = reprlib.Repr()
_brief.maxstring = 60


def shown(value: object) -> str:
    """Return what an error message says of a value: bounded, printable, on one line."""
    try:
        text = str(value) if isinstance(value, UUID) else _brief.repr(value)
    except Exception:  # noqa: BLE001 - a proxy's own object, or an integer of 5,000 digits
        text = f"<{type(value).__name__}>"
    return "".join(char if char.isprintable() else "?" for char in text[:80])


def got(value: object) -> str:
    """Return what an error message says of a field that should hold something else."""
    return "nothing" if value is None else shown(value)


class BadInput(ValueError):
    """It will not become a row as it is: keep its raw bytes as a dead letter, with this reason."""

    reason = "bad-input"


class NotUuid7(BadInput):
    """The id is no UUIDv7, so it has no time and belongs to no partition."""

    reason = "not-uuid7"

    def __init__(self, value: object) -> None:
        what = 'field "id" is missing or null, which' if value is None else f"id {shown(value)}"
        version = value.version if isinstance(value, UUID) else None
        super().__init__(
            f"{what} is not a UUIDv7: mint it with a UUIDv7 generator (npm's uuid v7, Go's "
            "uuid.NewV7, Python 3.14's uuid.uuid7, spoolway.schema.new_id), such as "
            "0199d1a2-7c3e-7b1a-9f52-3d1c5b7a9e04"
            + (f"; it is a UUIDv{version}" if version else "")
        )


class BadFrame(BadInput):
    """A stream entry that breaks the frame contract: none of its events can be read."""

    reason = "bad-frame"


class Oversize(BadFrame):
    """A frame of more bytes or events than a worker unpacks."""

    reason = "oversize"


class BadEvent(BadInput):
    """One line of a frame that cannot be read as an event: the other lines go on."""

    reason = "undecodable"
