"""Names for jobs that come from a crontab, where commands have none: what a person would call them.

A name depends on the command, and on the rest of the line only when two entries would be called the same, so that it
stays as it is when other lines come and go.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Hashable, Sequence

__all__ = ["base_name", "name_jobs", "unique_ids"]

LENGTH_MAX = 63
_SUFFIX_LENGTH = 7

# Words that prepare, test or wrap, and say nothing about what a line is for.
_WRAPPERS = frozenset(
    {"!", ":", "[", "[[", "cd", "chroot", "chronic", "command", "do", "elif", "else", "env", "eval", "exec", "export"}
    | {"false", "fi", "flock", "for", "if", "ionice", "nice", "nohup", "set", "setsid", "sleep", "sudo", "systemd-cat"}
    | {"test", "then", "time", "timeout", "true", "umask", "until", "which", "while"}
)
# Programs that run the file named after them.
_RUNNERS = re.compile(r"(ba|da|k|z)?sh|python[\d.]*|perl|ruby|node|php[\d.]*|java|run-parts")
# A program given in the line itself has no name.
_INLINE = re.compile(r"""\b(perl|python[\d.]*|ruby|node|php[\d.]*)\s+(-\w+\s+)*-[cer]\s+('[^']*'|"[^"]*")""")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*")
_SEPARATORS = re.compile(r"&&|\|\||[;|&\n()]+")


def base_name(command: str) -> str:
    """The name for a command, without anything that would make it unique."""
    fallback = ""
    # What is substituted into a command is not the command.
    command = _INLINE.sub("", re.sub(r"\$\([^()]*\)|`[^`]*`", "", command))
    for segment in _SEPARATORS.split(command):
        words = [word.strip("\"'{}$`") for word in segment.split()]
        while words and (not words[0] or _ASSIGNMENT.fullmatch(words[0])):
            words.pop(0)
        wrapped = bool(words) and _last_part(words[0]) in _WRAPPERS
        name = _program(words)
        if name and not wrapped:
            return name
        fallback = fallback or _program([word for word in words if _last_part(word) not in _WRAPPERS])
    return fallback or "job"


def name_jobs(commands: Sequence[str], identities: Sequence[Hashable], prefix: str = "") -> list[str]:
    """One valid id for each command, all different. `identities` tell entries with the same name apart."""
    return unique_ids([f"{prefix}{base_name(command)}" for command in commands], identities)


def unique_ids(names: Sequence[str], identities: Sequence[Hashable]) -> list[str]:
    """One valid id for each name, whatever is in it, all different. `identities` tell equal names apart."""
    bases = [_slug(name) for name in names]
    counts = Counter(bases)
    found: list[str] = []
    taken: set[str] = set()
    for base, identity in zip(bases, identities, strict=True):
        name = base if counts[base] == 1 else _with_suffix(base, _digest(identity))
        copy = 2
        while name in taken:
            # The same line twice: told apart by their order, which is all that differs.
            name = _with_suffix(base, f"{_digest(identity)}-{copy}")
            copy += 1
        taken.add(name)
        found.append(name)
    return found


def _program(words: Sequence[str]) -> str:
    for position, word in enumerate(words):
        if word.startswith(("-", "<", ">", "$")):
            continue
        part = _last_part(word)
        if _RUNNERS.fullmatch(part) and any(not later.startswith("-") for later in words[position + 1 :]):
            continue
        slug = _slug(re.sub(r"\.(sh|py|pl|rb|php|jar|bash)$", "", part))
        if slug != "job":
            return slug
    return ""


def _last_part(word: str) -> str:
    return word.rstrip("/").rpartition("/")[2]


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    slug = re.sub(r"^[^a-z]+", "", slug)
    return slug[:LENGTH_MAX].strip("-") or "job"


def _with_suffix(base: str, suffix: str) -> str:
    return f"{base[: LENGTH_MAX - len(suffix) - 1].rstrip('-')}-{suffix}"


def _digest(identity: Hashable) -> str:
    return hashlib.sha256(repr(identity).encode()).hexdigest()[: _SUFFIX_LENGTH - 1]
