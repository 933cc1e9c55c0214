//! The configuration as operators meet it: the reference file, wrong files with their whole message, the environment.
//!
//! `tests/configs/NAME.toml` is a wrong file, `NAME.expected` what must be said about it; lines `#env NAME=value` at
//! its top are the environment. `BLESS_CONFIGS=1` writes the expected files anew, to be read before they are kept.

use crate::queue::schedule::Preset;
use crate::route::UpstreamTls;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::mail::{Route, Via};

fn upstream_flag() -> Flags {
    Flags { upstream: vec!["smtp://relay.example:25".into()], ..Flags::default() }
}

fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("posthouse.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn settings(text: &str, variables: &[(&str, &str)], flags: &Flags) -> Configuration {
    let (_dir, path) = write(text);
    load(Some(&path), env(variables), flags).unwrap_or_else(|faults| panic!("{faults}")).settings
}

fn faults(text: &str, variables: &[(&str, &str)]) -> String {
    let (dir, path) = write(text);
    let faults = load(Some(&path), env(variables), &Flags::default()).expect_err("this is wrong").to_string();
    faults.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn the_reference_file_says_the_real_defaults() {
    let (dir, path) = write(REFERENCE);
    let mut reference =
        load(Some(&path), [], &upstream_flag()).unwrap_or_else(|faults| panic!("{faults}")).settings;
    let default = load(None, [], &upstream_flag()).unwrap().settings;
    // The only relative path with another folder to count from.
    reference.spool.path = reference.spool.path.strip_prefix(dir.path()).unwrap().into();
    reference.tracking.path = reference.tracking.path.strip_prefix(dir.path()).unwrap().into();
    // Field by field in text: a loaded certificate has no other equality.
    assert_eq!(format!("{reference:#?}"), format!("{default:#?}"));
}

/// Every setting, commented out or not, is a key that is known; and every key that is known stands in the file.
#[test]
fn the_reference_file_has_every_key_and_no_other() {
    let uncommented: Vec<String> = REFERENCE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let text = uncommented.join("\n");
    assert!(text.contains("\nhostname = ") && text.contains("\n[tls]\n"), "settings are uncommented");
    // Certificates, keys, authorities, users, the trust anchor, a password and tokens can't be read here, the secret of the
    // upstream cannot come from all of its sources at once, and a route to a group has no tls; nothing else may be wrong.
    // What the group there falls back to.
    let spare = "\n[upstream.spare]\nhosts = [\"smtp://relay-c.example:25\"]\n";
    let (_dir, path) = write(&format!("{text}{spare}"));
    let found = load(Some(&path), [], &Flags::default()).expect_err("the files named there don't exist");
    for fault in &found.0 {
        assert!(
            ["No such file", "there is no file", "two sources of one secret", "is for via = \"mx\" only"]
                .iter()
                .any(|expected| fault.problem.contains(expected)),
            "{found}"
        );
    }
    assert_eq!(found.0.len(), 14, "{found}");

    // The other way round: what a section says it knows, asked by a key that it does not know.
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
    for heading in headings {
        let wrong = text.replacen(&format!("{heading}\n"), &format!("{heading}\nnonsense = 1\n"), 1);
        let (_dir, path) = write(&wrong);
        let found = load(Some(&path), [], &Flags::default()).unwrap_err();
        let fault = found.0.iter().find(|fault| fault.problem.contains("nonsense")).expect(heading);
        let known: BTreeSet<&str> = fault.expected.as_ref().unwrap().split('"').skip(1).step_by(2).collect();
        let section = text.split(&format!("{heading}\n")).nth(1).unwrap().split("\n[").next().unwrap();
        let written: BTreeSet<&str> = section
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once(" = ")?.0))
            .collect();
        assert_eq!(known, written, "{heading}");
    }
}

#[test]
fn without_a_file_one_upstream_is_enough() {
    let loaded = load(None, [], &upstream_flag()).unwrap();
    assert_eq!(loaded.warnings, []);
    let settings = loaded.settings;
    assert_eq!(settings.listeners[0].address.to_string(), "127.0.0.1:2525");
    assert_eq!(settings.spool.path, Path::new("posthouse-spool"));
    assert_eq!(settings.tracking.path, Path::new("posthouse-spool/tracking"));
    assert_eq!(settings.upstreams["main"].hosts[0].to_string(), "smtp://relay.example:25?tls=opportunistic");
    assert_eq!(settings.routes, crate::mail::RouteTable::all_via("main"));
    assert_eq!(settings.retry.expire_after, Duration::from_secs(172_800));
    assert!(!settings.hostname.is_empty());
}

