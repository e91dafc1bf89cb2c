"""Ending a connection to PostgreSQL that was left in the middle of the protocol."""

import asyncio
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

CLOSING: Final = 1.0
"""Seconds that a connection has to close in order."""


async def ended(pooled: AsyncConnection, driver: Any) -> None:
    """Have the server cancel what it does, close, and give the place in the pool back."""
    try:
        async with asyncio.timeout(CLOSING):
            await driver.close()  # asks the server to cancel, and waits until it has closed
    except Exception:  # noqa: BLE001 - it does not answer: cut, whatever asyncpg makes of it
        driver.terminate()
    finally:
        await pooled.invalidate()
        await pooled.close()
