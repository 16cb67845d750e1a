"""What is wrong with a grammar, in one line: what, where, and what to do instead of the library's drawing."""

import json
import re
from collections.abc import Iterator
from typing import Any

from lyceum.core.errors import ConfigError, suggestion

SUBSCHEMAS = (
    "items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
LISTS_OF_SUBSCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
TABLES_OF_SUBSCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
KEYWORDS = (
    "type", "enum", "const", "anyOf", "oneOf", "allOf", "items", "additionalItems", "prefixItems", "minItems",
    "maxItems", "properties", "additionalProperties", "patternProperties", "required", "minProperties", "maxProperties",
    "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf",
)  # fmt: skip
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
CARET = re.compile(r"regex parse error:\n( +)(.*)\n( +)\^")  # how the library points into a pattern of one line
EXAMPLE = '{"type": "object"}'


def read_schema(text: str) -> dict[str, Any]:
    """A JSON schema's table; ConfigError where it is not JSON, or a keyword is nearly one that there is."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"json_schema is not JSON: {error}; give a schema such as {EXAMPLE}") from error
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise ConfigError(f"json_schema is {text[:40]}; it must be a table such as {EXAMPLE}, or true")
    near = {keyword.lower(): keyword for keyword in KEYWORDS}
    for place, key, _ in _keywords(schema):
        meant = near.get(key.lower().replace("_", ""))
        if meant and meant != key:  # by the standard it would be ignored, and the answer free
            raise ConfigError(f"json_schema has {key!r} at {place}; did you mean {meant!r}?")
    return schema


def about_schema(schema: dict[str, Any], complaint: str) -> str:
    """What cannot be done about a schema: `json_schema has 'not' at #/items, which cannot be enforced; …`."""
    found = list(_keywords(schema))
    if named := re.search(r"Unimplemented keys: \[(.*?)\]", complaint):
        refused = re.findall(r'"([^"]+)"', named[1])
        places = [f"{key!r} at {place}" for place, key, _ in found if key in refused]
        rest = "which cannot be enforced; leave it out (and check the answer for it yourself)"
        return f"json_schema has {', '.join(places or refused)}, {rest}"
    if "oneOf" in complaint:
        places = [place for place, key, _ in found if key == "oneOf"]
        return f"json_schema has 'oneOf' at {', '.join(places)} whose choices overlap; write 'anyOf' instead"
    for keyword, known in (("format", FORMATS), ("type", TYPES)):
        if unknown := re.search(rf"(?:Unknown|Invalid) {keyword}: (\S+)", complaint):
            value = unknown[1]
            where = next((f" at {place}" for place, key, written in found if (key, written) == (keyword, value)), "")
            must_be = f"it must be one of {', '.join(known)}{suggestion(value, known)}"
            return f"json_schema has {keyword} {value!r}{where}; {must_be}"
    caret, reason = CARET.search(complaint), re.search(r"error: (.+)", complaint)
    if caret and reason:
        where = next((f" at {place}" for place, _, written in found if written == caret[2]), "")
        return f"json_schema has pattern {caret[2]!r}{where}: character {_column(caret)}: {reason[1]}"
    return f"json_schema: {one_line(complaint)}"


def about_regex(regex: str, complaint: str) -> str:
    """What is wrong with a regex, and at which character (from 0)."""
    reason = re.search(r"error: (.+)|(lookarounds not supported)", complaint)
    where, caret = "", CARET.search(complaint)
    if caret:  # drawn below the pattern as the library rewrites it: / as \/, \d as [0-9]
        column = _column(caret)
        where = f" at character {column}" if caret[2] == regex else f" at {caret[2][column : column + 20]!r}"
    said = (reason[1] or reason[2]) if reason else one_line(complaint)
    return f"regex {regex[:60]!r}{where}: {said}; mend it (the syntax is Rust's, without look-around)"


def about_lark(complaint: str) -> str:
    """What is wrong with a grammar in Lark's notation, with line and column (from 1)."""
    place = re.match(r"\s*(?:at )?(\d+)\((\d+)\): (.*)", complaint)
    if place:
        reason = re.search(r"error: (.+)", complaint)
        said = place[3].removesuffix(" regex parse error:") + (f" {reason[1]}" if reason else "")
        return f"lark, line {place[1]}, column {place[2]}: {said}"
    return f"lark: {one_line(complaint)}"


def one_line(text: str) -> str:
    """A complaint of several lines in one."""
    return " ".join(text.split())[:300]


def _keywords(schema: Any, place: str = "#") -> Iterator[tuple[str, str, Any]]:
    """Every (place, keyword, value) of a schema and of the schemas in it."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        yield place, key, value
        if key in TABLES_OF_SUBSCHEMAS and isinstance(value, dict):
            for name, inner in value.items():
                yield from _keywords(inner, f"{place}/{key}/{name}")
        elif key in LISTS_OF_SUBSCHEMAS and isinstance(value, list):
            for number, inner in enumerate(value):
                yield from _keywords(inner, f"{place}/{key}/{number}")
        elif key in SUBSCHEMAS:
            yield from _keywords(value, f"{place}/{key}")


def _column(caret: "re.Match[str]") -> int:
    """Where the caret points, from 0, below an indented pattern."""
    return len(caret[3]) - len(caret[1])
