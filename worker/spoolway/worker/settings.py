"""What arq is started with: `arq spoolway.worker.settings.WorkerSettings`.

The same as `spoolway worker`: arq owns the process and its signals, `on_startup` is the service.
arq reads the class's own attributes alone: a subclass would be ignored without a word.
"""

from typing import Any, ClassVar, NoReturn

import orjson

from spoolway.worker.config import UsageError, load
from spoolway.worker.host import HEALTH_KEY, QUEUE, jobs_address, jobs_pool
from spoolway.worker.jobs import FUNCTIONS
from spoolway.worker.logs import complain, configure_logging
from spoolway.worker.service import Service


def _refuse(error: UsageError) -> NoReturn:
    complain(str(error))
    raise SystemExit(2) from None


try:
    _settings = load()
except UsageError as mistake:
    _refuse(mistake)
configure_logging(_settings)


async def run_service(_ctx: dict[str, Any]) -> None:
    """Run until arq is told to stop and cancels this, which is before its first poll.

    The service hosts an arq worker of its own for the control jobs, because this one would end the
    process at the first failure of Redis.
    """
    configure_logging(_settings)
    try:
        await Service(_settings).run()
    except UsageError as error:
        _refuse(error)


class WorkerSettings:
    """arq's settings; each name is a parameter of `arq.worker.Worker`."""

    functions: ClassVar = FUNCTIONS
    redis_pool = jobs_pool(_settings.jobs_redis_url or _settings.redis_url)
    redis_settings = jobs_address(_settings.jobs_redis_url or _settings.redis_url)
    """For `arq --check`, which does not look at redis_pool."""
    queue_name = QUEUE
    health_check_key = HEALTH_KEY
    on_startup = run_service
    job_serializer = orjson.dumps
    job_deserializer = orjson.loads
