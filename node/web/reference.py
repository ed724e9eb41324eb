"""The API over HTTP for people: pages made of its OpenAPI document. They are for anybody, as the document is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup, escape

from horologe.node.errors import REASONS
from horologe.node.http import openapi
from horologe.node.http.problems import HTTP_REASONS, STATUSES
from horologe.node.web.view import Web

MESSAGES = "/docs/messages"
_CODE = re.compile(r"`([^`]+)`")


def router(web: Web) -> APIRouter:
    """`/docs`, `/docs/messages`, `/docs/{service}`"""
    routes = APIRouter()
    web.templates.filters["prose"] = prose

    @routes.get("/docs")
    async def contents(request: Request) -> Response:
        document = await asyncio.to_thread(openapi.document)
        services = [
            (tag["name"], tag["description"], list(_operations(document, tag["name"]))) for tag in document["tags"]
        ]
        return web.view(request).page_for_anybody(
            "reference.html", description=document["info"]["description"], services=services, reasons=_reasons()
        )

    @routes.get(MESSAGES)
    async def messages(request: Request) -> Response:
        document = await asyncio.to_thread(openapi.document)
        schemas = document["components"]["schemas"]
        return web.view(request).page_for_anybody("reference_messages.html", schemas=schemas, kind_of=kind_of)

    @routes.get("/docs/{service}")
    async def service(service: str, request: Request) -> Response:
        document = await asyncio.to_thread(openapi.document)
        tag = next((tag for tag in document["tags"] if tag["name"] == service), None)
        if tag is None:
            return await web.view(request).refusal(
                404, "SERVICE_NOT_FOUND", "there is no such service; /docs lists all"
            )
        return web.view(request).page_for_anybody(
            "reference_service.html",
            service=tag,
            operations=list(_operations(document, service)),
            headers=document["components"]["parameters"],
            kind_of=kind_of,
        )

    return routes


def prose(text: str) -> Markup:
    """A text of the document: what stands between backticks is code, and an empty line begins a paragraph."""
    marked = _CODE.sub(r"<code>\1</code>", str(escape(text.strip())))
    return Markup("<br><br>".join(marked.split("\n\n")))  # nosec B704 - escaped above


def kind_of(schema: dict[str, Any]) -> Markup:
    """What a value is, in a few words; a message leads to its fields."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return Markup('<a href="{}#{}">{}</a>').format(MESSAGES, name, name)
    if schema.get("type") == "array":
        return Markup("list of {}").format(kind_of(schema["items"]))
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        return Markup("mapping to {}").format(kind_of(inner))
    if schema.get("contentEncoding"):
        return Markup("base64")
    if schema.get("pattern", "").endswith("s$"):
        return Markup("duration")
    kind = schema.get("format") or schema.get("type") or "any value"
    return escape(kind)


def _operations(document: dict[str, Any], service: str) -> Iterator[dict[str, Any]]:
    for path, found in document["paths"].items():
        for verb, operation in found.items():
            if service in operation["tags"]:
                yield {**operation, "verb": verb.upper(), "path": path}


def _reasons() -> list[tuple[str, str]]:
    """Each with its status."""
    found = {reason: str(STATUSES.get(code, 500)) for reason, code in REASONS.items()}
    for reason, status in HTTP_REASONS.items():
        found[reason] = f"{found[reason]}, {status}" if reason in found else str(status)
    found.setdefault("DEADLINE_EXCEEDED", "504")
    found.setdefault("UNIMPLEMENTED", "500")
    return sorted(found.items())
