"""`spoolway dead`: what could not be stored, and why. The way back is in dead_back.py."""

import base64
import sys
from collections import Counter
from typing import Annotated, Final

import orjson
import typer

from spoolway.spool import KeptLetter
from spoolway.worker.cli.app import Dir, Json, app, one_line_errors
from spoolway.worker.cli.letters import Reasons, dead_letters, digests_of, reading
from spoolway.worker.cli.shown import print_json, printable, size
from spoolway.worker.config import UsageError, load

dead = typer.Typer(help="Look at dead letters, and bring them back.", no_args_is_help=True)
app.add_typer(dead, name="dead")

_LINE: Final = "{:12}  {:19}  {:14}  {:8}  {:>8}  {}"


@dead.command()
@one_line_errors
def ls(reason: Reasons = None, folder: Dir = None, as_json: Json = False) -> None:
    """List the dead letters, oldest first, and count them by reason.

    unreadable: a line that is no letter, torn by a kill or damaged since. It is never removed
    unless you purge it by that name.

    Examples:

        spoolway dead ls

        spoolway dead ls --reason refused --json
    """
    letters = dead_letters(load(dir=folder))
    reasons: Counter[tuple[str, str]] = Counter()
    with reading(letters.folder):
        if as_json:
            # Piece by piece: there may be more than fits into memory.
            typer.echo('{"letters":[', nl=False)
        for kept in letters.letters():
            if reason and kept.reason not in reason:
                continue
            if as_json:
                typer.echo("," if reasons else "", nl=False)
                typer.echo(orjson.dumps(_summary(kept)).decode(), nl=False)
            else:
                if not reasons:
                    typer.echo(
                        _LINE.format("id", "first seen", "reason", "sqlstate", "size", "message")
                    )
                typer.echo(_as_line(kept))
            reasons[kept.reason, _sqlstate(kept)] += 1
    counts = [
        {"reason": kind, "sqlstate": sqlstate or None, "count": number}
        for (kind, sqlstate), number in reasons.most_common()
    ]
    if as_json:
        typer.echo(f'],"reasons":{orjson.dumps(counts).decode()},"total":{reasons.total()}}}')
        return
    if not reasons:
        typer.echo(f"no dead letters in {letters.folder}")
        return
    typer.echo()
    for (kind, sqlstate), number in reasons.most_common():
        typer.echo(f"{number:>8,}  {printable(f'{kind} {sqlstate}')}".rstrip())


@dead.command()
@one_line_errors
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the beginning of it.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the raw bytes to stdout, and nothing else.")
    ] = False,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Print everything that is known of a dead letter, with its raw bytes.

    Examples:

        spoolway dead show 3f9c0a1b2c3d

        spoolway dead show 3f9c --raw | jq .
    """
    if raw and as_json:
        raise UsageError("--raw writes bytes, --json one JSON value: give one of them")
    letters = dead_letters(load(dir=folder))
    with reading(letters.folder):
        (digest,) = digests_of(letters, [letter_id])
        kept = next(one for one in letters.letters() if one.digest == digest)
    letter = kept.letter
    content = kept.line if letter is None else letter.raw
    if raw:
        if sys.stdout.isatty():
            raise UsageError(
                "the raw bytes may hold what a terminal obeys: send them to a file or through jq, "
                "or leave out --raw"
            )
        sys.stdout.buffer.write(content)
        return
    fields = {} if letter is None else letter.fields
    if as_json:
        shown = {**_summary(kept), "file": str(kept.file), **_readable("raw", content)}
        if fields:
            shown["fields"] = {
                key: text
                for name, value in fields.items()
                for key, text in _readable(name.decode(errors="replace"), value).items()
            }
        print_json(shown)
        return
    for name, value in {**_summary(kept), "file": kept.file}.items():
        if value not in (None, ""):
            typer.echo(f"{name:11} {printable(str(value))}")
    for key, value in fields.items():
        typer.echo(f"field       {_as_text(key)} = {_as_text(value)}")
    typer.echo()
    typer.echo(_as_text(content))


def _summary(kept: KeptLetter) -> dict[str, object]:
    letter = kept.letter
    return {
        "id": kept.id,
        "first_seen": kept.first_seen or None,
        "reason": kept.reason,
        "sqlstate": letter.sqlstate if letter else None,
        "message": letter.message if letter else "a line that is no letter",
        "entry_id": letter.entry_id if letter else None,
        "bytes": len(letter.raw if letter else kept.line),
    }


def _as_line(kept: KeptLetter) -> str:
    summary = _summary(kept)
    return _LINE.format(
        kept.id,
        printable(kept.first_seen)[:19],
        printable(kept.reason),
        printable(_sqlstate(kept)),
        size(len(kept.letter.raw if kept.letter else kept.line)),
        printable(str(summary["message"])),
    )


def _sqlstate(kept: KeptLetter) -> str:
    return (kept.letter.sqlstate if kept.letter else None) or ""


def _readable(name: str, value: bytes) -> dict[str, object]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _as_text(value: bytes) -> str:
    return printable(value.decode(errors="backslashreplace"))
