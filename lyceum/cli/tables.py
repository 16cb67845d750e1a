"""Plain text tables for the terminal: aligned, safe to pipe, no colours."""

import json
from collections.abc import Sequence
from typing import Any


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, indent: int = 0) -> str:
    """Columns side by side; numbers to the right.

    >>> print(table(["run", "loss"], [["tiny", 2.5], ["larger", 12]]))
    run     loss
    tiny     2.5
    larger    12
    """
    cells = [[show(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    is_right = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] in (None, "") for row in rows)
        for i in range(len(headers))
    ]
    lines = []
    for row in [list(headers), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_right, strict=True)
        ]
        lines.append((" " * indent + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def pairs(values: dict[str, Any], *, indent: int = 2) -> str:
    """One `name  value` line each."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{' ' * indent}{name:<{width}}  {show(value)}".rstrip() for name, value in values.items())


def show(value: Any) -> str:
    """A value for people: four significant digits after the point, nothing for None, JSON for tables."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names: `flatten({"fit": {"steps": 5}}) -> {"fit.steps": 5}`."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat
