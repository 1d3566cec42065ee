r"""What a filter of tasks says, taken apart: terms of `FIELD=VALUE`, joined by ` AND `.

A value is plain or quoted. A plain one ends at the next ` AND ` and is taken as it stands; one that
might be meant otherwise (outer blanks, quotes) is refused, because what is found may be deleted. In
a quoted one `\"` is a quote, `\\` a backslash, and everything else is itself. A label's key may be
quoted in the same way, and has to be where it holds `=`.
"""

import re
from typing import Final, NamedTuple

from penstock_dispatcher import errors

FIELDS: Final = ("state", "type", "priority")
LABEL: Final = "label."
AND: Final = " AND "
TERMS_MAX: Final = 16

_TEXT: Final = r'"([^"\\]*(?:\\["\\][^"\\]*)*)"'
_QUOTED_KEY: Final = re.compile(rf"\s*label\.{_TEXT}\s*=")
_QUOTED_VALUE: Final = re.compile(rf"\s*{_TEXT}\s*(?:(\sAND\s)|\Z)")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_REMEDY: Final = r'quote it: "…", with \" for a quote and \\ for a backslash'


class Term(NamedTuple):
    """`field` is one of `FIELDS`, or `label.` and then the label's key."""

    field: str
    value: str


def terms(text: str) -> list[Term]:
    """What all has to hold; none = every task. Raises Refusal."""
    found: list[Term] = []
    begin = 0 if text.strip() else -1
    while begin >= 0:
        if len(found) == TERMS_MAX:
            raise errors.invalid("filter", f"must have at most {TERMS_MAX} terms")
        term, begin = _term(text, begin)
        found.append(term)
    return found


def _term(text: str, begin: int) -> tuple[Term, int]:
    """The term there, and where the next one begins; -1 = there is none."""
    quoted = _QUOTED_KEY.match(text, begin)
    if quoted is not None:
        field, at = LABEL + _said(quoted[1]), quoted.end()
    else:
        end, _ = _plain_end(text, begin)
        equals = text.find("=", begin, end)
        if equals < 0:
            raise errors.invalid("filter", f"has a term without '=': {text[begin:end][:100]!r}")
        field, at = _field(text[begin:equals]), equals + 1
    if field == LABEL:
        raise errors.invalid("filter", "has a label without a key")
    quoted = _QUOTED_VALUE.match(text, at)
    if quoted is not None:
        return Term(field, _said(quoted[1])), quoted.end() if quoted[2] else -1
    end, following = _plain_end(text, at)
    value = text[at:end]
    if field in ("state", "priority"):
        value = value.strip()  # no blank can be a part of it
    if '"' in value or value != value.strip():
        raise errors.invalid("filter", f"{field[:100]} has the value {value[:100]!r}: {_REMEDY}")
    return Term(field, value), following


def _plain_end(text: str, begin: int) -> tuple[int, int]:
    """Where what is not quoted ends, and where the next term begins; -1 = there is none."""
    end = text.find(AND, begin)
    return (len(text), -1) if end < 0 else (end, end + len(AND))


def _field(said: str) -> str:
    """A field, or a label whose key is not quoted."""
    field = said.lstrip()
    if field.startswith(LABEL):
        if '"' in field or field != field.rstrip():
            raise errors.invalid("filter", f"has the label {field[:100]!r}: {_REMEDY}")
        return field
    field = field.rstrip()
    if field not in FIELDS:
        raise errors.invalid(
            "filter", f"knows state, type, priority and label.KEY, not {field[:40]!r}"
        )
    return field


def _said(quoted: str) -> str:
    """What stands between a pair of quotes, without its escapes."""
    return _ESCAPED.sub(r"\1", quoted)