#[test]
fn sessions_are_lowered_to_what_the_descriptors_allow() {
    let mut settings = load(None, [], &upstream_flag()).unwrap().settings;
    // 1000 sessions, 200 deliveries, a listener, and the reserve.
    assert_eq!(settings.fit_into(1713), None);
    let few = settings.fit_into(1024).unwrap();
    assert_eq!((few.asked, few.sessions, few.needed), (1000, 311, 1713));
    assert_eq!(settings.relay().accept.limits.sessions, 311);
    assert_eq!(settings.fit_into(64).unwrap().sessions, 1);
}

#[test]
fn a_certificate_that_has_ended_or_will_soon_and_one_of_our_own_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let warnings = |tls: &str| -> Vec<String> {
        let path = folder.path().join("posthouse.toml");
        std::fs::write(&path, format!("[tls]\n{tls}\n[upstream.main]\nhosts = [\"smtp://a.example\"]\n"))
            .unwrap();
        let loaded = load(Some(&path), [], &Flags::default()).unwrap_or_else(|faults| panic!("{faults}"));
        loaded.warnings.into_iter().map(|warning| warning.0.problem).collect()
    };
    let ending = |days: i64| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["relay.example.org".to_owned()]).unwrap();
        let now = crate::clock::Clock::system().now().to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
        let end = now + jiff::Span::new().days(days);
        params.not_after = rcgen::date_time_ymd(end.year().into(), end.month() as u8, end.day() as u8);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("fullchain.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        warnings("certificate = \"fullchain.pem\"\nkey = \"key.pem\"")
    };
    assert_eq!(ending(60), [""; 0]);
    assert_eq!(ending(-3), ["the certificate has expired: clients that verify it turn away"]);
    let soon = ending(7);
    assert!(matches!(&soon[..], [one] if one.starts_with("the certificate ends in ")), "{soon:?}");
    let own = warnings("self_signed = true");
    assert!(
        matches!(&own[..], [one] if one.starts_with("the certificate is self-signed: for a lab")),
        "{own:?}"
    );
}

