"""YAML without surprises: positions for every value, and an error wherever two readers of YAML could disagree.

Refused: duplicate keys, YAML 1.1 booleans, numbers that are not plain decimals, base 60, dates, anchors, aliases, merge
keys, tags, several documents, deep nesting. PyYAML's scanner and parser do the syntax; its resolver, which follows
YAML 1.1, is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from planner.diagnostic import SECRET_KEY, Mark, Report, shown
from planner.nodes import MappingNode, Node, ScalarNode, SequenceNode, Value
from planner.yaml_syntax import report_syntax_error, to_mark

MAX_DEPTH = 32
LINE_END = 10**9

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|[1-9][0-9]*(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_REFUSED = (
    (re.compile(r"(?i:yes|no|on|off)"), "yaml-boolean", "is a boolean to some readers of YAML and text to others"),
    (re.compile(r"True|TRUE|False|FALSE"), "yaml-boolean", "is a boolean to some readers of YAML and text to others"),
    (re.compile(r"[-+]?0[0-9_]+|[-+]?0o[0-7_]+"), "yaml-octal", "is an octal number to some readers of YAML"),
    (re.compile(r"[-+]?0[xb][0-9a-fA-F_]+|[-+]?[0-9][0-9.]*_[0-9_.]*"), "yaml-number", "is not a plain decimal number"),
    (re.compile(r"(?i:[-+]?\.inf|\.nan)"), "yaml-number", "is not a plain decimal number"),
    (
        re.compile(r"[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"),
        "yaml-base60",
        "is a number in base 60 to some readers",
    ),
    (re.compile(r"\d{4}-\d\d?-\d\d?(?:[Tt \t].*)?"), "yaml-timestamp", "is a date to some readers of YAML"),
)
_BOOLEAN = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_REFERENCES = "write {env: NAME} or {file: PATH}"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def resolve(text: str) -> Value:
    """What an unquoted scalar means: null, true, false, a decimal number, or else the text itself."""
    if text in {"", "~", "null"}:
        return None
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.fullmatch(text) and len(text) <= 18:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def parse(text: str, report: Report) -> Node | None:
    """The one document in `text`. Mistakes go to `report`; None if there is nothing to go on with."""
    builder = _Builder(report)
    try:
        root = builder.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        report_syntax_error(error, text, report)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        report.add(mark, "yaml-character", f"character U+{int(error.character):04X} is not allowed in YAML")
    except _TooDeep:
        pass  # reported where it was found
    else:
        report.parsed = True
        return root
    return None


class _TooDeep(Exception):
    """Nesting beyond MAX_DEPTH: reported, and not worth reading on."""


class _Builder:
    """Makes nodes of PyYAML's events."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def document(self, events: Iterator[yaml.Event]) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents == 2:
                    self._report.add(
                        to_mark(event.start_mark),
                        "several-documents",
                        "a second document starts here; a file holds one",
                        "move what follows '---' into a file of its own",
                    )
            elif isinstance(event, yaml.NodeEvent):
                node = self._node(event, events, secret=False, depth=0)
                root = root or node
        if root is None or (isinstance(root, ScalarNode) and root.value is None and not root.bad):
            self._report.add(Mark(1, 1), "empty-document", "the file is empty; expected a mapping with 'version: 1'")
            return None
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], secret: bool, depth: int) -> Node:
        mark = to_mark(event.start_mark)
        if depth > MAX_DEPTH:
            self._report.add(mark, "too-deep", f"nested more than {MAX_DEPTH} levels deep")
            raise _TooDeep
        self._refuse_features(event, mark, secret)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, events, secret, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            for item in events:
                if isinstance(item, yaml.SequenceEndEvent):
                    break
                items.append(self._node(item, events, secret, depth + 1))
            return SequenceNode(mark, tuple(items))
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, mark, secret)
        return ScalarNode(mark, None, bad=True)

    def _refuse_features(self, event: yaml.Event, mark: Mark, secret: bool) -> None:
        anchor = getattr(event, "anchor", None)
        if secret and _is_inline(event):
            self._report.hide(mark, Mark(mark.line, LINE_END))
        if isinstance(event, yaml.AliasEvent):
            message = "aliases are not allowed" if secret else f"alias {shown('*' + str(anchor))} is not allowed"
            hint = 'quote it if it is meant as text: "*"' if not secret else "quote it if it is meant as text"
            self._report.add(mark, "alias", message, hint)
        elif anchor is not None:
            message = "anchors are not allowed" if secret else f"anchor {shown('&' + anchor)} is not allowed"
            self._report.add(mark, "anchor", message, "write the value out where it is needed")
        if getattr(event, "tag", None) is not None:
            self._report.add(
                mark, "tag", "tags ('!...') are not allowed", "remove the tag; quote the value to make it text"
            )

    def _mapping(
        self, start: yaml.MappingStartEvent, events: Iterator[yaml.Event], secret: bool, depth: int
    ) -> MappingNode:
        entries: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        bad = torn = False
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                if secret and bad:
                    self._report.hide(to_mark(start.start_mark), to_mark(event.end_mark))
                break
            key_mark = to_mark(event.start_mark)
            if torn or (secret and not _is_reference(event)):
                bad = True
                if not torn:
                    self._report.add(key_mark, "inline-secret", "only 'env' or 'file' may stand here", _REFERENCES)
                self._node(event, events, secret=True, depth=depth + 1)
                self._node(next(events), events, secret=True, depth=depth + 1)
                continue
            key = self._key(event, events, depth)
            child = next(events)
            child_secret = _is_secret(key, child, secret)
            child_node = self._node(child, events, child_secret, depth + 1)
            if start.flow_style and child_secret and _is_inline(child):
                # A comma or a quote in it ends it: what follows may be the rest of it, and is neither read nor shown.
                bad = torn = True
                wrong = "is not the name of an environment variable" if secret else "must not hold the secret itself"
                self._report.add(key_mark, "inline-secret", f"{shown(key)} {wrong}", _REFERENCES)
            elif _is_merge_key(event):
                bad = True
            elif key is not None and key in entries:
                first = keys[key]
                self._report.add(
                    key_mark,
                    "duplicate-key",
                    f"key {shown(key)} is given twice; first at line {first.line}, column {first.col}",
                    "keep one of them",
                )
            elif key is not None:
                entries[key] = child_node
                keys[key] = key_mark
        return MappingNode(to_mark(start.start_mark), entries, keys, bad)

    def _key(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> str | None:
        mark = to_mark(event.start_mark)
        if _is_merge_key(event):
            self._report.add(mark, "merge-key", "merge keys ('<<') are not allowed", "write the keys out")
            return None
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_features(event, mark, secret=False)
            node: Node = self._scalar(event, mark, secret=False, is_key=True)
        else:
            node = self._node(event, events, secret=False, depth=depth + 1)
        if isinstance(node, ScalarNode) and (node.bad or isinstance(node.value, str)):
            return None if node.bad else str(node.value)
        found = shown(node.value) if isinstance(node, ScalarNode) else "a list or mapping"
        hint = f'quote it: "{found}"' if isinstance(node, ScalarNode) and node.value is not None else ""
        self._report.add(mark, "key-not-text", f"a key must be text, not {found}", hint)
        return None

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark, secret: bool, is_key: bool = False) -> ScalarNode:
        if secret:
            # What looks like a comment after it may be the rest of it.
            self._report.hide(mark, Mark(to_mark(event.end_mark).line, LINE_END) if event.value else mark)
        text = event.value
        if event.tag is not None:
            return ScalarNode(mark, text, bad=True)
        if _UNUSABLE.search(text):
            hint = "write the character itself, not its escape" if "\0" not in text else ""
            self._report.add(mark, "yaml-character", "this text has a null character or half a surrogate pair", hint)
            return ScalarNode(mark, text, bad=True)
        if not event.implicit[0]:
            return ScalarNode(mark, text)
        for pattern, code, why in _REFUSED:
            if pattern.fullmatch(text):
                self._report.add(
                    mark, code, f"{'this value' if secret else text} {why}", _quote_hint(text, code, secret, is_key)
                )
                return ScalarNode(mark, text, bad=True)
        if _INTEGER.fullmatch(text) and isinstance(resolve(text), str):
            self._report.add(
                mark, "yaml-number", f"a number of {len(text)} digits is too long", "quote it to make it text"
            )
            return ScalarNode(mark, text, bad=True)
        return ScalarNode(mark, resolve(text))


