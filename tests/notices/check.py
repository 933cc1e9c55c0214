"""Reads notices with Python's email package and compares them with what was meant.

Takes a JSON list of expectations on standard input (see tests/notices.rs), one for each file. Prints every fault and
exits 1, or prints how many notices were read. RFC 5322, 2045, 2046, 3464, 3834, 6522, 6533.
"""

import email
import email.policy
import email.utils
import json
import re
import sys

MESSAGE_FIELDS = {"original-envelope-id", "reporting-mta", "x-posthouse-queue-id", "arrival-date"}
RECIPIENT_FIELDS = {
    "original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code",
    "last-attempt-date", "will-retry-until",
}
HEADER = {
    "from", "to", "subject", "date", "message-id", "in-reply-to", "references", "auto-submitted",
    "content-language", "mime-version", "content-type", "content-transfer-encoding",
}
CLASS = {"delayed": "4", "failed": "5", "relayed": "2"}

# The package does not know the types of RFC 6533, which says (section 4.4) that each means the same as an older one.
GLOBAL = {
    b"message/global-delivery-status": b"message/delivery-status",
    b"message/global-headers": b"text/rfc822-headers",
    b"message/global": b"message/rfc822",
}
# That package would read an encoded message/rfc822 as it stands, since only the new type may be encoded.
ENCODED = re.compile(rb"message/rfc822(\r\nContent-Transfer-Encoding: (?:base64|quoted-printable)\r\n)")

faults = []


def as_older_types(octets):
    for new, old in GLOBAL.items():
        octets = octets.replace(b"Content-Type: " + new + b"\r\n", b"Content-Type: " + old + b"\r\n")
    return ENCODED.sub(rb"application/octet-stream\1", octets)


def unitext(address):
    return "".join(c if "!" <= c <= "~" and c not in "\\+=" else "\\x{%02X}" % ord(c) for c in address)


def typed(address, type_, sender):
    """An address as the fields of a notice to this sender have it."""
    if type_ != "utf-8":
        return f"{type_}; {address}"
    return f"utf-8; {address if not sender.isascii() else unitext(address)}"


def seconds(date):
    return int(email.utils.parsedate_to_datetime(date).timestamp())


def check(name, ok, what):
    if not ok:
        faults.append(f"{name}: {what}")


def check_octets(name, octets, eight_bit):
    check(name, octets.endswith(b"--\r\n"), "does not end with its boundary")
    check(name, octets.isascii() != eight_bit, "octets beyond US-ASCII do not agree with the envelope's BODY")
    check(name, b"\0" not in octets, "holds NUL")
    for line in octets.split(b"\r\n"):
        check(name, len(line) <= 998, f"a line of {len(line)} octets")
        check(name, b"\r" not in line and b"\n" not in line, f"a bare CR or LF in {line[:60]!r}")


def check_header(name, message, header, meant):
    keys = [key.lower() for key in message.keys()]
    check(name, len(keys) == len(set(keys)), f"a field occurs twice in {keys}")
    check(name, set(keys) <= HEADER, f"unexpected fields {set(keys) - HEADER}")
    check(name, message["From"].addresses[0].addr_spec == "postmaster@relay.example.org", "From")
    check(name, message["From"].addresses[0].display_name in ("Mail Delivery System", "メール配信システム"), "name")
    # Read as octets the package takes UTF-8 for damage; read as text it does not.
    to = email.message_from_string(header.decode("utf-8"), policy=email.policy.default)["To"]
    check(name, [to.addr_spec for to in to.addresses] == [meant["sender"]], f"To {to}")
    check(name, seconds(message["Date"]) == meant["date"], "Date")
    check(name, re.fullmatch(r"<[0-9A-Z]{12}\.[0-9a-f]{16}@relay\.example\.org>", message["Message-ID"]), "Message-ID")
    check(name, message["Auto-Submitted"] == "auto-replied", "Auto-Submitted")
    check(name, message["Content-Transfer-Encoding"] == ("8bit" if meant["eight_bit"] else None), "top encoding")
    check(name, message.get_content_type() == "multipart/report", message.get_content_type())
    check(name, message.get_param("report-type") == "delivery-status", "report-type")
    if meant["returned"]:
        check(name, message["In-Reply-To"] == "<q3.1@app.example.org>", f"In-Reply-To {message['In-Reply-To']}")
        check(name, message["References"].split()[0] == "<q1.1@app.example.org>", "References begin elsewhere")
        check(name, message["References"].split()[-1] == "<q3.1@app.example.org>", "References end elsewhere")


def check_text(name, part, meant):
    check(name, part.get_content_type() == "text/plain" and part.get_content_charset() == "utf-8", "first part")
    text = " ".join(part.get_content().split())
    check(name, "\ufffd" not in text, "the text does not decode")
    check(name, all(c.isprintable() or c == "\n" for c in part.get_content().replace("\r\n", "\n")), "hidden characters")
    for words in meant["says"]:
        check(name, words in text, f"does not say {words!r} but {text!r}")
    for words in meant["says_not"]:
        check(name, words not in text, f"says {words!r}")
    for recipient in meant["recipients"]:
        check(name, recipient["final"].replace("  ", " ") in text, f"does not name {recipient['final']}")


