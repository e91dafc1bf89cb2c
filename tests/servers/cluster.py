"""A Redis Cluster on loopback: three primaries, each with a third of the slots, and replicas."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from tests.servers.ports import ReservedPort
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import eventually

SLOTS = 16_384
PRIMARIES = 3
_NODE_TIMEOUT_MS = 2_000


class ClusterNode(ValkeyServer):
    """A server that is a node of a Cluster. It keeps its data and its place over a restart."""

    def __init__(self, binary: Path, folder: Path) -> None:
        # Not the port plus 10,000, as is usual: that may be no port at all.
        self.bus = ReservedPort()
        super().__init__(
            binary,
            folder,
            append_only="always",
            extra={
                "cluster-enabled": "yes",
                "cluster-port": str(self.bus.number),
                "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
                "repl-diskless-sync-delay": "0",
                "cluster-replica-validity-factor": "0",
            },
        )

    def ask(self, *command: object) -> Any:
        """Send one command and return the reply."""
        with self.client() as client:
            return client.execute_command(*command)

    def is_settled(self, nodes: int) -> bool:
        """Whether it sees all slots served, and so many nodes."""
        info = cast("dict[str, str]", self.ask("CLUSTER INFO"))
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


class ClusterServers:
    """The nodes: the primaries first, then a replica of each, if there are to be any."""

    def __init__(self, binary: Path, folder: Path, *, replicas: bool = False) -> None:
        number = PRIMARIES * (2 if replicas else 1)
        self.nodes = [ClusterNode(binary, folder / f"node-{n}") for n in range(number)]

    @property
    def url(self) -> str:
        """How a client reaches it: by any two of the nodes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{hosts}"

    def holder(self, key: str) -> ClusterNode:
        """Return the node that holds a key."""
        asked = next(node for node in self.nodes if node.running)
        slot = asked.ask("CLUSTER KEYSLOT", key)
        for first, last, primary, *_ in asked.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"nobody holds slot {slot}")

    def await_settled(self) -> None:
        """Return when every node that runs sees all slots served."""
        running = [node for node in self.nodes if node.running]
        eventually(
            lambda: all(node.is_settled(len(self.nodes)) for node in running),
            timeout=60,
            what="a Cluster in which all slots are served",
        )

    def _form(self) -> None:
        for number, node in enumerate(self.nodes[:PRIMARIES]):
            first, end = (SLOTS * edge // PRIMARIES for edge in (number, number + 1))
            node.ask("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus.number)
        self.await_settled()
        for replica, primary in zip(self.nodes[PRIMARIES:], self.nodes, strict=False):
            replica.ask("CLUSTER REPLICATE", primary.ask("CLUSTER", "MYID").decode())
        if len(self.nodes) > PRIMARIES:
            eventually(self._are_replicas_linked, timeout=60, what="replicas that keep up")

    def _are_replicas_linked(self) -> bool:
        infos: list[Any] = []
        for node in self.nodes[PRIMARIES:]:
            with node.client() as client:
                infos.append(client.info("replication"))
        told = all(info.get("master_link_status") == "up" for info in infos)
        return told and all(
            len(shard) == 4 for node in self.nodes for shard in node.ask("CLUSTER", "SLOTS")
        )

    def __enter__(self) -> Self:
        """Start all nodes, and make them one Cluster."""
        try:
            for node in self.nodes:
                node.start()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all nodes."""
        self.stop()

    def stop(self) -> None:
        """Kill all of them: nobody needs their data any more."""
        for node in self.nodes:
            node.kill()
