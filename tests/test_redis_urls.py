"""How a Redis URL is read: one server, Sentinels, a Cluster; and what is refused, in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from spoolway.producer import Producer
from spoolway.schema.address import redis_address, stream_names
from spoolway.schema.primaries import slot_of


def test_sentinels_and_the_server_have_logins_of_their_own() -> None:
    """Options of TLS are for both, everything else is for the server."""
    address = redis_address(
        "rediss+sentinel://me:p%40ss@a:1,[::1],b:3/main/2"
        "?sentinel_username=you&sentinel_password=s%3At&ssl_ca_certs=/ca&client_name=x"
    )

    assert (address.kind, address.name) == ("sentinel", "main")
    assert address.asked == tuple(
        f"rediss://you:s%3At@{host}/0?ssl_ca_certs=%2Fca" for host in ("a:1", "[::1]:26379", "b:3")
    )
    at = address.at("::2", 7)
    assert at == "rediss://me:p%40ss@[::2]:7/2?ssl_ca_certs=%2Fca&client_name=x"
    assert address.shown == "main of Sentinel a:1,[::1]:26379,b:3"
    assert set(address.passwords) == {"p%40ss", "p@ss", "s%3At", "s:t"}


def test_nodes_of_a_cluster_are_asked_as_the_server_is() -> None:
    """With the same login and options; the port may be left out."""
    address = redis_address("redis+cluster://:pw@a,b:7000?socket_timeout=3")

    assert address.asked == (
        "redis://:pw@a:6379/0?socket_timeout=3",
        "redis://:pw@b:7000/0?socket_timeout=3",
    )
    assert address.at("10.0.0.1", 6379) == "redis://:pw@10.0.0.1:6379/0?socket_timeout=3"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis+sentinel://:s3cret@a:1,b:2", "does not name the primary"),
        ("redis+sentinel://:s3cret@a:1,b:2/main/first", "a database that is no number"),
        ("redis+sentinel://:s3/cret@a:1/main", "no hosts and ports"),
        ("redis+cluster://:s3cret@a:port", "no hosts and ports"),
        ("redis+cluster://:s3cret@", "no hosts and ports"),
        ("redis+cluster://:s3cret@a/1", "a Redis Cluster has none but 0"),
        ("redis://:s3cret@a:1,b:2", "several hosts"),
        ("redis+nobody://:s3cret@a", "the scheme 'redis+nobody'"),
        ("s3cret", "no scheme"),
    ],
)
def test_what_cannot_be_read_is_refused_without_repeating_it(url: str, what: str) -> None:
    """What is wrong and what is expected, in one line, by the producer as by the worker."""
    with pytest.raises(ValueError) as refused:
        Producer(url)

    assert what in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "s3" not in str(refused.value)


def test_streams_are_named_by_hash_tags_unless_there_is_one() -> None:
    """As the wire contract says."""
    assert stream_names("events", 1) == ["events"]
    assert stream_names("events", 3) == ["events:{0}", "events:{1}", "events:{2}"]
    with pytest.raises(ValueError, match="streams is 1 to 256, got 0"):
        Producer(streams=0)


@given(st.text(alphabet="ab{}é", max_size=8))
def test_slot_of_a_key_is_what_redis_py_says(key: str) -> None:
    """Also with braces that are empty, open or nested."""
    assert slot_of(key) == key_slot(key.encode())
