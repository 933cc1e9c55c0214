//! Handshakes of the server's side with clients of every kind: new certificates, tickets, clients' certificates, and
//! each way in which a client can fail.

use rcgen::{
    CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    string::Ia5String,
};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use std::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::super::clients::{AskForCertificate, Authorities};
use super::super::pair::tests::{Pair, pair, pair_by};
use super::*;
use crate::net::{MemoryNetwork, Network, Stream};

const LIMIT: Duration = Duration::from_secs(10);
const NAME: &str = "mx.example.org";

type Near = tokio_rustls::client::TlsStream<Stream>;

async fn streams() -> (Stream, Stream) {
    let network = Network::Memory(MemoryNetwork::new());
    let mut listener = network.bind("192.0.2.1:25".parse().unwrap()).await.unwrap();
    let near = network.connect(listener.local_addr(), LIMIT).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

fn server(pair: &Pair) -> ServerTls {
    ServerTls::load(&pair.certificate_path(), &pair.key_path()).unwrap()
}

/// A client that trusts the authorities of these pairs, and may have a certificate of its own.
fn client(
    trusted: &[&Pair],
    versions: &[&'static SupportedProtocolVersion],
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.authority.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let config = config.with_root_certificates(roots);
    Arc::new(match own {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    })
}

/// Both ends of a handshake, with one line said each way where it succeeded: tickets of TLS 1.3 come with it.
async fn shake(server: &ServerTls, client: Arc<ClientConfig>) -> Result<(Near, Stream), TlsError> {
    let (near, far) = streams().await;
    let connector = TlsConnector::from(client);
    let name = ServerName::try_from(NAME).unwrap();
    let (near, far) = tokio::join!(connector.connect(name, near), far.start_tls_server(server, LIMIT));
    let (mut near, mut far) = (near, far?);
    let mut line = [0; 5];
    if let Ok(near) = &mut near {
        far.write_all(b"220 \n").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut line).await.unwrap();
    }
    Ok((near.expect("the server was content"), far))
}

/// What the server says of a client that fails.
async fn failure(server: &ServerTls, client: Arc<ClientConfig>) -> TlsError {
    let (near, far) = streams().await;
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(client);
    let both = tokio::join!(connector.connect(name, near), far.start_tls_server(server, LIMIT));
    both.1.expect_err("this client fails")
}

fn copy(from: &Pair, to: &Pair) {
    fs::copy(from.certificate_path(), to.certificate_path()).unwrap();
    fs::copy(from.key_path(), to.key_path()).unwrap();
}

fn shown_to(near: &Near) -> CertificateDer<'static> {
    near.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_shown_within_a_minute_and_a_faulty_pair_leaves_the_old_one() {
    let (old, new) = (pair_by("Old", NAME), pair_by("New", NAME));
    // One that has been here before shows itself its ticket's certificate: each of these comes for the first time.
    let stranger = || client(&[&old, &new], rustls::ALL_VERSIONS, None);
    let server = server(&old);
    let first = shown_to(&shake(&server, stranger()).await.unwrap().0);
    let before = server.shown().unwrap();
    assert!(before.names.contains(&NAME.to_owned()) && !before.self_signed);

    // Half of the change: the certificate without its key.
    fs::copy(new.certificate_path(), old.certificate_path()).unwrap();
    tokio::time::advance(LOOK_EVERY).await;
    assert_eq!(shown_to(&shake(&server, stranger()).await.unwrap().0), first);
    copy(&new, &old);
    assert_eq!(shown_to(&shake(&server, stranger()).await.unwrap().0), first, "not looked at yet");
    tokio::time::advance(LOOK_EVERY).await;
    let second = shown_to(&shake(&server, stranger()).await.unwrap().0);
    assert_ne!(second, first);
    assert_ne!(server.shown().unwrap().fingerprint, before.fingerprint);
}

#[tokio::test]
async fn a_reload_reaches_every_clone_and_ends_what_tickets_were_given_for() {
    let (old, new) = (pair_by("Old", NAME), pair_by("New", NAME));
    let anybody = client(&[&old, &new], rustls::ALL_VERSIONS, None);
    let running = server(&old);
    let clone = running.clone();
    shake(&clone, Arc::clone(&anybody)).await.unwrap();
    running.take_over(&server(&new));
    let (near, far) = shake(&clone, anybody).await.unwrap();
    assert!(!far.tls().unwrap().resumed);
    assert_eq!(facts::fingerprint(&shown_to(&near)), clone.shown().unwrap().fingerprint);
}

#[tokio::test]
async fn a_reload_that_comes_while_changed_files_are_read_is_not_undone() {
    let (old, new) = (pair_by("Old", NAME), pair_by("New", NAME));
    let demanding = || ClientCertificates { ask: AskForCertificate::Require, authorities: None };
    for reloaded in [server(&new).asking(demanding()), server(&old).asking(demanding())] {
        let running = server(&old);
        // A look has begun, the reload comes, and only then the look ends.
        let looked_at = running.state().source;
        running.take_over(&reloaded);
        running.read_anew(&looked_at).unwrap();
        assert_eq!(running.shown(), reloaded.shown());
        let error = failure(&running, client(&[&old, &new], rustls::ALL_VERSIONS, None)).await;
        assert!(matches!(error, TlsError::NoClientCertificate), "{error:?}");
    }
}

#[tokio::test]
async fn a_second_session_is_resumed_in_both_versions() {
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let pair = pair(NAME);
        let (server, client) = (server(&pair), client(&[&pair], versions, None));
        let (_, first) = shake(&server, Arc::clone(&client)).await.unwrap();
        let (near, second) = shake(&server, client).await.unwrap();
        assert_eq!(
            (first.tls().unwrap().resumed, second.tls().unwrap().resumed),
            (false, true),
            "{versions:?}"
        );
        assert_eq!(near.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    }
}

/// An authority, and a client's certificate from it.
struct Clients {
    folder: tempfile::TempDir,
    own: CertificateDer<'static>,
    key: KeyPair,
}

impl Clients {
    fn of(authority: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client.example.org".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(Ia5String::try_from("alice@example.org").unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Printer 7");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let own = params.signed_by(&key, &authority).unwrap().der().clone();
        Self { folder, own, key }
    }

    fn authorities(&self) -> Authorities {
        Authorities::load(&self.folder.path().join("ca.pem")).unwrap()
    }

    fn client(&self, server: &Pair) -> Arc<ClientConfig> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        client(&[server], rustls::ALL_VERSIONS, Some((vec![self.own.clone()], key.into())))
    }
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate_also_when_its_session_is_resumed() {
    let (pair, ours) = (pair(NAME), Clients::of("Ours"));
    let asks = ClientCertificates { ask: AskForCertificate::Request, authorities: Some(ours.authorities()) };
    let server = server(&pair).asking(asks);
    let client = ours.client(&pair);
    for resumed in [false, true] {
        let (_, far) = shake(&server, Arc::clone(&client)).await.unwrap();
        let facts = far.tls().unwrap();
        assert_eq!((facts.resumed, facts.verified), (resumed, true));
        let shown = facts.client_certificate.as_ref().unwrap();
        assert_eq!(shown.names, ["client.example.org", "alice@example.org", "Printer 7"]);
        assert_eq!(
            (shown.fingerprint.as_str(), shown.verified),
            (facts::fingerprint(&ours.own).as_str(), true)
        );
    }
}

#[tokio::test]
async fn where_a_certificate_is_only_asked_for_a_strange_one_and_none_get_in_unverified() {
    let (pair, ours, strange) = (pair(NAME), Clients::of("Ours"), Clients::of("Strange"));
    let asks = |authorities| ClientCertificates { ask: AskForCertificate::Request, authorities };
    for authorities in [Some(ours.authorities()), None] {
        let server = server(&pair).asking(asks(authorities));
        let (_, far) = shake(&server, strange.client(&pair)).await.unwrap();
        let facts = far.tls().unwrap();
        let shown = facts.client_certificate.as_ref().unwrap();
        assert_eq!(shown.fingerprint, facts::fingerprint(&strange.own));
        assert!(!shown.verified && !facts.verified);
        let (_, far) = shake(&server, client(&[&pair], rustls::ALL_VERSIONS, None)).await.unwrap();
        assert_eq!(far.tls().unwrap().client_certificate, None);
    }
    let (_, far) = shake(&server(&pair), ours.client(&pair)).await.unwrap();
    assert_eq!(far.tls().unwrap().client_certificate, None, "nobody asked");
}

#[tokio::test]
async fn where_a_certificate_is_demanded_only_ours_get_in() {
    let (pair, ours, strange) = (pair(NAME), Clients::of("Ours"), Clients::of("Strange"));
    let asks = ClientCertificates { ask: AskForCertificate::Require, authorities: Some(ours.authorities()) };
    let server = server(&pair).asking(asks);
    shake(&server, ours.client(&pair)).await.unwrap();
    let error = failure(&server, strange.client(&pair)).await;
    assert!(matches!(error, TlsError::UnknownIssuer), "{error:?}");
    let error = failure(&server, client(&[&pair], rustls::ALL_VERSIONS, None)).await;
    assert_eq!(error.to_string(), "the client gave no certificate, and this listener demands one");
}

#[tokio::test]
async fn a_client_that_does_not_trust_our_certificate_is_told_apart() {
    let (ours, other) = (pair_by("Ours", NAME), pair_by("Other", NAME));
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let error = failure(&server(&ours), client(&[&other], versions, None)).await;
        assert_eq!(
            error.to_string(),
            "the other side does not accept our certificate: it is from no authority that it trusts"
        );
    }
}

/// What the server says when it reads these octets, and the connection then ends.
async fn heard(octets: &[u8]) -> TlsError {
    let server = server(&pair(NAME));
    let (mut near, far) = streams().await;
    near.write_all(octets).await.unwrap();
    near.shutdown().await.unwrap();
    far.start_tls_server(&server, LIMIT).await.expect_err("this is no handshake")
}

/// A ClientHello with these versions, cipher suites and key exchange groups.
fn hello(version: u16, versions: &[u16], suites: &[u16], groups: &[u16]) -> Vec<u8> {
    let list = |values: &[u16]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    let sized = |body: &[u8]| [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &sized(body)].concat();
    let mut extensions = extension(13, &sized(&list(&[0x0403, 0x0804])));
    if !groups.is_empty() {
        extensions.extend(extension(10, &sized(&list(groups))));
    }
    extensions.extend(extension(23, &[]));
    if !versions.is_empty() {
        let body = list(versions);
        extensions.extend(extension(43, &[&[u8::try_from(body.len()).unwrap()][..], &body].concat()));
        extensions.extend(extension(51, &sized(&[])));
    }
    let body =
        [&version.to_be_bytes()[..], &[7; 32], &[0], &sized(&list(suites)), &[1, 0], &sized(&extensions)]
            .concat();
    let handshake = [&[1, 0][..], &sized(&body)].concat();
    [&[22, 3, 1][..], &sized(&handshake)].concat()
}

#[tokio::test]
async fn each_way_in_which_a_client_fails_has_words_of_its_own() {
    const X25519: u16 = 0x001d;
    let cases: [(&[u8], &str); 7] = [
        (b"EHLO client.example.org\r\n", "the other side spoke in clear where TLS had to begin"),
        (b"", "the client closed the connection before it had begun TLS"),
        (&hello(0x0301, &[], &[0xc02b], &[X25519]), "the two sides have no version of TLS in common"),
        (&hello(0x0303, &[], &[0x002f], &[X25519]), "the two sides have no cipher suite in common"),
        (&hello(0x0303, &[], &[0x002f], &[]), "the two sides have no cipher suite in common"),
        (&hello(0x0303, &[], &[0xc02b], &[0x0100]), "the two sides have no key exchange group in common"),
        (&hello(0x0303, &[], &[0xc02b], &[X25519]), "the connection was closed during the TLS handshake"),
    ];
    for (octets, words) in cases {
        let error = heard(octets).await;
        assert!(error.to_string().starts_with(words), "{words}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_before_and_amid_a_handshake_ends_in_time() {
    let server = server(&pair(NAME));
    let (_near, far) = streams().await;
    let error = far.start_tls_server(&server, LIMIT).await.unwrap_err();
    assert!(matches!(error, TlsError::Silent(LIMIT)), "{error:?}");
    let (mut near, far) = streams().await;
    near.write_all(&hello(0x0303, &[], &[0xc02b], &[0x001d])).await.unwrap();
    let error = far.start_tls_server(&server, LIMIT).await.unwrap_err();
    assert!(matches!(error, TlsError::TimedOut(LIMIT)), "{error:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_when_it_is_opened_and_shared_by_what_asks_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerTls::self_signed(folder.path(), NAME);
    assert_eq!(server.shown(), None);
    let (near, far) = streams().await;
    let error = far.start_tls_server(&server, LIMIT).await.unwrap_err();
    assert!(matches!(error, TlsError::NothingToShow), "{error:?}");
    drop(near);
    server.open().unwrap();
    let shown = server.shown().unwrap();
    assert!(shown.self_signed);
    let other = ServerTls::self_signed(folder.path(), NAME).asking(ClientCertificates::default());
    other.open().unwrap();
    assert_eq!(other.shown().unwrap(), shown);
}
