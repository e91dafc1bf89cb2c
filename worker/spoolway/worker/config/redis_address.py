"""Where Redis is: refused before it is asked to connect, if redis-py would not understand it."""

from spoolway.schema.address import REDIS_URL_EXPECTED, redis_address


def check_redis(text: str) -> None:
    """Check a Redis URL.

    Raises:
        ValueError: what is wrong, without repeating it.
    """
    where = redis_address(text)
    if "?" not in text:
        return  # without options there is nothing left to misunderstand, nor to import
    from redis.asyncio import ConnectionPool
    from redis.exceptions import RedisError

    try:
        for url in (where.url, *where.asked):
            pool = ConnectionPool.from_url(url)
            pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        raise ValueError(
            f"the Redis URL has an option that redis-py does not take: {REDIS_URL_EXPECTED}"
        ) from None


def check_jobs_redis(url: str) -> None:
    """Check that arq's control jobs can run there. Raises ValueError."""
    if redis_address(url).kind == "cluster":
        raise ValueError(
            "SPOOLWAY_JOBS_REDIS_URL is needed beside a Redis Cluster: arq's control jobs do not "
            "run in one; name any single Redis (redis://host:6379/0)"
        )
