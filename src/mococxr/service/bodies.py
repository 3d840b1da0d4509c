"""The body of a request -> the bytes of its images: one as it is, or the parts of a form; in memory, never on a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

TIMES = 4
"""Bodies of the largest size that are held at once."""


class Refused(Exception):
    """A request that is answered by a status, what is wrong and the way out."""

    def __init__(self, status: int, problem: str, way_out: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.problem, self.way_out, self.headers = status, problem, way_out, headers
        super().__init__(problem)


class Bodies:
    """Reads bodies, together no more than there is room for.

    Args:
        most: bytes of one.
        images: most images in one.
        busy: what a request is refused by for which there is no room now.
    """

    def __init__(self, most: int, images: int, busy: Refused) -> None:
        self.most, self.images, self.busy = most, images, busy
        self.held = 0

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Hold so many bytes for the block.

        Raises:
            Refused: there is no room.
        """
        if self.held + size > TIMES * self.most:
            raise self.busy
        self.held += size
        try:
            yield
        finally:
            self.held -= size

    def size_of(self, request: Request) -> int:
        """Bytes to hold for a request: those that it announces, or the most that there may be.

        Raises:
            Refused: it announces too many.
        """
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else self.most
        if size > self.most:
            raise self._too_large()
        return size

    async def images_of(self, request: Request) -> list[bytes]:
        """The files of the images of a request.

        Raises:
            Refused: the body is too large, empty, no form where it says so, or has too many parts.
        """
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if not kind.startswith(b"multipart/"):
            if data := b"".join([chunk async for chunk in self._chunks(request)]):
                return [data]
            raise Refused(400, "The body is empty.", "Send the file of an image, or a form with one file a part.")
        try:
            form = _Form(options.get(b"boundary", b""), self.images)
            async for chunk in self._chunks(request):
                form.write(chunk)
        except FormParserError as error:
            raise Refused(
                400, "The body is no multipart form, though it says so.", "Send it as curl -F does."
            ) from error
        return form.complete()

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in request.stream():
            read += len(chunk)
            if read > self.most:  # a body need not say its size
                raise self._too_large()
            yield chunk

    def _too_large(self) -> Refused:
        return Refused(
            413,
            f"The body is over the limit of {self.most / 1e6:g} MB.",
            "Send fewer images, or start with a larger --max-body.",
        )


class _Form:
    """A multipart body, part by part.

    Raises:
        Refused: a part is no file, or there are too many.
        FormParserError: it is none.
    """

    def __init__(self, boundary: bytes, most: int) -> None:
        if not boundary:
            raise FormParserError("no boundary")
        self.most, self.files, self.ended = most, list[bytearray](), False
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": lambda data, start, end: self.files[-1].extend(data[start:end]),
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_headers_finished": self._check,
                "on_end": self._end,
            },
        )
        self.write = parser.write

    def complete(self) -> list[bytes]:
        """The files, once all was written."""
        if not self.ended:
            raise Refused(400, "The form ends before its last part does.", "Send it again, whole.")
        if not self.files:
            raise Refused(400, "The form has no part.", "Send each image as a file: curl -F image=@FILE.")
        return [bytes(file) for file in self.files]

    def _begin(self) -> None:
        if len(self.files) == self.most:
            raise Refused(
                413,
                f"More than {self.most} images in one request.",
                "Send fewer at once, or start with a larger --queue.",
            )
        self.files.append(bytearray())
        self._disposition = b""

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _check(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind == b"form-data" and b"filename" not in options:
            raise Refused(
                400,
                f"Part {len(self.files)} of the form is no file.",
                "Send each image as a file: curl -F image=@FILE.",
            )

    def _end(self) -> None:
        self.ended = True
