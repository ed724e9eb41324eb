"""XML as a small tree in which every element knows its line. Nothing is believed: no DTD, no entities, bounded depth and size.

The parser is defusedxml's; this only keeps what the standard library's trees forget, the line. Of xml.sax come names only, of
errors and base classes.
"""

from __future__ import annotations

import io
import xml.sax  # nosec B406
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.sax.handler import ContentHandler  # nosec B406
from xml.sax.xmlreader import AttributesImpl, Locator  # nosec B406

import defusedxml
import defusedxml.sax

from horologe.client.errors import InvalidFile, Problem

__all__ = ["Element", "parse"]

ELEMENTS_MAX = 200_000
DEPTH_MAX = 50


@dataclass(slots=True)
class Element:
    """One element; namespaces are left out of names."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Element]:
        """The children of that name."""
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> Element | None:
        """The first child of that name."""
        return next(self.all(name), None)

    def text_of(self, name: str) -> str:
        """The text of the first child of that name; empty if there is none."""
        child = self.first(name)
        return child.text.strip() if child is not None else ""


def parse(content: bytes, file: str) -> Element:
    """The root of a document. InvalidFile when it is no XML, or not to be trusted."""
    builder = _Builder()
    try:
        parser = defusedxml.sax.make_parser()
        parser.forbid_dtd = True
        parser.setContentHandler(builder)
        source = xml.sax.InputSource()
        source.setByteStream(io.BytesIO(content))
        parser.parse(source)
    except xml.sax.SAXParseException as error:
        line = error.getLineNumber() or 1
        raise InvalidFile([Problem(file, line, 0, f"not valid XML: {error.getMessage()}")]) from error
    except defusedxml.DefusedXmlException as error:
        text = "has a DTD, entities or references to elsewhere, which are not read"
        raise InvalidFile([Problem(file, builder.line(), 0, text)]) from error
    except _TooLargeError as error:
        raise InvalidFile([Problem(file, builder.line(), 0, str(error))]) from error
    except (ValueError, LookupError) as error:
        # An encoding that does not exist, or does not fit.
        raise InvalidFile([Problem(file, 1, 0, f"cannot be read: {error}")]) from error
    return builder.root


class _TooLargeError(Exception):
    """More than anybody would write."""


class _Builder(ContentHandler):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", 1)
        self._stack: list[Element] = []
        self._pieces: list[list[str]] = []
        self._count = 0
        self._place: Locator | None = None

    def setDocumentLocator(self, locator: Locator) -> None:  # noqa: N802 - SAX calls it so
        """Where the parser is."""
        self._place = locator

    def line(self) -> int:
        """The line that the parser has come to."""
        return (self._place.getLineNumber() if self._place is not None else 1) or 1

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802 - SAX calls it so
        """An element begins. Its attributes say nothing that anybody needs."""
        del attrs
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._stack) >= DEPTH_MAX:
            raise _TooLargeError(f"has more than {ELEMENTS_MAX:,} elements, or is nested more than {DEPTH_MAX} deep")
        element = Element(name.rpartition(":")[2], self.line())
        if self._stack:
            self._stack[-1].children.append(element)
        else:
            self.root = element
        self._stack.append(element)
        self._pieces.append([])

    def endElement(self, name: str) -> None:  # noqa: N802 - SAX calls it so
        """It ends."""
        del name
        self._stack.pop().text = "".join(self._pieces.pop())

    def characters(self, content: str) -> None:
        """Text, in pieces."""
        self._pieces[-1].append(content)
