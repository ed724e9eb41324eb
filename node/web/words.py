"""How pages write what the API says: instants, durations, states, names as addresses, and texts that somebody else wrote.

All of these are filters in templates (FILTERS). What users wrote is hostile: it is escaped by the templates, and characters that
would show nothing, or would turn the order of letters around, are shown as what they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from markupsafe import Markup, escape
from starlette.datastructures import QueryParams

NONE = Markup('<span class="none">–</span>')
"""In place of what is absent."""
TEXT_CHARACTERS_MAX = 200
"""Of one cell; the page of the thing itself shows all of it."""
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def rfc3339(value: Timestamp | None) -> str:
    """`2026-11-26T21:00:00.123Z`; empty if there is none."""
    if not _is_there(value):
        return ""
    assert value is not None
    return f"{value.ToDatetime().isoformat(timespec='milliseconds')}Z"


def instant(value: Timestamp | None, milliseconds: bool = False) -> Markup:
    """An instant in UTC, which horologe.js shows in the reader's zone if that is wanted."""
    if not _is_there(value):
        return NONE
    full = rfc3339(value)
    day, clock = full[:10], full[11:23] if milliseconds else full[11:19]
    mark = Markup(" data-milliseconds") if milliseconds else Markup("")
    return Markup('<time datetime="{}"{}>{} {}Z</time>').format(full, mark, day, clock)


def countdown(value: Timestamp | None) -> Markup:
    """How long until then, or since: filled in and kept up to date by horologe.js, so it stands beside the instant itself."""
    if not _is_there(value):
        return Markup("")
    return Markup('<span class="countdown" data-until="{}"></span>').format(rfc3339(value))


def elapsed(value: Timestamp | None) -> Markup:
    """How long since then, still growing."""
    if not _is_there(value):
        return NONE
    return Markup('<span class="elapsed" data-since="{}"></span>').format(rfc3339(value))


def duration(value: Duration | timedelta | float | None) -> Markup:
    """`850 ms`, `1.25 s`, `3 min 20 s`, `2 h 5 min`; seconds if it is a number."""
    if value is None:
        return NONE
    return Markup('<span class="duration">{}</span>').format(duration_text(seconds_of(value)))


def duration_text(seconds: float) -> str:
    """The same as plain text."""
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if round(seconds * 1_000) < 1_000:
        return f"{round(seconds * 1_000)} ms"
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 59.95 else "1 min"
    rest = round(seconds)
    parts = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
        if parts and (len(parts) == 2 or unit == "s"):
            break
    return " ".join(parts)


def seconds_of(value: Duration | timedelta | float) -> float:
    """As a number, for charts."""
    if isinstance(value, Duration):
        return float(value.seconds) + value.nanos / 1e9
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def epoch_seconds(value: Timestamp) -> float:
    """As a number, for charts."""
    return float(value.seconds) + value.nanos / 1e9


def between(start: Timestamp | None, end: Timestamp | None) -> Markup:
    """How long it was from one to the other; while there is no end, how long it is since the start."""
    if not _is_there(start) or not _is_there(end):
        return elapsed(start)
    assert start is not None
    assert end is not None
    return duration(epoch_seconds(end) - epoch_seconds(start))


def word(message: Message, field: str) -> str:
    """The value of an enumeration as a word: STATE_TIMED_OUT is `timed-out`; empty while it is unspecified."""
    enumeration = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert enumeration is not None, f"{field} is no enumeration"
    value = enumeration.values_by_number.get(getattr(message, field))
    if value is None:
        return str(getattr(message, field))
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enumeration.name).upper()
    text = value.name.removeprefix(f"{prefix}_").lower().replace("_", "-")
    return "" if text == "unspecified" else text


def shown(text: object, characters_max: int = TEXT_CHARACTERS_MAX) -> Markup:
    """A text that somebody wrote, cut to so many characters, with marks where something would not be seen."""
    raw = str(text)
    cut = raw if len(raw) <= characters_max else f"{raw[: characters_max - 1]}…"
    parts: list[Markup] = []
    end = 0
    for found in _UNSEEN.finditer(cut):
        parts += escape(cut[end : found.start()]), Markup('<span class="control">{}</span>').format(_mark(found[0]))
        end = found.end()
    return Markup("").join([*parts, escape(cut[end:])])


def plain(text: object, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """The same without markup, for titles and attributes."""
    cut = str(text)
    cut = cut if len(cut) <= characters_max else f"{cut[: characters_max - 1]}…"
    return _UNSEEN.sub(lambda found: _mark(found[0]), cut)


def number(value: float) -> str:
    """`1 234 567`, with spaces that do not break."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(value: float) -> str:
    """`0.25`, `12.5`, `612`: three digits are enough."""
    return f"{value:.3g}" if value < 1_000 else number(round(value))


def id_of(name: str) -> str:
    """The last part of a resource's name: `nightly` of `namespaces/shop/jobs/nightly`."""
    return name.rpartition("/")[2]


def namespace_of(name: str) -> str:
    """`shop` of `namespaces/shop/jobs/nightly`; empty for what lies in none."""
    parts = name.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "namespaces" else ""


def job_of(name: str) -> str:
    """`nightly` of `namespaces/shop/jobs/nightly/executions/7`; empty for what belongs to none."""
    parts = name.split("/")
    return parts[3] if len(parts) > 3 and parts[2] == "jobs" else ""


def url(name: str) -> str:
    """The page of a job or an execution, by its name; of a namespace, its jobs."""
    parts = [quote(part, safe="") for part in name.split("/")]
    match parts:
        case ["namespaces", namespace, "jobs", job, "executions", number]:
            return f"/executions/{namespace}/{job}/{number}"
        case ["namespaces", namespace, "jobs", job]:
            return f"/jobs/{namespace}/{job}"
        case ["namespaces", namespace]:
            return f"/jobs?namespace={namespace}"
    raise ValueError(f"{name!r} has no page of its own")


def with_query(path: str, query: QueryParams | None = None, **changes: object) -> str:
    """An address with the query of the present page but for these; None and empty texts take something away."""
    kept = [(key, value) for key, value in (query or QueryParams()).multi_items() if key not in changes]
    added = [(key, str(value)) for key, value in changes.items() if value is not None and value != ""]
    text = urlencode([*kept, *added])
    return f"{path}?{text}" if text else path


def _is_there(value: Timestamp | None) -> bool:
    """Fields of a message that were never set read as the epoch."""
    return value is not None and (value.seconds != 0 or value.nanos != 0)


def _mark(character: str) -> str:
    """U+240A is the picture of U+000A, and so on; others are shown by number."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return f"[U+{code:04X}]"


FILTERS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        rfc3339,
        instant,
        countdown,
        elapsed,
        duration,
        seconds_of,
        epoch_seconds,
        word,
        shown,
        plain,
        number,
        rate,
        duration_text,
        id_of,
        namespace_of,
        job_of,
        url,
        with_query,
    )
}
"""What templates call by these names; `between` and `with_query` are functions there too."""
FUNCTIONS: Mapping[str, Callable[..., Any]] = {"between": between, "with_query": with_query}