def check_status(name, part, meant):
    check(name, part.get_content_type() == "message/delivery-status", "second part")
    blocks = part.get_payload()
    # The package keeps an empty block for the line end of the last field.
    blocks = [block for block in blocks if block.keys()]
    head, recipients = blocks[0], blocks[1:]
    for block, known in [(head, MESSAGE_FIELDS)] + [(block, RECIPIENT_FIELDS) for block in recipients]:
        keys = [key.lower() for key in block.keys()]
        check(name, set(keys) <= known, f"unexpected fields {set(keys) - known}")
        check(name, len(keys) == len(set(keys)), f"a field occurs twice in {keys}")
        check(name, not block.get_payload(), f"text after the fields: {block.get_payload()!r}")
    check(name, head["Reporting-MTA"] == "dns; relay.example.org", "Reporting-MTA")
    check(name, head["Original-Envelope-Id"] == meant["envid"], "Original-Envelope-Id")
    check(name, seconds(head["Arrival-Date"]) == meant["arrived_at"], "Arrival-Date")
    check(name, len(recipients) == len(meant["recipients"]), f"{len(recipients)} recipients")
    for block, recipient in zip(recipients, meant["recipients"]):
        check_recipient(name, block, recipient, meant)


def check_recipient(name, block, recipient, meant):
    final = typed(recipient["final"], "rfc822" if recipient["final"].isascii() else "utf-8", meant["sender"])
    check(name, block["Final-Recipient"] == final, block["Final-Recipient"])
    original = recipient["original"] and typed(*reversed(recipient["original"].split(";", 1)), meant["sender"])
    check(name, block["Original-Recipient"] == original, f"Original-Recipient {block['Original-Recipient']}")
    check(name, block["Action"] == meant["action"], f"Action {block['Action']}")
    check(name, re.fullmatch(CLASS[meant["action"]] + r"\.\d{1,3}\.\d{1,3}", block["Status"]), block["Status"])
    if block["Diagnostic-Code"] is not None:
        value = block["Diagnostic-Code"]
        check(name, re.match(r"smtp; [2-5]\d\d |x-posthouse; \S", value), f"Diagnostic-Code {value[:60]}")
        for line in value.splitlines():
            check(name, line.isascii() and "\x1b" not in line, "Diagnostic-Code is not plain")
    if block["Last-Attempt-Date"] is not None:
        check(name, seconds(block["Last-Attempt-Date"]) <= meant["date"], "Last-Attempt-Date is to come")
    until = block["Will-Retry-Until"]
    check(name, (until and seconds(until)) == meant["retry_until"], f"Will-Retry-Until {until}")


def check_returned(name, part, meant):
    whole = meant["returned"] in ("message/rfc822", "message/global")
    if part.get_content_type() == "message/rfc822":
        check(name, whole, "more than the header came back")
        original = part.get_payload(0)
        check(name, original.get_content().strip() != "", "the original came back empty")
    elif whole:
        check(name, part.get_content_type() == "application/octet-stream", f"third part is {part.get_content_type()}")
        original = email.message_from_bytes(part.get_payload(decode=True), policy=email.policy.default)
        check(name, original.get_content().strip() != "", "the original came back empty")
    else:
        check(name, part.get_content_type() == "text/rfc822-headers", f"third part is {part.get_content_type()}")
        octets = part.get_payload(decode=True)
        original = email.message_from_bytes(octets, policy=email.policy.default)
        check(name, b"\r\n\r\n" not in octets.rstrip(), "more than the header came back")
    check(name, original["From"].addresses[0].addr_spec == "anna@example.org", "the original's From")
    check(name, "rose@example.net" in original["To"], "the original's To")


def check_notice(meant):
    name = meant["file"].rsplit("/", 1)[-1]
    with open(meant["file"], "rb") as file:
        octets = file.read()
    check_octets(name, octets, meant["eight_bit"])
    if meant["returned"]:
        check(name, b"\nContent-Type: " + meant["returned"].encode() + b"\r\n" in octets, f"no {meant['returned']}")
    global_status = b"\nContent-Type: message/global-delivery-status\r\n" in octets
    is_utf8 = any(not r["final"].isascii() for r in meant["recipients"]) and not meant["sender"].isascii()
    check(name, global_status == is_utf8, "the type of the status")
    message = email.message_from_bytes(as_older_types(octets), policy=email.policy.default)
    check_header(name, message, octets.split(b"\r\n\r\n", 1)[0], meant)
    parts = list(message.iter_parts())
    check(name, len(parts) == (3 if meant["returned"] else 2), f"{len(parts)} parts")
    for part in [message, *parts]:
        check(name, not part.defects, f"defects {part.defects}")
        for key, value in part.items():
            if key == "To" and not meant["sender"].isascii():
                continue
            check(name, not getattr(value, "defects", ()), f"{key} has defects {getattr(value, 'defects', ())}")
    check_text(name, parts[0], meant)
    check_status(name, parts[1], meant)
    if meant["returned"]:
        check_returned(name, parts[2], meant)


expectations = json.load(sys.stdin)
for expectation in expectations:
    check_notice(expectation)
if faults:
    print("\n".join(faults))
    sys.exit(1)
print(f"{len(expectations)} notices read")
