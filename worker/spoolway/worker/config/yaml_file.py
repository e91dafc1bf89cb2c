"""The YAML file: its keys with where they stand, read when they are asked for.

The file may be the proxy's own, with much in it that is none of ours: only what is asked for is
looked at, and only there variables are put in. No object is ever made of it, and scalars stay the
text they are: a password 0123 is no number. Nothing here repeats a value in an error.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from spoolway.worker.config.errors import UsageError
from spoolway.worker.config.variables import fill

MAX_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 64
"""libyaml's composer is recursive, and a file of brackets would end the process."""
_MAX_NODES: Final = 10_000
"""Of what is taken over as a whole, its aliases written out."""
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_SCALARS: Final = frozenset(
    _TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the file and what it holds; the root has an empty path."""

    file: str
    path: str
    line: int
    variables: Mapping[str, str] = field(repr=False)
    _node: Any = field(repr=False)

    @property
    def where(self) -> str:
        """Its name, for a message."""
        return f"{self.path} in {self.file}, line {self.line}" if self.path else self.file

    @property
    def source(self) -> str:
        """Its name, beside its value."""
        return f"{self.file}: {self.path}"

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys of its own. Of nothing at all that is true, too."""
        return self._node is None or _kind(self._node) == "mapping" or self._is_null

    @property
    def _is_null(self) -> bool:
        return bool(self._node.tag == f"{_TAG}null")

    def entries(self) -> dict[str, "Entry"]:
        """Return its keys. Raises UsageError if it is no mapping, or has a key twice."""
        if not self.is_mapping:
            raise UsageError(f"{self.where} is no mapping of keys to values")
        if self._node is None or self._is_null:
            return {}
        found: dict[str, Entry] = {}
        for key, value in self._pairs(self._node, [0]):
            path = f"{self.path}.{key.value}" if self.path else str(key.value)
            entry = Entry(self.file, path, key.start_mark.line + 1, self.variables, value)
            if key.value in found:
                raise UsageError(f"{entry.where} is there already in line {found[key.value].line}")
            found[key.value] = entry
        return found

    def _pairs(self, node: Any, count: list[int], depth: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values; what `<<` merges only where no key of that name went before."""
        self._count(count, depth)
        named = [(key, value) for key, value in node.value if _kind(key) == "scalar"]
        seen = set()
        for key, value in named:
            if key.tag != _MERGE:
                seen.add(key.value)
                yield key, value
        for key, value in named:
            if key.tag != _MERGE:
                continue
            for mapping in value.value if _kind(value) == "sequence" else [value]:
                if _kind(mapping) == "mapping":
                    for pair in self._pairs(mapping, count, depth + 1):
                        if pair[0].value not in seen:
                            seen.add(pair[0].value)
                            yield pair

    def _count(self, count: list[int], depth: int) -> None:
        """Raise UsageError for aliases of aliases, or of themselves."""
        count[0] += 1
        if count[0] > _MAX_NODES or depth > _MAX_DEPTH:
            raise UsageError(f"{self.where} holds more than can be meant")

    def text(self) -> str | None:
        """Return its value with variables put in; None for nothing. Raises UsageError."""
        if _kind(self._node) != "scalar":
            raise UsageError(f"{self.where} is a single value, and has several here")
        if self._node.tag not in _SCALARS:
            raise UsageError(f"{self.where} has a tag that is not understood: leave it out")
        if self._is_null:
            return None
        try:
            return fill(self._node.value, self.variables) or None
        except ValueError as error:
            raise UsageError(f"{self.where}, {error}") from None

    def tree(self) -> Any:
        """Return all that is below it, as mappings, lists and text. Raises UsageError."""
        return self._tree([0], 0)

    def _tree(self, count: list[int], depth: int) -> Any:
        self._count(count, depth)
        if _kind(self._node) == "scalar":
            return self.text()
        if _kind(self._node) == "mapping":
            below = self.entries()
            return {name: below[name]._tree(count, depth + 1) for name in below}  # noqa: SLF001 - its own
        items = [replace(self, _node=item) for item in self._node.value]
        return [item._tree(count, depth + 1) for item in items]  # noqa: SLF001 - its own class


def read_yaml(path: str, variables: Mapping[str, str]) -> Entry:
    """Read a file.

    Raises:
        UsageError: it cannot be read, is too large, or is no YAML mapping.
    """
    import yaml  # only where there is a file

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data = _bytes(path)
    try:
        _check_depth(path, yaml.parse(data, Loader=loader))
        node = yaml.compose(data, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}," if mark else ""
        # What it found there stands in quotes, and may be half a password: `password: *s3cret`.
        said = ", ".join(filter(None, (error.context, error.problem)))
        problem = re.sub(r"(['\"]).*\1", "…", said, flags=re.DOTALL)
        raise UsageError(
            f"{path}{line} is no valid YAML: {problem} (put special characters in quotes)"
        ) from None
    except (yaml.YAMLError, UnicodeError):
        raise UsageError(f"{path} is no text in UTF-8") from None
    root = Entry(path, "", 1, variables, node)
    if not root.is_mapping:
        raise UsageError(f"{path} is no mapping of keys to values")
    return root


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - /dev/stdin and pipes, too
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (
            os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no path"
        )
        raise UsageError(
            f"the configuration file {path} cannot be read: {reason}; it is named by --config or "
            "SPOOLWAY_CONFIG"
        ) from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"the configuration file {path} is larger than {MAX_BYTES:,} bytes")
    return data


def _check_depth(path: str, events: Iterator[Any]) -> None:
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > _MAX_DEPTH:
            line = event.start_mark.line + 1
            raise UsageError(f"{path}, line {line}, is nested deeper than can be meant")


def _kind(node: Any) -> str:
    return str(node.id)
