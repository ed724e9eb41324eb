"""Update masks of small messages: which fields an update changes. Those of a job, with their paths, are read in `drafts`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from horologe.node import errors
from horologe.node.names import shorten


def changed_fields(message: Message, mask: FieldMask, changeable: AbstractSet[str]) -> set[str]:
    """Those that the mask names; without a mask those that are set. Raises an ApiError for any that cannot be changed."""
    if not mask.paths:
        return {field.name for field, _ in message.ListFields()} & changeable
    if list(mask.paths) == ["*"]:
        return set(changeable)
    for position, path in enumerate(mask.paths):
        if path not in changeable:
            known = ", ".join(sorted(changeable))
            raise errors.invalid_field(
                f"update_mask.paths[{position}]", f"{shorten(path)} is none of the fields that can be changed: {known}"
            )
    return set(mask.paths)
