"""Contents to send, and what a relay may change in them: one trace field on top.

Contract: every content is bytes with CRLF line ends that any server may receive.
"""

import random
import re

HEADER = b"From: sender@example.org\r\nTo: rcpt@example.com\r\nSubject: posthouse\r\nMessage-ID: <%s@example.org>\r\n" \
         b"Date: Sun, 22 Nov 2026 03:33:07 +0000\r\n"


def of(name, body):
    return HEADER % name.encode() + b"\r\n" + body


SEVEN_BIT = {
    "plain": of("plain", b"Hello.\r\n"),
    "leading-dots": of("leading-dots", b".\r\n..\r\n...\r\n.leading\r\n..two\r\ntext.\r\n.\r\n"),
    "dot-first": of("dot-first", b".") + b"\r\n",
    "line-of-998": of("line-of-998", b"x" * 998 + b"\r\n" + b"." * 998 + b"\r\n" + b"y" * 997 + b"\r\n"),
    "no-last-newline": of("no-last-newline", b"the client must add the end of this line"),
    "blank-lines-at-the-end": of("blank-lines-at-the-end", b"text\r\n\r\n\r\n\r\n"),
    "empty-body": of("empty-body", b""),
    "white-space": of("white-space", b" leading\r\n\ttab\r\ntrailing \t \r\n \r\n\t\r\n"),
    "control-characters": of("control-characters", bytes(set(range(1, 128)) - {10, 13}) + b"\r\n"),
    "from-line": of("from-line", b"From the start\r\n>From too\r\n"),
    "one-mebibyte": of("one-mebibyte", b"".join(b"%08d %s\r\n" % (n, b"m" * 65) for n in range(1 << 20 >> 6))[:1 << 20] + b"\r\n"),
}
HEADERS_ONLY = HEADER % b"headers-only"
EMPTY = b""
EIGHT_BIT = of("eight-bit", "Grüße, こんにちは\r\n".encode() + bytes(range(128, 256)) + b"\r\n")

TRACE = re.compile(rb"Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def with_end(content):
    """As it stands on the wire: the dialogue ends every content with CRLF."""
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


def without_traces(content, count):
    """The content below exactly `count` Received fields that stand on top of it."""
    for _ in range(count):
        field = TRACE.match(content)
        if not field:
            raise AssertionError(f"expected a Received field on top of {content[:300]!r}")
        if any(len(line) > 998 for line in field.group().split(b"\r\n")):
            raise AssertionError(f"the trace field has a line longer than RFC 5322 allows: {field.group()!r}")
        content = content[field.end():]
    return content


def chance(seed):
    return random.Random(seed)
