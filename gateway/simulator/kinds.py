"""The table of fault kinds: the name and what the peer sees. `faults.py` holds one function a name.

Rule of this file: names and words only; the command line and the documentation print this table.
"N" is `Fault.events`. On an answer that is not a stream, "after N content events" means after half of the
body.
"""

from __future__ import annotations

KINDS: dict[str, str] = {
    # an answer of its own
    "status": "an HTTP error status with the provider's own error body (or a verbatim `body`)",
    "error_200": "status 200 with the provider's own error body as JSON",
    "empty": "status 200 with an empty body",
    "redirect": "307 to `location`",
    # the connection
    "accept_close": "closed (FIN) as soon as the request line was seen; headers and body stay unread",
    "close": "closed (FIN) after the request, before any byte of the answer",
    "reset": "reset (RST) after the request, before any byte of the answer",
    "stall": "the request is read, then silence for ever",
    "stall_headers": "status and headers, then silence for ever",
    "stall_after": "N content events (1), then silence for ever",
    "reset_after": "N content events (1), then RST",
    "close_after": "N content events (1), then FIN in the middle of the chunked body",
    # HTTP that is not HTTP
    "garbage_status": "a status line that is none",
    "partial_status": "half a status line, then FIN",
    "http09": "an HTML page with neither status line nor headers, then FIN",
    "big_header": "a response header of `size` bytes (200 KB)",
    "two_lengths": "two different content-length headers",
    "bad_chunk": "N content events (1), then a chunk size that is not a number",
    "early_hints": "`count` (50) interim responses 103, then the answer",
    "length_too_large": "content-length promises more than is sent, then FIN",
    "length_too_small": "content-length promises less than is sent",
    "eof_cut": "neither content-length nor chunks: N content events (1), then FIN, which looks like an end",
    # content that is not what was asked for
    "html_200": "status 200 with an HTML page",
    "json_on_stream": "the answer as one JSON document although a stream was asked for",
    "sse_on_json": "an event stream although JSON was asked for",
    "gzip_bomb": "content-encoding gzip, `size` bytes (64 MiB) when inflated",
    "bad_gzip": "content-encoding gzip on bytes that are not gzip",
    "unknown_encoding": "content-encoding: sparkle",
    # the stream itself
    "error_event": "the provider's own error event after N content events (0)",
    "clean_cut": "N content events (1), then a clean end: no finish reason, no terminator",
    "no_terminator": "the whole answer with its finish reason, but without the terminator",
    "malformed_event": "an event whose JSON is broken after N content events (1), then the rest",
    "cut_json": "N content events (1), then half an event and a clean end",
    "invalid_utf8": "an event with bytes that are not UTF-8 after N content events (1), then the rest",
    "half_character": "N content events (1), then an event cut inside a UTF-8 character and a clean end",
    "oversized_event": "one event of `size` bytes (2 MiB) after N content events (1), then the rest",
    "unknown_event": "an event of an unknown type after N content events (1), then the rest",
    "empty_data": "an event with empty data after N content events (1), then the rest",
    "drip_comments": "N content events (0), then a comment or ping every `every` seconds (`count` of them, "
    "or for ever)",
    "drip_bytes": "the whole answer, one byte every `every` seconds",
    "one_byte": "the whole answer, one byte a write, without a pause",
    "endless": "content events without end, as fast as the peer reads",
    "double_terminator": "the whole answer, and its terminator twice",
    "after_terminator": "the whole answer, then further content events",
    "close_idle": "the whole answer with keep-alive, then FIN at once",
}