def _is_merge_key(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<"


def _is_reference(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value in {"env", "file"}


def _is_decorated(event: yaml.Event) -> bool:
    return getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None


def _is_inline(event: yaml.Event) -> bool:
    written = isinstance(event, yaml.SequenceStartEvent) or (isinstance(event, yaml.ScalarEvent) and event.value != "")
    return written or _is_decorated(event)


def _is_secret(key: str | None, child: yaml.Event, inherited: bool) -> bool:
    if inherited:  # inside `password: {...}`: the name of a variable or a file is no secret, anything else may be one
        if key == "file":
            return False
        named = isinstance(child, yaml.ScalarEvent) and not _is_decorated(child) and _ENV_NAME.fullmatch(child.value)
        return not (key == "env" and named)
    if key is None or not SECRET_KEY.fullmatch(key):
        return False
    # A move or keyspace may be called "user_tokens": what is inside is theirs, and no secret.
    return not isinstance(child, yaml.MappingStartEvent) or key.lower() in {"password", "passwd", "pwd", "secret"}


def _quote_hint(text: str, code: str, secret: bool, is_key: bool) -> str:
    if secret:
        return "quote it to make it text"
    if code == "yaml-boolean" and not is_key:
        return f'write {_BOOLEAN[text.lower()]}, or quote it to make it text: "{text}"'
    return f'quote it to make it text: "{text}"'
