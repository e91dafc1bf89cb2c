"""Any language: the Node example against the contract, and what a wrong producer is told."""

import json
import re
import select
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jsonschema
import orjson
import pytest
import zstandard

from spoolway.schema import DEFAULT_STREAM, is_uuid7, lower_bound, new_id, time_of
from spoolway.schema.jsonschema import FOLDER as SCHEMAS
from spoolway.spool import DeadLetters
from tests.commands import environment, run
from tests.pushed import lines_by_frame
from tests.servers import ValkeyServer
from tests.workers import BIN, WorkerProcess, count, drained, ending, push, request_line, rows

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "node"
CONTRACT = (ROOT / "docs" / "wire-contract.md").read_text()
VALIDATORS = {
    file.stem: jsonschema.Draft202012Validator(
        orjson.loads(file.read_bytes()),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    for file in SCHEMAS.glob("*.json")
}

Node = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def installed(run_folder: Path) -> Path:
    """A copy of the example with its packages, made once for all of a run's test processes."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no node and npm here: the example for Node cannot run")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.strip("v").partition(".")[0]) < 20:
        pytest.skip(f"Node {version.stdout.strip()} is older than 20, which the example needs")
    folder = run_folder / "node"
    with (run_folder / "node.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():
            shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
            done = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                shutil.rmtree(folder)
                pytest.skip(f"npm cannot install the example's packages: {done.stderr[-200:]}")
    return folder


@pytest.fixture
def node(installed: Path, valkey: ValkeyServer) -> Node:
    """Run the example: `node("demo")`; or `node(code="…")`, JavaScript beside it."""

    def run_node(*arguments: str, code: str = "", stdin: str = "") -> Any:
        return subprocess.run(
            [
                "node",
                *(("--input-type=module", "-e", code) if code else ("producer.mjs", *arguments)),
            ],
            cwd=installed,
            env=environment(REDIS_URL=valkey.url),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run_node


@contextmanager
def worked(server: ValkeyServer, folder: Path, database: str) -> Iterator[None]:
    """Have a worker drain the stream; in the block it has ended."""
    worker = WorkerProcess(database, server.url, folder)
    with ending(worker.started()):
        drained(server, worker)
        assert worker.terminate() == 0
        yield


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A SQLite database."""
    return f"sqlite:///{tmp_path / 'logs.db'}"


def entries(server: ValkeyServer) -> list[dict[str, str]]:
    """The stream's entries, as a client with decoding on has them."""
    with server.client() as client:
        found = client.xrange(DEFAULT_STREAM)
    return [
        {name.decode(): value.decode() for name, value in fields.items()} for _, fields in found
    ]


def lines_of(server: ValkeyServer) -> list[dict[str, Any]]:
    """All events on the stream."""
    return [orjson.loads(line) for lines in lines_by_frame(server) for line in lines]


# --- The example ------------------------------------------------------------------------


def test_what_the_example_pushes_keeps_the_contract(node: Node, valkey: ValkeyServer) -> None:
    """Frames and events are valid by the published schemas; several events are one frame."""
    done = node("demo")
    assert (done.returncode, done.stdout) == (0, "pushed 3 events, dropped 0\n"), done.stderr
    (entry,) = entries(valkey)
    VALIDATORS["frame"].validate(entry)
    assert (entry["v"], entry["codec"], entry["n"]) == ("1", "json", "3")
    for event in lines_of(valkey):
        VALIDATORS[event["type"]].validate(event)
        assert is_uuid7(UUID(event["id"]))


def test_what_the_example_pushes_becomes_rows(
    node: Node, valkey: ValkeyServer, folder: Path, sqlite: str
) -> None:
    """Every column has its value, the error knows its request, and nothing is dead."""
    assert node("demo").returncode == 0
    good, error, bad = lines_of(valkey)
    with worked(valkey, folder, sqlite):
        found = rows(
            sqlite,
            "SELECT id, model_name, method, path, outcome, http_status, prompt_tokens, cost,"
            " duration_ms, headers, body, extra FROM request_logs ORDER BY id",
        )
        errors = rows(
            sqlite,
            "SELECT id, request_id, request_log_id, error_type, error_message, backend_name,"
            " http_status, request_path, model_name, extra_context FROM error_logs",
        )
    request = ("POST", "/v1/chat/completions")
    sent = ('{"content-type":"application/json"}', '{"messages":[]}', None)
    assert found == [
        (good["id"], "gpt-4o", *request, "success", 200, 12, 0.0004, None, *sent),
        (bad["id"], "gpt-4o-mini", *request, "error", 502, None, None, 31.5, *sent),
    ]
    [(*columns, stack)] = errors
    assert columns == [
        *(error["id"], bad["id"], bad["id"], "TypeError", "fetch failed", "eu", 502),
        *("/v1/chat/completions", "gpt-4o-mini"),
    ]
    assert "producer.mjs" in orjson.loads(stack)["stack"]
    assert list(DeadLetters(folder / "dead").letters()) == []


def test_the_example_sends_no_secrets(node: Node, valkey: ValkeyServer) -> None:
    """Neither a header that is not known to be harmless, nor a query string."""
    assert "sk-demo" in (EXAMPLE / "producer.mjs").read_text()
    assert node("demo").returncode == 0
    assert "sk-demo" not in str(entries(valkey))
    assert "authorization" not in str(entries(valkey))


def test_events_that_are_sent_twice_are_one_row(
    node: Node, valkey: ValkeyServer, folder: Path, sqlite: str
) -> None:
    """By their ids; 250 events are three frames."""
    text = b"\n".join(request_line(prompt_tokens=number) for number in range(250)).decode()
    for _ in range(2):
        done = node("send", "-", stdin=text)
        assert (done.returncode, done.stdout) == (0, "pushed 250 events, dropped 0\n")
    assert [entry["n"] for entry in entries(valkey)] == ["100", "100", "50"] * 2
    with worked(valkey, folder, sqlite):
        assert count(sqlite) == 250
        assert list(DeadLetters(folder / "dead").letters()) == []


@pytest.mark.chaos
def test_ids_of_the_example_are_uuid7_and_sort_by_time(node: Node) -> None:
    """Also thousands in one millisecond, none twice."""
    before = new_id()
    done = node(
        code="import { uuid7 } from './producer.mjs';"
        "console.log(Array.from({ length: 9000 }, uuid7).join('\\n'))"
    )
    texts = done.stdout.split()
    ids = [UUID(text) for text in texts]
    assert texts == [str(one) for one in ids] == sorted(set(texts))
    assert all(is_uuid7(one) for one in ids)
    assert len(ids) == 9000
    assert lower_bound(time_of(before)) <= ids[0]
    assert (time_of(ids[-1]) - time_of(new_id())).total_seconds() < 1


class _LosesAReply(socketserver.ThreadingTCPServer):
    """Passes everything on; after the first XADD it ends the connection instead of its reply."""

    daemon_threads = True
    lost = 0

    def __init__(self, port: int) -> None:
        self.far_port = port
        super().__init__(("127.0.0.1", 0), _Relay)


class _Relay(socketserver.BaseRequestHandler):
    server: _LosesAReply

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.far_port)) as far:
            other = {self.request: far, far: self.request}
            while True:
                for near in select.select(list(other), [], [])[0]:
                    data = near.recv(65_536)
                    if not data:
                        return
                    other[near].sendall(data)
                    if near is self.request and b"XADD" in data and not self.server.lost:
                        self.server.lost += len(far.recv(65_536))
                        return


def test_a_reply_that_gets_lost_makes_the_same_frame_again(
    node: Node, valkey: ValkeyServer
) -> None:
    """With the same ids: it is on the stream twice, and one row each (as proved above)."""
    with _LosesAReply(valkey.port) as relay:
        threading.Thread(target=relay.serve_forever, args=(0.01,)).start()
        done = node(
            code="import { Producer } from './producer.mjs';"
            f"const producer = new Producer('redis://127.0.0.1:{relay.server_address[1]}');"
            "producer.emit({ type: 'request', id: '0199d1a2-7c3e-7b1a-9f52-3d1c5b7a9e04' });"
            "await producer.close(); console.log(producer.pushed, producer.dropped)"
        )
        relay.shutdown()
        assert relay.lost > 0
    assert done.stdout == "1 0\n", done.stderr
    first, second = entries(valkey)
    assert first == second


def test_the_example_waits_for_a_redis_that_comes_back(
    installed: Path, private_valkey: ValkeyServer
) -> None:
    """`emit` takes events meanwhile; the reason is said once, without their content."""
    private_valkey.stop()
    code = (
        "import { Producer, request } from './producer.mjs'; const producer = new Producer();"
        "producer.emit(request({ model: 'secret-model', method: 'GET', url: '/' }));"
        "console.log('emitted'); process.stdin.once('data', async () => {"
        "await producer.close(20_000); console.log(producer.pushed, producer.dropped);"
        "process.stdin.destroy() })"
    )
    with subprocess.Popen(
        ["node", "--input-type=module", "-e", code],
        cwd=installed,
        env=environment(REDIS_URL=private_valkey.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "emitted\n"
        said = process.stderr.readline()
        assert said.startswith("spoolway: Redis takes no events: ")
        private_valkey.start()
        out, more = process.communicate("close\n", timeout=30)
    assert (out, more) == ("1 0\n", "")
    assert "secret-model" not in said
    assert [event["model_name"] for event in lines_of(private_valkey)] == ["secret-model"]


def test_what_cannot_be_sent_is_dropped_and_counted(node: Node) -> None:
    """Never thrown at the proxy: no JSON, too large, closed, and what no Redis takes in time."""
    done = node(
        code="import { Producer } from './producer.mjs'; const out = [];"
        "const producer = new Producer('redis://127.0.0.1:1');"
        "const cycle = {}; cycle.again = cycle;"
        "for (const body of [1n, cycle, 'x'.repeat(5_000_000), 'right'])"
        "  out.push(producer.emit({ type: 'request', body }));"
        "out.push(producer.emit(undefined)); await producer.close(1);"
        "out.push(producer.emit({ type: 'request' }));"
        "console.log(JSON.stringify(out), producer.pushed, producer.dropped)"
    )
    assert done.stdout == "[false,false,false,true,false,false] 0 6\n", done.stderr


def test_the_example_says_how_it_is_used(node: Node) -> None:
    """Without a command, or with one that it does not know: exit 2."""
    for arguments in ([], ["send"], ["--help"]):
        done = node(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: node producer.mjs demo")
        assert "REDIS_URL" in done.stderr
        assert "SPOOLWAY_STREAM" in done.stderr


def test_the_example_is_pinned_and_names_no_address_of_packages() -> None:
    """One exact version, and nothing that npm leaves behind."""
    package = json.loads((EXAMPLE / "package.json").read_text())
    assert [*package["dependencies"]] == ["redis"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", package["dependencies"]["redis"])
    assert "http" not in (EXAMPLE / "package.json").read_text()
    ignored = (EXAMPLE / ".gitignore").read_text().split()
    assert ignored == ["/node_modules/", "/package-lock.json"]


# --- What a wrong producer is told ---------------------------------------------------------

ID = str(new_id())
LINE = f'{{"type":"request","id":"{ID}"}}'


def frame(**changes: Any) -> dict[str, Any]:
    """A right frame with some fields changed, or left out where None."""
    fields = {"v": "1", "codec": "json", "n": "1", "data": LINE, **changes}
    return {name: value for name, value in fields.items() if value is not None}


def event(**changes: object) -> dict[str, Any]:
    """A frame with one event, whose fields are changed, or left out where Ellipsis."""
    fields = {"type": "request", "id": ID, **changes}
    kept = {name: value for name, value in fields.items() if value is not ...}
    return frame(data=json.dumps(kept))


EXAMPLE_EVENT = 'each line is one event, such as {"type":"request","id":"<a UUIDv7>"}'
MINT = "is not a UUIDv7: mint it with a UUIDv7 generator (npm's uuid v7, Go's uuid.NewV7"
BROKEN: Mapping[str, tuple[dict[str, Any], str, list[str]]] = {
    "no v": (frame(v=None), "bad-frame", ['"v" must be 1, got nothing', "'codec, n, data'"]),
    "v is 2": (frame(v="2"), "bad-frame", ["field \"v\" must be 1, got '2'"]),
    "another form": ({"event": LINE}, "bad-frame", ['"v" must be 1', "this entry: 'event'"]),
    "no codec": (frame(codec=None), "bad-frame", ['"codec" must be json or zstd, got nothing']),
    "gzip": (frame(codec="gzip"), "bad-frame", ["\"codec\" must be json or zstd, got 'gzip'"]),
    "no n": (frame(n=None), "bad-frame", ['"n" must be the number of events', "it is nothing"]),
    "n is wrong": (frame(n="2"), "bad-frame", ["it is '2', and \"data\" has 1 lines"]),
    "n is a word": (frame(n="one"), "bad-frame", ["it is 'one', and \"data\" has 1 lines"]),
    "pretty JSON": (
        frame(data=json.dumps({"type": "request", "id": ID}, indent=1)),
        "bad-frame",
        ['"data" has 4 lines', "an event is one line, without a line end in it"],
    ),
    "no data": (frame(data=None), "bad-frame", ['"data" is missing or empty', "'v, codec, n'"]),
    "empty data": (frame(data="", n="0"), "bad-frame", ["is missing or empty: it holds the JSON"]),
    "text as zstd": (
        frame(codec="zstd", data="garbage"),
        "bad-frame",
        ["not one zstd frame", "67 61 72 62, not with 28 b5 2f fd", 'or set "codec" to json'],
    ),
    "zstd as text": (
        frame(codec="zstd", data=zstandard.compress(LINE.encode()).decode(errors="replace")),
        "bad-frame",
        ["it begins with the bytes 28 ef bf bd", "push bytes, no text and no base64"],
    ),
    "zstd as json": (
        frame(data=zstandard.compress(LINE.encode())),
        "bad-frame",
        ['"codec" is json, and "data" is packed with zstd: set "codec" to zstd'],
    ),
    "half of it": (
        frame(codec="zstd", data=zstandard.compress(LINE.encode())[:-4]),
        "bad-frame",
        ["not one zstd frame that unpacks: decompression error: did not decompress full frame"],
    ),
    "a bomb": (
        frame(codec="zstd", data=zstandard.compress(bytes(2**26))),
        "oversize",
        ["67108864 bytes when unpacked; a frame has at most 33554432"],
    ),
    "too many": (
        frame(n="10001", data="\n".join([LINE] * 10_001)),
        "oversize",
        ["10001 events; a frame has at most 10000"],
    ),
    "an empty line": (frame(data="\n"), "undecodable", ["an empty line", EXAMPLE_EVENT]),
    "no JSON": (
        frame(data=LINE.replace('"type"', "type")),
        "undecodable",
        ["not JSON", "property name enclosed in double quotes", "(char 1)", "near '{type:"],
    ),
    "an object of JavaScript": (
        frame(data="[object Object]"),
        "undecodable",
        ["not JSON", "near '[object Object]'", EXAMPLE_EVENT],
    ),
    "an array": (
        frame(data=f"[{LINE}]"),
        "undecodable",
        ["not a JSON object but an array", EXAMPLE_EVENT],
    ),
    "JSON in JSON": (
        frame(data=json.dumps(LINE)),
        "undecodable",
        ["not a JSON object but a string", EXAMPLE_EVENT],
    ),
    "no type": (event(type=...), "undecodable", ['"type" must be "request" or "error", got not']),
    "unknown type": (event(type="log"), "undecodable", ['"request" or "error", got \'log\'']),
    "no id": (event(id=...), "not-uuid7", ['field "id" is missing or null', MINT, "such as 0199"]),
    "a word as id": (event(id="req-1"), "not-uuid7", ["id 'req-1'", MINT]),
    "UUIDv4": (event(id=str(uuid4())), "not-uuid7", [MINT, "it is a UUIDv4"]),
    "an id from 1970": (
        event(id="00000000-0000-7000-8000-000000000000"),
        "outside-window",
        ["is of 1970-01-01 00:00:00 UTC", "begins with Unix milliseconds", "SPOOLWAY_ID_PAST_DAYS"],
    ),
}


def test_a_frame_that_breaks_the_contract_tells_its_author_what_to_mend(
    valkey: ValkeyServer, folder: Path, sqlite: str
) -> None:
    """Each is a dead letter of its reason, in `dead ls` too; what is beside it lands."""
    good = [request_line(), request_line()]
    push(valkey, good[:1])
    with valkey.client() as client:
        names = {
            str(client.xadd(DEFAULT_STREAM, fields), "ascii"): name
            for name, (fields, _, _) in BROKEN.items()
        }
    push(valkey, good[1:])
    with worked(valkey, folder, sqlite):
        assert count(sqlite) == len(good)
        listed = run("dead", "ls", "--json", SPOOLWAY_DIR=str(folder)).json["letters"]
        shown = run("dead", "ls", SPOOLWAY_DIR=str(folder), COLUMNS="500").out

    found = {names[letter["entry_id"]]: letter for letter in listed}
    assert sorted(found) == sorted(BROKEN)
    for name, (_, reason, parts) in BROKEN.items():
        message = found[name]["message"]
        assert found[name]["reason"] == reason, name
        assert [part for part in parts if part not in message] == [], f"{name}: {message}"
        assert message[:60] in shown


@pytest.mark.chaos
def test_a_wrong_type_of_a_column_is_no_reason_to_lose_the_event(
    valkey: ValkeyServer, folder: Path, sqlite: str
) -> None:
    """The row lands; the value is in `extra` under its own name, and `_altered` says so."""
    with valkey.client() as client:
        client.xadd(DEFAULT_STREAM, event(http_status={"code": 200}, duration_ms="fast", cost="1"))
    with worked(valkey, folder, sqlite):
        found = rows(sqlite, "SELECT http_status, duration_ms, cost, extra FROM request_logs")
        assert list(DeadLetters(folder / "dead").letters()) == []
    [(status, duration, cost, extra)] = found
    assert (status, duration, cost) == (None, None, 1.0)
    assert orjson.loads(extra) == {
        "http_status": {"code": 200},
        "duration_ms": "fast",
        "_altered": ["http_status", "duration_ms"],
    }


# --- The page ---------------------------------------------------------------------------


def test_the_code_on_the_page_is_the_examples() -> None:
    """The core of a producer stands in docs/wire-contract.md as it is tested here."""
    (shown,) = re.findall(r"```js\n(.*?)```", CONTRACT, re.DOTALL)
    assert "uuid7" in shown
    assert "xAdd" in shown
    assert shown in (EXAMPLE / "producer.mjs").read_text()


def test_the_command_on_the_page_checks_an_event(tmp_path: Path) -> None:
    """It takes a right event, and names the field of a wrong one."""
    (command,) = re.findall(r"^check-jsonschema .*$", CONTRACT, re.MULTILINE)
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(LINE)
    wrong.write_text(LINE.replace("}", ',"http_status":"200"}'))

    def check(file: Path) -> subprocess.CompletedProcess[str]:
        name, *arguments = command.replace("event.json", str(file)).split()
        return subprocess.run(
            [BIN / name, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert check(right).returncode == 0
    assert "http_status" in check(wrong).stdout