#[test]
fn without_an_upstream_it_refuses_and_says_how() {
    let message = load(None, [], &Flags::default()).unwrap_err().to_string();
    assert!(message.contains("a lab must never mail the world by accident"), "{message}");
    assert!(message.contains("--upstream smtp://") && message.contains("via = \"mx\""), "{message}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[retry]\npreset = \"postfix\"\n[upstream.main]\nhosts = [\"smtp://a.example\"]\n";
    let preset = |variables: &[(&str, &str)], flags: &Flags| settings(file, variables, flags).retry.preset;
    assert_eq!(preset(&[], &Flags::default()), Preset::Postfix);
    let variables = [("POSTHOUSE_RETRY__PRESET", "exchange")];
    assert_eq!(preset(&variables, &Flags::default()), Preset::Exchange);
    let flags = Flags { preset: Some("rfc5321".into()), ..Flags::default() };
    assert_eq!(preset(&variables, &flags), Preset::Rfc5321);
}

#[test]
fn a_container_is_configured_by_its_environment_alone() {
    let variables = env(&[
        ("POSTHOUSE_HOSTNAME", "relay.example.org"),
        ("POSTHOUSE_UPSTREAM", "smtp://a.example:2525, smtps://b.example"),
        ("POSTHOUSE_UPSTREAM__MAIN__USERNAME", ""),
        ("POSTHOUSE_LISTENER__ADDRESS", "0.0.0.0:2525"),
        ("POSTHOUSE_RELAYING__NETWORKS", "192.0.2.0/24,2001:db8::/32"),
        ("POSTHOUSE_LIMITS__SESSIONS", "50"),
        ("POSTHOUSE_CLOCK__SPEED", "60"),
        ("POSTHOUSE_DNS__REFUSE", "192.0.2.1"),
        ("POSTHOUSE_LOG", "debug"),
        // What Kubernetes adds for a service called posthouse.
        ("POSTHOUSE_SERVICE_HOST", "192.0.2.9"),
        ("POSTHOUSE_SERVICE_PORT_SMTP", "25"),
        ("POSTHOUSE_PORT", "tcp://192.0.2.9:25"),
        ("POSTHOUSE_PORT_25_TCP_ADDR", "192.0.2.9"),
        ("PATH", "/bin"),
    ]);
    let settings =
        load(None, variables, &Flags::default()).unwrap_or_else(|faults| panic!("{faults}")).settings;
    assert_eq!(settings.hostname, "relay.example.org");
    assert_eq!(settings.listeners[0].address.to_string(), "0.0.0.0:2525");
    assert_eq!(settings.upstreams["main"].hosts.len(), 2);
    assert_eq!(settings.relaying.networks.len(), 2);
    assert_eq!((settings.limits.sessions, settings.speed), (50, 60.0));
    assert_eq!(settings.dns.refuse[0].to_string(), "192.0.2.1/32");
}

#[test]
fn the_queue_is_told_how_much_may_wait_and_how_fast_notices_go() {
    let file = "[limits]\nqueued_messages = 500\n[notices]\nrate = \"6000/min\"\n\
                [upstream.main]\nhosts = [\"smtp://a.example\"]\n";
    let queue = settings(file, &[], &Flags::default()).relay().queue;
    assert_eq!(queue.messages, 500);
    assert_eq!((queue.notices.count, queue.notices.per), (6000, Duration::from_secs(60)));
    let variables = [("POSTHOUSE_LIMITS__QUEUED_MESSAGES", "7"), ("POSTHOUSE_NOTICES__RATE", "10/h")];
    let queue = settings(file, &variables, &Flags::default()).relay().queue;
    assert_eq!((queue.messages, queue.notices.count), (7, 10));
    let default = load(None, [], &upstream_flag()).unwrap().settings.relay().queue;
    assert_eq!(default, crate::queue::Settings::default(), "the library has the same defaults");
}

#[test]
fn the_front_door_is_told_who_may_relay_what_to_whom_and_how_much() {
    let file = "
        [relaying]
        networks = []
        certificates = [\"app.example.org\"]
        senders = [\"*@example.org\", \"<>\"]
        recipients = [\"*@*.example.com\"]
        refuse_recipients = [\"abuse@*\"]
        [[listener]]
        address = \"127.0.0.1:2525\"
        max_connections = 7
        networks = [\"192.0.2.0/24\"]
        max_message_size = \"2MiB\"
        [[limit]]
        users = [\"*\"]
        networks = [\"192.0.2.0/24\"]
        connections = 3
        connection_rate = \"60/min\"
        messages = \"1000/h\"
        recipients = \"5/s\"
        max_message_size = \"1MiB\"
        [upstream.main]
        hosts = [\"smtp://a.example\"]
    ";
    let relay = settings(file, &[], &Flags::default()).relay();
    let accept = &relay.accept;
    assert_eq!((accept.networks.len(), accept.max_message_size), (0, Some(2 << 20)));
    let shown: Vec<String> = accept.senders.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(shown, ["*@example.org", "<>"]);
    assert_eq!(accept.recipients.as_ref().unwrap()[0].to_string(), "*@*.example.com");
    assert_eq!(accept.refuse_recipients[0].to_string(), "abuse@*");
    assert_eq!(accept.certificates[0].to_string(), "app.example.org");
    let limit = &accept.client_limits[0];
    assert_eq!((limit.whom.users.len(), limit.whom.networks.len()), (1, 1));
    assert_eq!((limit.connections, limit.max_message_size), (Some(3), Some(1 << 20)));
    let rates = [limit.connection_rate, limit.messages, limit.recipients];
    assert_eq!(rates.map(|rate| rate.unwrap().to_string()), ["60/min", "1000/h", "5/s"]);
    let listener = &relay.listeners[0];
    assert_eq!((listener.max_connections, listener.networks.as_ref().unwrap().len()), (Some(7), 1));

    // One from the environment, as in a container.
    let variables = [("POSTHOUSE_LIMIT__MESSAGES", "10/h"), ("POSTHOUSE_LIMIT__USERS", "app,other")];
    let plain = "[upstream.main]\nhosts = [\"smtp://a.example\"]\n";
    let limits = settings(plain, &variables, &Flags::default()).relay().accept.client_limits;
    assert_eq!((limits.len(), limits[0].whom.users.len()), (1, 2));
}

#[test]
fn a_fault_in_the_environment_names_its_variable() {
    let good = "[upstream.main]\nhosts = [\"smtp://a.example\"]\n";
    let message = faults(good, &[("POSTHOUSE_TIMEOUTS__CONNECT", "30")]);
    assert_eq!(
        message,
        "POSTHOUSE_TIMEOUTS__CONNECT: fault: timeouts.connect is \"30\"\n    \
         | POSTHOUSE_TIMEOUTS__CONNECT=30\n    \
         = expected: a duration with its unit, such as \"30s\", \"5m\" or \"1d 12h\"\n    \
         = hint: write \"30s\" for 30 seconds\n\
         1 fault in the configuration"
    );
    for (name, hint) in [
        ("POSTHOUSE_RETRY__PRESETS", "write POSTHOUSE_RETRY__PRESET\n"),
        ("POSTHOUSE_RETRY_PRESET", "write POSTHOUSE_RETRY__PRESET\n"),
        ("POSTHOUSE_HOSTNAM", "write POSTHOUSE_HOSTNAME\n"),
        ("POSTHOUSE_UPSTREAM__MAIN__HOST", "write POSTHOUSE_UPSTREAM__MAIN__HOSTS\n"),
        ("POSTHOUSE_RETYR__PRESET", "write POSTHOUSE_RETRY__PRESET\n"),
    ] {
        let message = faults(good, &[(name, "x")]);
        assert!(message.starts_with(&format!("{name}: fault: ")), "{message}");
        assert!(message.contains(hint), "{message}");
    }
    let two = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n";
    let message = faults(&format!("{two}{good}"), &[("POSTHOUSE_LISTENER__ADDRESS", "127.0.0.1:3")]);
    assert!(message.contains("the file has 2 [[listener]]"), "{message}");
}

#[test]
fn one_upstream_from_outside_replaces_those_of_the_file_and_says_so() {
    let file =
        "[upstream.other]\nhosts = [\"smtp://a.example\"]\n[[route]]\ndomains = [\"*\"]\nvia = \"other\"\n";
    let (_dir, path) = write(file);
    let loaded = load(Some(&path), [], &upstream_flag()).unwrap();
    assert_eq!(loaded.settings.upstreams.keys().collect::<Vec<_>>(), ["main"]);
    assert!(loaded.warnings[0].to_string().contains("--upstream replaces all"), "{}", loaded.warnings[0]);
}

#[test]
fn a_password_makes_verified_tls_the_default_except_to_this_machine() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret\n").unwrap();
    let text = format!(
        "[upstream.main]\nhosts = [\"smtp://a.example\", \"smtps://b.example\", \"smtp://127.0.0.1:26\", \
         \"smtp://c.example?tls=none\"]\nusername = \"me\"\npassword_file = {:?}\n",
        secret.path()
    );
    let (_dir, path) = write(&text);
    let loaded = load(Some(&path), [], &Flags::default()).unwrap();
    let tls: Vec<_> = loaded.settings.upstreams["main"].hosts.iter().map(|host| host.tls.unwrap()).collect();
    let expected =
        [UpstreamTls::Verified, UpstreamTls::Verified, UpstreamTls::Opportunistic, UpstreamTls::None];
    assert_eq!(tls, expected);
    assert_eq!(loaded.warnings.len(), 1);
    let told = loaded.warnings[0].to_string();
    assert!(told.contains("the password for smtp://c.example:25") && !told.contains("***"), "{told}");
}

#[test]
fn the_tls_of_a_group_is_that_of_the_hosts_whose_urls_say_nothing() {
    let text = "[upstream.main]\nhosts = [\"smtp://a.example\", \"smtps://b.example\", \"lmtp://c.example:24?tls=none\"]\n\
                tls = \"verified\"\n";
    let (_dir, path) = write(text);
    let hosts = load(Some(&path), [], &Flags::default()).unwrap().settings.upstreams["main"].hosts.clone();
    let tls: Vec<_> = hosts.iter().map(|host| host.tls.unwrap()).collect();
    assert_eq!(tls, [UpstreamTls::Verified, UpstreamTls::Verified, UpstreamTls::None]);
}

#[test]
fn a_port_that_suits_the_other_scheme_is_warned_of() {
    let warnings = |url: &str| {
        let (_dir, path) = write(&format!("[upstream.main]\nhosts = [\"{url}\"]\n"));
        let loaded = load(Some(&path), [], &Flags::default()).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(warnings("smtp://a.example:465").contains("begin with TLS from the start"));
    assert!(warnings("smtps://a.example:587").contains("begin with a greeting in the clear"));
    for fine in ["smtp://a.example:587", "smtps://a.example", "lmtp://a.example:465", "smtp://a.example"] {
        assert_eq!(warnings(fine), "", "{fine}");
    }
}

#[test]
fn a_certificate_and_its_key_load() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (one, other) = (made("relay.example.org"), made("other.example.org"));
    std::fs::write(dir.path().join("cert.pem"), one.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), one.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.path().join("other.pem"), other.signing_key.serialize_pem()).unwrap();
    let text = |key: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:2525\"\ntls = \"starttls\"\n[tls]\ncertificate = \"cert.pem\"\n\
             key = \"{key}\"\n[upstream.main]\nhosts = [\"smtp://a.example\"]\n"
        )
    };
    let path = dir.path().join("posthouse.toml");
    std::fs::write(&path, text("key.pem")).unwrap();
    let settings =
        load(Some(&path), [], &Flags::default()).unwrap_or_else(|faults| panic!("{faults}")).settings;
    assert!(settings.tls.is_some());
    std::fs::write(&path, text("other.pem")).unwrap();
    let message = load(Some(&path), [], &Flags::default()).unwrap_err().to_string();
    assert!(message.contains("does not belong to the certificate"), "{message}");
}

#[test]
fn warns_of_what_works_but_is_probably_not_meant() {
    let file = "
        [relaying]
        networks = [\"0.0.0.0/0\"]
        [[listener]]
        address = \"127.0.0.1:2525\"
        networks = [\"::/0\"]
        [[limit]]
        messages = \"1000/h\"
        connections = 20
        [[limit]]
        users = [\"app\"]
        messages = \"10000/h\"
        [notices]
        delay_after = \"3d\"
        [delivery]
        concurrency = 300
        [upstream.main]
        hosts = [\"smtp://a.example\"]
        [upstream.spare]
        hosts = [\"smtp://b.example\"]
        [[route]]
        domains = [\"*\"]
        via = \"main\"
        [[route]]
        domains = [\"example.org\"]
        via = \"mx\"
    ";
    let (_dir, path) = write(file);
    let loaded = load(Some(&path), [], &Flags::default()).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(Warning::to_string).collect();
    for text in [
        "relaying.networks has 0.0.0.0/0: everybody may relay",
        "listener.networks has ::/0: everybody may relay",
        "this limit is never reached",
        "this route is never reached",
        "no route leads to [upstream.spare]",
        "no delay notice is ever sent: it is due after 3days, and mail expires after 2days",
        "delivery.concurrency (300) is never reached",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(text)), "{}", warnings.join(""));
    }
    assert_eq!(warnings.len(), 7, "{}", warnings.join(""));
    assert!(matches!(loaded.settings.routes.routes[1], Route { via: Via::Mx, .. }));
}

#[test]
fn a_group_for_resubmission_alone_is_told_as_one() {
    let file = "
        [[route]]
        domains = [\"*\"]
        via = \"main\"
        [upstream.main]
        hosts = [\"smtp://192.0.2.1\"]
        [upstream.spare]
        hosts = [\"smtp://192.0.2.2\"]
        [safety_net]
        hold = \"2h\"
    ";
    let (_dir, path) = write(file);
    let loaded = load(Some(&path), [], &Flags::default()).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(warnings.len(), 1, "{}", warnings.join(""));
    assert!(warnings[0].contains("only by `posthouse resubmit --via spare`"), "{}", warnings[0]);
}

#[test]
fn routes_are_read_with_all_that_they_can_say() {
    let file = r#"
[[listener]]
name = "submission"
address = "127.0.0.1:2525"

[[listener]]
address = "127.0.0.1:2526"

[[route]]
senders = ["<>", ".shop.example"]
domains = ["*.example.org"]
listeners = ["submission", "127.0.0.1:2526"]
via = "main"
redirect_to = "staging@example.org"

[[route]]
users = ["app"]
via = "error"
reply = "550 5.7.1 Not today"

[[route]]
domains = ["example.com"]
via = "hold"

[[route]]
senders = ["*"]
via = "discard"

[upstream.main]
hosts = ["smtp://a.example?tier=1&weight=3", "lmtp://b.example:24?tier=1"]
fallback = "spare"

[upstream.spare]
hosts = ["smtp://c.example"]
"#;
    let (_dir, path) = write(file);
    let loaded = load(Some(&path), [], &Flags::default()).unwrap_or_else(|faults| panic!("{faults}"));
    let problems: Vec<&str> = loaded.warnings.iter().map(|warning| warning.0.problem.as_str()).collect();
    assert_eq!(problems, ["this route is never taken: there are no users"]);
    let relay = loaded.settings.relay();
    let names: Vec<&str> = relay.listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["submission", "127.0.0.1:2526"]);
    let routes = &relay.routes.routes;
    let vias: Vec<&Via> = routes.iter().map(|route| &route.via).collect();
    let refused = Via::Error("550 5.7.1 Not today".parse().unwrap());
    assert_eq!(vias, [&Via::Upstream("main".into()), &refused, &Via::Hold, &Via::Discard]);
    assert_eq!(routes[0].senders, ["<>".parse().unwrap(), ".shop.example".parse().unwrap()]);
    assert_eq!((routes[0].domains.len(), routes[0].listeners.len()), (1, 2));
    assert_eq!(routes[0].redirect_to, Some("staging@example.org".parse().unwrap()));
    assert_eq!(routes[1].users, ["app"]);
    assert_eq!(relay.route.groups["main"].fallback.as_deref(), Some("spare"));
    let spared = file.split("[[route]]").next().unwrap().to_owned() + file.split("discard\"").nth(1).unwrap();
    let (_dir, path) = write(&spared);
    let loaded = load(Some(&path), [], &Flags::default()).unwrap();
    assert_eq!(loaded.settings.routes, crate::mail::RouteTable::all_via("main"), "the other is there for it");
}

#[test]
fn a_file_that_is_not_there_is_one_fault() {
    let message =
        load(Some(Path::new("/nonexistent/posthouse.toml")), [], &Flags::default()).unwrap_err().to_string();
    assert!(
        message.starts_with("/nonexistent/posthouse.toml: fault: cannot read the configuration: "),
        "{message}"
    );
}

#[test]
fn every_wrong_file_gets_the_message_that_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{} files", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let variables: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#env ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let said = match load(Some(&path), variables, &Flags::default()) {
            Ok(_) => "nothing\n".to_owned(),
            Err(faults) => format!("{faults}\n").replace(&format!("{}/", folder.display()), ""),
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS_CONFIGS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(&said) {
            wrong.push(format!("{}: said\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_message_shows_a_password() {
    let variables = env(&[
        ("POSTHOUSE_UPSTREAM", "smtp://me:s3cret@relay.example"),
        ("POSTHOUSE_UPSTREAM__MAIN__PASSWORD", "s3cret"),
    ]);
    let flags = Flags { upstream: vec!["smtp://me:s3cret@relay.example".into()], ..Flags::default() };
    let file = "[upstream.main]\nhosts = [\"me:s3cret@relay.example\"]\npassword = \"s3cret\"\n";
    let (_dir, path) = write(file);
    for (variables, flags) in [(vec![], Flags::default()), (variables, Flags::default()), (vec![], flags)] {
        let faults = load(Some(&path), variables, &flags).unwrap_err();
        assert!(!format!("{faults} {faults:?}").contains("s3cret"), "{faults}");
    }
}

#[test]
fn a_command_that_only_looks_needs_no_upstream() {
    let found = places(None, [], &Flags::default()).unwrap();
    assert_eq!(found.tracking, Path::new("posthouse-spool/tracking"));
    let (dir, path) = write(
        "[spool]\npath = \"kept\"\n[tracking]\npath = \"/var/log/posthouse\"\n[retry]\nx = 1\n[[listener]]\n[[listener]]\n",
    );
    let found = places(
        Some(&path),
        env(&[("POSTHOUSE_RETRY__Y", "1"), ("POSTHOUSE_LISTENER__ADDRESS", "x")]),
        &Flags::default(),
    )
    .unwrap();
    assert_eq!(found.spool, dir.path().join("kept"));
    assert_eq!(found.tracking, Path::new("/var/log/posthouse"));
    let flags = Flags { spool: Some("elsewhere".into()), ..Flags::default() };
    assert_eq!(places(Some(&path), [], &flags).unwrap().spool, Path::new("elsewhere"));
}
