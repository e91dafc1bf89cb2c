"""The files of the page: read once, served from memory. No path of a client ever names a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "page"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""What is served. Anything else in the folder is not."""


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    type: str
    etag: str

    def response(self, known: str) -> Response:
        """Return it, or that nothing has changed. It is asked for each time: an update is seen at once."""
        headers = {"cache-control": "no-cache", "etag": self.etag}
        if self.etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(self.data, headers={**headers, "content-type": self.type})


class PageFiles:
    """`/` is index.html, and everything beside and below it is under `/assets/`."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            _path(file.relative_to(folder)): _read(file)
            for file in sorted(folder.rglob("*"))
            if file.suffix in _TYPES and file.is_file()
        }

    @property
    def paths(self) -> list[str]:
        """Where there is something."""
        return [*self._files]

    def response(self, path: str, known: str = "") -> Response | None:
        """Return the file at a path, None without one. `known` is the ETags that the client has."""
        file = self._files.get(path)
        return None if file is None else file.response(known)


def _path(file: Path) -> str:
    return "/" if file.as_posix() == _INDEX else f"/assets/{file.as_posix()}"


def _read(file: Path) -> _File:
    data = file.read_bytes()
    return _File(data, _TYPES[file.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')
