"""What a YAML file consists of, with the place of everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from planner.diagnostic import Mark

Value = str | int | float | bool | None


@dataclass(frozen=True)
class ScalarNode:
    """One value. `bad` marks one that an error was reported for already, so that nothing more is said about it."""

    mark: Mark
    value: Value
    bad: bool = False


@dataclass(frozen=True)
class SequenceNode:
    """A list."""

    mark: Mark
    items: tuple[Node, ...] = ()
    bad: bool = False


@dataclass(frozen=True)
class MappingNode:
    """A mapping. `keys` has the place of each key of `entries`.

    The reading methods answer with a default for what is missing or of another type; the schema reports those.
    """

    mark: Mark
    entries: Mapping[str, Node] = field(default_factory=dict)
    keys: Mapping[str, Mark] = field(default_factory=dict)
    bad: bool = False

    def child(self, key: str) -> MappingNode:
        """The mapping at `key`, or an empty one."""
        node = self.entries.get(key)
        return node if isinstance(node, MappingNode) else MappingNode(node.mark if node else self.mark)

    def children(self) -> Iterator[tuple[str, Mark, MappingNode]]:
        """Name, place of the name, and mapping of every entry that is a mapping or empty."""
        for key, node in self.entries.items():
            if isinstance(node, MappingNode) or (isinstance(node, ScalarNode) and node.value is None):
                yield key, self.keys[key], self.child(key)

    def value(self, key: str) -> Value:
        """The scalar at `key`, or None."""
        node = self.entries.get(key)
        return node.value if isinstance(node, ScalarNode) and not node.bad else None

    def text(self, key: str, default: str = "") -> str:
        """The text at `key`, or `default`."""
        value = self.value(key)
        return value if isinstance(value, str) else default

    def number(self, key: str, default: float) -> float:
        """The number at `key`, or `default`."""
        value = self.value(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else default

    def flag(self, key: str, default: bool) -> bool:
        """The boolean at `key`, or `default`."""
        value = self.value(key)
        return value if isinstance(value, bool) else default

    def texts(self, key: str) -> list[tuple[str, Mark]]:
        """The texts of the list at `key` with their places."""
        node = self.entries.get(key)
        items = node.items if isinstance(node, SequenceNode) else ()
        return [
            (i.value, i.mark) for i in items if isinstance(i, ScalarNode) and isinstance(i.value, str) and not i.bad
        ]

    def value_mark(self, key: str) -> Mark:
        """Where the value at `key` stands, or this mapping if there is none."""
        node = self.entries.get(key)
        return node.mark if node else self.mark


Node = ScalarNode | SequenceNode | MappingNode


def plain(node: Node) -> object:
    """`node` as the dicts, lists and values that a JSON Schema is checked against."""
    if isinstance(node, MappingNode):
        return {key: plain(child) for key, child in node.entries.items()}
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return node.value
