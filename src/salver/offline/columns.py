"""What the columns of an input must be, before any row is read.

It does not know formats.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from salver.errors import InputUnreadable, MissingColumns
from salver.schema import Schema

_SHOWN = 30  # names of columns in a message


def refuse_duplicates(file: str, found: Sequence[str]) -> None:
    """Refuses two columns of one name.

    Raises:
        InputUnreadable: Naming them.
    """
    twice = [name for name, times in Counter(found).items() if times > 1]
    if twice:
        raise InputUnreadable(
            f"{file} has several columns named {_listed(twice)}. Give each a name of its own."
        )


def refuse_missing(file: str, found: Sequence[str], schema: Schema, fill_defaults: bool) -> None:
    """Refuses an input without columns of the schema.

    A missing column is nearly always a mistake, also where the schema has a default: every row
    would be predicted from the default.

    Raises:
        MissingColumns: Naming the missing columns, those found, and the remedy.
    """
    defaults = {
        info.alias or name
        for name, info in schema.model.model_fields.items()
        if not info.is_required()
    }
    missing = [name for name in schema.names if name not in found]
    needed = [name for name in missing if not (fill_defaults and name in defaults)]
    if not needed:
        return
    by_lower = {name.strip().lower(): name for name in found}
    close = [
        f"{by_lower[near]!r} for {name!r}"
        for name in needed
        for near in difflib.get_close_matches(name.lower(), by_lower, n=1)
    ]
    remedy = "Rename or add the missing ones."
    if close:
        remedy = f"Perhaps {', '.join(close)}? {remedy}"
    if defaults.issuperset(needed):
        remedy += (
            " To use the defaults of the schema in every row, say fill_defaults (--fill-defaults)."
        )
    raise MissingColumns(
        f"{file} lacks {_listed(needed)}, which {schema.model.__name__} needs. "
        f"Columns found: {_listed(found) if found else 'none'}. {remedy}"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
