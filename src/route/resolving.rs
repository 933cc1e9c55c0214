//! The sockets by which name servers are asked: what a server says that neither resolves nor has the domain is no answer.
//!
//! | an answer without records | what it is taken for |
//! |---|---|
//! | says whose zone it is (SOA) | there are no such records |
//! | names other servers (NS) | a referral: no answer (`system_names`) |
//! | says nothing, from a resolver (RA) or from a server of the domain (AA) | there are no such records (RFC 2308 section 2.2, type 3) |
//! | says nothing, from neither | no answer: the domain was delegated to a server that does not have it, or it is no resolver |
//!
//! The last row is decided here, since the resolver above tells nobody of RA and AA: the answer gets the code NOTAUTH, which
//! says just that. The C library asks the next server in that case, too.
//! Invariants: answers with records, those that are cut, and those with a code of their own pass as they are. So does all that comes
//! over TCP, which is asked only after an answer that was cut.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};

/// A resolver that asks over these sockets.
pub(super) type WaryResolver = Resolver<Wary>;

/// Makes them.
#[derive(Clone, Default)]
pub(super) struct Wary(TokioRuntimeProvider);

/// One of them.
pub(super) struct WarySocket(<TokioRuntimeProvider as RuntimeProvider>::Udp);

const HEADER: usize = 12;
const NOTAUTH: u8 = 9;

impl RuntimeProvider for Wary {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = WarySocket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.0.connect_tcp(server, bind, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        let bound = self.0.bind_udp(local, server);
        Box::pin(async move { bound.await.map(WarySocket) })
    }
}

impl DnsUdpSocket for WarySocket {
    type Time = <TokioRuntimeProvider as RuntimeProvider>::Timer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let received = DnsUdpSocket::poll_recv_from(&self.0, cx, buf);
        if let Poll::Ready(Ok((length, _))) = &received {
            weigh(&mut buf[..*length]);
        }
        received
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.0, cx, buf, target)
    }
}

/// Gives an answer that says nothing the code that says so (the header: RFC 1035 section 4.1.1).
fn weigh(message: &mut [u8]) {
    const RESPONSE: u8 = 0x80;
    const AUTHORITATIVE: u8 = 0x04;
    const TRUNCATED: u8 = 0x02;
    const RECURSION_AVAILABLE: u8 = 0x80;
    const CODE: u8 = 0x0f;
    let Some(header) = message.first_chunk_mut::<HEADER>() else { return };
    let (flags, more) = (header[2], header[3]);
    let is_plain = flags & (RESPONSE | AUTHORITATIVE | TRUNCATED) == RESPONSE && more & CODE == 0;
    let says_nothing = header[6..10] == [0; 4];
    if is_plain && more & RECURSION_AVAILABLE == 0 && says_nothing {
        header[3] |= NOTAUTH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_without_anything_from_a_server_that_need_not_know_is_none() {
        let header = |flags: u8, more: u8, answers: u8, authorities: u8| {
            [7, 7, flags, more, 0, 1, 0, answers, 0, authorities, 0, 1]
        };
        let mut lame = header(0x81, 0x00, 0, 0);
        weigh(&mut lame);
        assert_eq!(lame, header(0x81, NOTAUTH, 0, 0));
        for (flags, more, answers, authorities, what) in [
            (0x81, 0x80, 0, 0, "a resolver"),
            (0x85, 0x00, 0, 0, "a server of the domain"),
            (0x81, 0x00, 1, 0, "records"),
            (0x81, 0x00, 0, 1, "a zone, or a referral"),
            (0x81, 0x03, 0, 0, "NXDOMAIN"),
            (0x81, 0x02, 0, 0, "SERVFAIL"),
            (0x83, 0x00, 0, 0, "cut"),
            (0x01, 0x00, 0, 0, "a question"),
        ] {
            let (mut message, before) =
                (header(flags, more, answers, authorities), header(flags, more, answers, authorities));
            weigh(&mut message);
            assert_eq!(message, before, "{what}");
        }
        weigh(&mut [0x81; 11]);
    }
}
