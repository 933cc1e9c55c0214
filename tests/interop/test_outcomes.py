"""Each recipient of a message has an outcome of its own: delivered once, bounced with a notice, retried alone."""

import re

import clients
import contents
from relay import Scenario, needs_posthouse
from upstream import Script, Upstream
from waiting import wait_for

SENDER, GOOD, BAD, LATER = "sender@example.org", "good@example.com", "bad@example.com", "later@example.com"
CONTENT = contents.SEVEN_BIT["plain"]


class ByRecipient(Script):
    """Says 550 to one, 451 twice to another, 250 to everybody else."""

    def __init__(self):
        self.asked = {}

    def recipient(self, session, address):
        self.asked[address] = self.asked.get(address, 0) + 1
        if address == BAD:
            return "550 5.1.1 No such mailbox here"
        if address == LATER and self.asked[address] <= 2:
            return "451 4.2.0 Mailbox is busy"
        return "250 2.1.5 Ok"


def deliveries(upstream, address):
    return [message for message in upstream.messages if address in message.addresses]


class Outcomes(Scenario):
    def mixed(self, **settings):
        upstream = self.enter(Upstream(ByRecipient()))
        relay = self.relay(upstream, **settings)
        clients.with_socket(relay.port, SENDER, [GOOD, BAD, LATER], CONTENT)
        wait_for(lambda: deliveries(upstream, LATER) and deliveries(upstream, SENDER), 60,
                 lambda: f"{[m.addresses for m in upstream.messages]}\n{relay.log()}")
        return upstream, relay

    def test_the_good_is_delivered_once_the_bad_bounces_the_busy_is_retried_alone(self):
        upstream, _ = self.mixed(retry='first = "1s"\nmax = "2s"')
        self.assertEqual(len(deliveries(upstream, GOOD)), 1)
        self.assertEqual(len(deliveries(upstream, LATER)), 1)
        self.assertEqual(len(deliveries(upstream, SENDER)), 1)
        self.assertEqual(upstream.script.asked, {GOOD: 1, BAD: 1, LATER: 3, SENDER: 1})
        for message in deliveries(upstream, GOOD) + deliveries(upstream, LATER):
            self.assertEqual(contents.without_traces(message.content, 1), CONTENT)

    def test_the_bounce_is_a_report_from_the_null_reverse_path_with_the_upstreams_words(self):
        upstream, _ = self.mixed(retry='first = "1s"\nmax = "2s"')
        [notice] = deliveries(upstream, SENDER)
        self.assertEqual(notice.sender, "")
        self.assertIn("multipart/report", notice.field("Content-Type"))
        self.assertIn("delivery-status", notice.field("Content-Type"))
        text = notice.content.decode()
        self.assertRegex(text, r"(?mi)^Final-Recipient: rfc822; ?bad@example\.com\r?$")
        self.assertRegex(text, r"(?mi)^Action: failed\r?$")
        self.assertRegex(text, r"(?mi)^Status: 5\.1\.1\r?$")
        self.assertRegex(text, r"(?mi)^Diagnostic-Code: smtp; ?550 5\.1\.1 No such mailbox here")
        self.assertIn("<plain@example.org>", text, "the original's header fields are part of the report")
        self.assertEqual(len(re.findall(r"(?mi)^Final-Recipient:", text)), 1, "only the bad one has failed")

    @needs_posthouse
    def test_a_fast_clock_shortens_the_default_schedule(self):
        upstream, relay = self.mixed(speed=60)
        self.assertEqual(upstream.script.asked[LATER], 3)
        # 1m and 2m of the preset, with its jitter, are 3 s at this speed.
        def fates():
            events = [event for event in relay.events() if LATER in event.get("recipients", [])]
            return [event["event"] for event in events if event["event"] in ("DEFER", "SEND")]

        wait_for(lambda: fates() == ["DEFER", "DEFER", "SEND"], 5, fates)

    def test_a_message_refused_after_its_content_bounces(self):
        class Refuses(Script):
            def content(self, session, message):
                return "554 5.7.1 Looks like spam" if message.sender else "250 2.0.0 Ok"

        upstream = self.enter(Upstream(Refuses()))
        relay = self.relay(upstream)
        clients.with_socket(relay.port, SENDER, [GOOD], CONTENT)
        [notice] = self.received(upstream, 1)
        self.assertEqual(notice.addresses, [SENDER])
        self.assertIn("554 5.7.1 Looks like spam", notice.content.decode())

    def test_nothing_is_sent_back_when_the_sender_asked_for_silence_or_has_no_address(self):
        upstream = self.enter(Upstream(ByRecipient()))
        relay = self.relay(upstream)
        clients.with_socket(relay.port, SENDER, [BAD], CONTENT, (), ["NOTIFY=NEVER"])
        clients.with_socket(relay.port, "", [BAD], CONTENT)
        wait_for(lambda: upstream.script.asked.get(BAD) == 2, 30, "both attempts expected")
        clients.with_socket(relay.port, SENDER, [GOOD], CONTENT)
        self.assertEqual([message.addresses for message in self.received(upstream, 1)], [[GOOD]])

    def test_success_was_asked_for_and_the_next_hop_cannot_tell_so_a_notice_says_relayed(self):
        upstream = self.enter(Upstream(offers=("PIPELINING", "SIZE 50000000", "8BITMIME")))
        relay = self.relay(upstream)
        clients.with_socket(relay.port, SENDER, [GOOD], CONTENT, (), ["NOTIFY=SUCCESS"])
        messages = self.received(upstream, 2)
        [notice] = [message for message in messages if message.addresses == [SENDER]]
        self.assertEqual(notice.sender, "")
        self.assertRegex(notice.content.decode(), r"(?mi)^Action: relayed\r?$")

    @needs_posthouse
    def test_an_hour_of_deferral_brings_one_delay_notice_and_then_the_bounce(self):
        class Full(Script):
            def recipient(self, session, address):
                return "250 2.1.5 Ok" if address == SENDER else "452 4.2.2 Mailbox is full"

        upstream = self.enter(Upstream(Full()))
        self.relay(upstream, speed=600, retry='first = "1m"\nmax = "5m"\nexpire_after = "1h"',
                   settings='[notices]\ndelay_after = "10m"')
        clients.with_socket(self.relays[0].port, SENDER, [LATER], CONTENT)
        delay, failure = self.received(upstream, 2, 60)
        for notice in (delay, failure):
            self.assertEqual((notice.sender, notice.addresses), ("", [SENDER]))
            self.assertIn("452 4.2.2 Mailbox is full", notice.content.decode())
        self.assertRegex(delay.content.decode(), r"(?mi)^Action: delayed\r?$")
        self.assertRegex(delay.content.decode(), r"(?mi)^Will-Retry-Until: ")
        unfolded = re.sub(r"\s+", " ", delay.content.decode())
        self.assertRegex(unfolded, r"will keep trying for \d+ minutes?")
        self.assertRegex(failure.content.decode(), r"(?mi)^Action: failed\r?$")
