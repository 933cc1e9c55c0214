//! TLS on the way out as a whole relay does it: REQUIRETLS (RFC 8689) from one server to the next, `TLS-Required: No`, what
//! the tracking log tells of it, and where clear text is a way out and where it is none. In memory, on paused time.

use std::sync::Arc;
use std::time::Duration;

use posthouse::accept::{ListenerSettings, ListenerTls};
use posthouse::lab::{Demands, Ended, Offers, World, WorldBuilder};
use posthouse::mail::{DomainPattern, Envelope, Ret, ReversePath, Route, Via};
use posthouse::net::{ClientTls, ServerTls, Stream, TlsCheck, Tlsa};
use posthouse::route::{Signed, UpstreamTls, Zone};
use posthouse::tracking::{Event, EventName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const CONTENT: &str = "Subject: lunch\r\n\r\nAt noon, as ever.\r\n";

/// A world with one upstream that has TLS, at 192.0.2.10:25.
fn one(tls: UpstreamTls, script: &[&str]) -> WorldBuilder {
    World::builder()
        .upstream_at("main", "192.0.2.10:25".parse().unwrap(), offers(), rules(script))
        .demanding("main", Demands { tls: Some(tls), ..Demands::default() })
}

fn offers() -> Offers {
    Offers { starttls: true, ..Offers::default() }
}

fn rules(script: &[&str]) -> Vec<posthouse::lab::Rule> {
    script.iter().map(|rule| rule.parse().unwrap()).collect()
}

/// From alice to bob, over TLS all the way.
fn demanding() -> Envelope {
    Envelope { require_tls: true, ..plain() }
}

fn plain() -> Envelope {
    let sender = ReversePath::from("alice@example.org".parse::<posthouse::mail::Address>().unwrap());
    Envelope::new(sender, ["bob@example.com".parse().unwrap()])
}

async fn events(world: &World, name: EventName) -> Vec<Event> {
    world.story().await.events.into_iter().filter(|event| event.event == name).collect()
}

/// The one event of this name, and its status.
async fn only(world: &World, name: EventName) -> (Event, String) {
    let found = events(world, name).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let status = found[0].status.map(|status| status.to_string()).unwrap_or_default();
    (found[0].clone(), status)
}

#[tokio::test(start_paused = true)]
async fn requiretls_goes_on_to_a_verified_host_that_offers_it_and_the_log_tells_how() {
    let mut world = one(UpstreamTls::Verified, &[]).start().await.unwrap();
    world.submit(demanding(), CONTENT).await.unwrap();
    world.submit(plain(), CONTENT).await.unwrap();
    assert_eq!(world.until_quiet(WEEK).await, Ended::Quiet);
    let demanded: Vec<bool> =
        world.upstream("main").received().iter().map(|got| got.envelope.require_tls).collect();
    assert_eq!(demanded, [true, false]);
    for sent in events(&world, EventName::Send).await {
        assert_eq!(sent.tls_version.as_deref(), Some("TLSv1.3"));
        assert!(sent.tls_cipher.unwrap().starts_with("TLS_"));
        assert_eq!(sent.tls_verified_by.as_deref(), Some("ca"));
    }
}

#[tokio::test(start_paused = true)]
async fn without_requiretls_at_the_host_it_comes_back_and_the_notice_still_arrives() {
    let mut world = one(UpstreamTls::Verified, &["ehlo: without REQUIRETLS"]).start().await.unwrap();
    world.submit(demanding(), CONTENT).await.unwrap();
    assert_eq!(world.until_quiet(WEEK).await, Ended::Quiet);
    let (failed, status) = only(&world, EventName::Fail).await;
    assert_eq!(status, "5.7.30", "{failed:?}");
    let received = world.upstream("main").received();
    assert_eq!(received.len(), 1);
    assert!(received[0].envelope.reverse_path.is_null() && !received[0].envelope.require_tls);
    assert!(received[0].content.contains("Status: 5.7.30"), "{}", received[0].content);
    assert!(!received[0].content.contains("At noon"), "only its header section comes back");
}

#[tokio::test(start_paused = true)]
async fn the_notice_of_such_a_message_demands_the_same_where_it_can_be_had() {
    let script = &["mail alice@example.org: 550 5.7.1 not you"];
    let mut world = one(UpstreamTls::Verified, script).start().await.unwrap();
    let mut envelope = demanding();
    envelope.ret = Some(Ret::Full);
    world.submit(envelope, CONTENT).await.unwrap();
    assert_eq!(world.until_quiet(WEEK).await, Ended::Quiet);
    let received = world.upstream("main").received();
    assert_eq!(received.len(), 1);
    assert!(received[0].envelope.reverse_path.is_null() && received[0].envelope.require_tls);
    assert!(!received[0].content.contains("At noon"), "{}", received[0].content);
}

#[tokio::test(start_paused = true)]
async fn the_next_host_gets_what_the_first_may_not_have() {
    for first in ["ehlo: without REQUIRETLS", "ehlo: without STARTTLS", "starttls: certificate expired"] {
        let demands = Demands { tls: Some(UpstreamTls::Verified), ..Demands::default() };
        let mut world = one(UpstreamTls::Verified, &[first])
            .upstream_at("second", "192.0.2.11:25".parse().unwrap(), offers(), [])
            .demanding("second", demands)
            .start()
            .await
            .unwrap();
        world.submit(demanding(), CONTENT).await.unwrap();
        assert_eq!(world.until_quiet(HOUR).await, Ended::Quiet, "{first}");
        assert!(world.upstream("main").received().is_empty(), "{first}");
        assert!(world.upstream("second").received()[0].envelope.require_tls, "{first}");
        let (failover, _) = only(&world, EventName::Failover).await;
        assert_eq!(failover.next_host.as_deref(), Some("[192.0.2.11]"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_message_demands_makes_the_host_no_worse_for_others() {
    for (tls, script, status) in [
        (UpstreamTls::Opportunistic, "starttls: certificate self-signed", "5.7.10"),
        (UpstreamTls::Required, "starttls: certificate wrong-name", "5.7.10"),
        (UpstreamTls::Opportunistic, "starttls: 554 5.7.0 no TLS here", "5.7.10"),
        (UpstreamTls::Opportunistic, "ehlo: without STARTTLS", "5.7.30"),
        (UpstreamTls::None, "ehlo: accept", "5.7.30"),
    ] {
        let mut world = one(tls, &[script]).start().await.unwrap();
        if tls == UpstreamTls::None {
            world = World::builder().upstream("main", rules(&[script])).start().await.unwrap();
        }
        world.submit(demanding(), CONTENT).await.unwrap();
        world.submit(plain(), CONTENT).await.unwrap();
        assert_eq!(world.until_quiet(HOUR).await, Ended::Quiet, "{script}");
        let (failed, found) = only(&world, EventName::Fail).await;
        assert_eq!(found, status, "{script}: {failed:?}");
        assert_eq!(events(&world, EventName::HostDown).await, [], "{script}");
        assert_eq!(events(&world, EventName::Sleep).await, [], "{script}");
        let senders: Vec<String> = world
            .upstream("main")
            .received()
            .iter()
            .map(|got| got.envelope.reverse_path.to_string())
            .collect();
        assert_eq!(senders.len(), 2, "the other one and the notice: {script} {senders:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_may_succeed_in_a_minute_is_waited_for() {
    for script in ["starttls: 454 4.7.0 not now, once", "starttls: handshake close, once"] {
        let mut world = one(UpstreamTls::Verified, &[script]).start().await.unwrap();
        world.submit(demanding(), CONTENT).await.unwrap();
        assert_eq!(world.until_quiet(HOUR).await, Ended::Quiet, "{script}");
        let (deferred, status) = only(&world, EventName::Defer).await;
        assert!(status.starts_with("4."), "{deferred:?}");
        assert!(world.upstream("main").received()[0].envelope.require_tls, "{script}");
        assert_eq!(events(&world, EventName::HostDown).await.len(), 1, "other mail needs TLS there, too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_with_a_bad_certificate_is_down_where_all_mail_demands_a_good_one() {
    let mut world =
        one(UpstreamTls::Verified, &["starttls: certificate expired, once"]).start().await.unwrap();
    world.submit(demanding(), CONTENT).await.unwrap();
    assert_eq!(world.until_quiet(WEEK).await, Ended::Quiet);
    let (_, status) = only(&world, EventName::Fail).await;
    assert_eq!(status, "5.7.10");
    let (down, _) = only(&world, EventName::HostDown).await;
    assert_eq!(down.host_stage.as_deref(), Some("starttls"));
}

#[tokio::test(start_paused = true)]
async fn clear_text_after_a_failed_starttls_is_told_and_goes_over_a_new_connection() {
    for (script, words) in [
        ("starttls: 454 4.7.0 TLS not available", "STARTTLS failed (refused): going on in clear text"),
        ("starttls: handshake close", "(the connection was closed during the TLS handshake)"),
    ] {
        let mut world = one(UpstreamTls::Opportunistic, &[script]).start().await.unwrap();
        world.submit(plain(), CONTENT).await.unwrap();
        assert_eq!(world.until_quiet(HOUR).await, Ended::Quiet);
        let (failover, _) = only(&world, EventName::Failover).await;
        let reason = failover.reason.clone().unwrap();
        assert!(reason.contains(words) && reason.ends_with("since tls is opportunistic"), "{reason}");
        assert_eq!(failover.next_host.as_deref(), Some("[192.0.2.10]"));
        let (sent, _) = only(&world, EventName::Send).await;
        assert_eq!((sent.tls_version, sent.tls_cipher, sent.tls_verified_by), (None, None, None));
        let asked = world.upstream("main").asked();
        assert_eq!(asked.iter().map(|asked| asked.session).max(), Some(2), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clear_text_is_no_way_where_tls_is_demanded() {
    for tls in [UpstreamTls::Required, UpstreamTls::Verified] {
        for script in
            ["starttls: 454 4.7.0 TLS not available", "starttls: handshake garbage", "ehlo: without STARTTLS"]
        {
            let mut world = one(tls, &[script]).start().await.unwrap();
            world.submit(plain(), CONTENT).await.unwrap();
            world.until_quiet(WEEK).await;
            assert!(world.upstream("main").received().is_empty(), "{script}");
            assert_eq!(events(&world, EventName::Failover).await, [], "{script}");
            let asked = world.upstream("main").asked();
            assert!(asked.iter().all(|asked| asked.stage.word() != "mail"), "{script}");
        }
    }
}

/// A world whose mail goes to the MX host of example.com, which has TLSA records that never match.
async fn with_dane() -> World {
    let zone = Arc::new(Zone::new());
    zone.set_mx("example.com", [(10, "mx.example.com")]);
    zone.set_addresses("mx.example.com", ["192.0.2.10".parse().unwrap()]);
    let other = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] };
    zone.set_tlsa("_25._tcp.mx.example.com", [other]);
    for name in ["example.com", "mx.example.com", "_25._tcp.mx.example.com"] {
        zone.set_signed(name, Signed::Secure);
    }
    let world = World::builder()
        .zone(zone)
        .settings(|settings| settings.routes.routes.push(Route::new([DomainPattern::All], Via::Mx)))
        .upstream_at("main", "192.0.2.10:25".parse().unwrap(), offers(), []);
    world.start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn tls_required_no_goes_on_where_the_recipients_dane_cannot_be_met() {
    let mut world = with_dane().await;
    world.submit(plain(), CONTENT).await.unwrap();
    world.advance(HOUR).await;
    assert!(world.upstream("main").received().is_empty(), "DANE keeps it");
    assert!(!events(&world, EventName::Defer).await.is_empty());

    let mut world = with_dane().await;
    world.submit(plain(), format!("TLS-Required: No\r\n{CONTENT}")).await.unwrap();
    assert_eq!(world.until_quiet(HOUR).await, Ended::Quiet);
    assert_eq!(world.upstream("main").received().len(), 1);
    let (sent, _) = only(&world, EventName::Send).await;
    assert_eq!(sent.tls_verified_by.as_deref(), Some("none"), "TLS there is, and any certificate does");
    let (route, _) = only(&world, EventName::Route).await;
    assert!(route.candidates[0].decision.contains("TLS-Required: No"), "{route:?}");

    let mut world = with_dane().await;
    world.submit(demanding(), format!("TLS-Required: No\r\n{CONTENT}")).await.unwrap();
    assert_eq!(world.until_quiet(WEEK).await, Ended::Quiet);
    let failed = events(&world, EventName::Fail).await;
    let status = failed[0].status.unwrap().to_string();
    assert_eq!(status, "5.7.10", "REQUIRETLS goes before the field: {failed:?}");
    assert!(world.upstream("main").received().is_empty());
}

/// Says a command and gives the whole reply.
async fn say(stream: &mut Stream, line: &str) -> String {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    hear(stream).await
}

async fn hear(stream: &mut Stream) -> String {
    let mut heard = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "closed behind {heard:?}");
        let text = std::str::from_utf8(&heard).unwrap();
        let last = text.trim_end().lines().last().unwrap_or_default();
        if text.ends_with("\r\n") && last.as_bytes().get(3) == Some(&b' ') {
            return text.to_owned();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requiretls_comes_in_under_tls_and_goes_out_under_tls() {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerTls::self_signed(folder.path(), "relay.example.org");
    let mut listener = ListenerSettings::new("192.0.2.50:25".parse().unwrap());
    listener.tls = ListenerTls::StartTls(server);
    listener.networks = Some(vec!["0.0.0.0/0".parse().unwrap()]);
    let world = one(UpstreamTls::Verified, &[]).settings(|settings| settings.listeners = vec![listener]);
    let mut world = world.start().await.unwrap();
    let at = "192.0.2.50:25".parse().unwrap();
    let mut stream = world.network().connect(at, Duration::from_secs(5)).await.unwrap();
    hear(&mut stream).await;
    let offered = say(&mut stream, "EHLO client.example.org").await;
    assert!(offered.contains("STARTTLS") && !offered.contains("REQUIRETLS"), "{offered}");
    assert!(say(&mut stream, "MAIL FROM:<alice@example.org> REQUIRETLS").await.starts_with("530 5.7.0"));
    assert!(say(&mut stream, "STARTTLS").await.starts_with("220"));
    let tls = ClientTls::trusting([]).unwrap();
    let check = TlsCheck::Opportunistic;
    let mut stream =
        stream.start_tls_client(&tls, check, "relay.example.org", Duration::from_secs(5)).await.unwrap();
    assert!(say(&mut stream, "EHLO client.example.org").await.contains("REQUIRETLS"));
    assert!(say(&mut stream, "MAIL FROM:<alice@example.org> REQUIRETLS").await.starts_with("250"));
    assert!(say(&mut stream, "RCPT TO:<bob@example.com>").await.starts_with("250"));
    assert!(say(&mut stream, "DATA").await.starts_with("354"));
    assert!(say(&mut stream, &format!("{CONTENT}.")).await.starts_with("250"));
    assert_eq!(world.until_quiet(HOUR).await, Ended::Quiet);
    let received = world.upstream("main").received();
    assert!(received.len() == 1 && received[0].envelope.require_tls, "{received:?}");
}
