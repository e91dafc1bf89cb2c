"""What Redis refuses for a reason of its own is one line that says what to do."""

from collections.abc import Callable

from spoolway.producer import Producer
from spoolway.worker.redis_client import explain_redis
from tests.servers import ValkeyServer, eventually


def told(server: ValkeyServer, url: str = "") -> str:
    """What a producer says whose event this server does not take."""
    producer = Producer(url or server.url)
    producer.emit({"type": "request"})
    said = eventually(lambda: producer.stats.last_error)
    producer.close(0)
    assert said is not None
    assert len(said.splitlines()) == 1
    return said


def test_each_refusal_says_what_to_do(start_valkey: Callable[..., ValkeyServer]) -> None:
    """No password, no replicas, a disk that fails."""
    extra = {"enable-protected-configs": "local"}
    server = start_valkey(append_only="always", password="secret", extra=extra)
    assert "check user and password" in told(server, f"redis://127.0.0.1:{server.port}/0")

    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        assert "(min-replicas-to-write): bring them back" in told(server)
        client.config_set("min-replicas-to-write", 0)

        (server.folder / "folder").mkdir()
        client.config_set("dbfilename", "folder")  # nothing can be renamed to that
        client.config_set("save", "3600 1")
        client.bgsave()
        eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        assert "Redis cannot write to its disk" in told(server)
        client.config_set("save", "")  # else it would not end before it has saved


def test_password_at_the_end_of_what_is_shown_is_hidden_before_the_rest_is_cut_off() -> None:
    """Half a password is one, too."""
    said = explain_redis(OSError("x" * 286 + "s3cret"), "redis://:s3cret@127.0.0.1:1/0")
    assert "s3c" not in said
