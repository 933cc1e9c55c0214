//! DNS by hickory-resolver.
//!
//! Names are asked as fully qualified, so that no search domain of this machine applies to other people's domains.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record};

use super::names::{Answer, NameError, Names};

/// A server that gives no answer within this time is asked once more, then the next one.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;

/// The system's DNS, or that of the servers named.
pub struct SystemNames {
    resolver: TokioResolver,
}

/// Why DNS cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    #[error("cannot read the system's DNS settings (/etc/resolv.conf); mend them, or name servers in [dns]")]
    System(#[source] NetError),
    #[error("the DNS resolver does not start")]
    Resolver(#[source] NetError),
}

impl SystemNames {
    /// Asks `servers`, over UDP and then TCP; without any, those of the system.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NamesError> {
        Self::with_timeout(servers, TIMEOUT)
    }

    fn with_timeout(servers: &[SocketAddr], timeout: Duration) -> Result<Self, NamesError> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(NamesError::System)?
        } else {
            let servers = servers.iter().map(|address| name_server(*address)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = timeout;
        options.attempts = ATTEMPTS;
        Ok(Self { resolver: builder.build().map_err(NamesError::Resolver)? })
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn qualified(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

fn name_error(error: &NetError) -> NameError {
    if error.is_nx_domain() {
        NameError::NoSuchDomain
    } else if error.is_no_records_found() {
        NameError::NoRecords
    } else {
        NameError::Unavailable(error.to_string())
    }
}

impl Names for SystemNames {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Vec<(u16, String)>> {
        Box::pin(async move {
            let found =
                self.resolver.mx_lookup(qualified(domain)).await.map_err(|error| name_error(&error))?;
            let records = found.answers().iter().filter_map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, host(&mx.exchange.to_ascii()))),
                _ => None,
            });
            Ok(records.collect())
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<IpAddr>> {
        Box::pin(async move {
            // Asked apart: of both together, a failure of one and nothing of the other would look like no address.
            let name = qualified(host);
            let (v4, v6) = tokio::join!(self.resolver.ipv4_lookup(&*name), self.resolver.ipv6_lookup(&*name));
            let mut addresses = Vec::new();
            let mut worst = None;
            for found in [v4, v6] {
                match found {
                    Ok(found) => addresses.extend(found.answers().iter().filter_map(address)),
                    Err(error) => worst = worse(worst, name_error(&error)),
                }
            }
            match worst {
                Some(error) if addresses.is_empty() => Err(error),
                _ if addresses.is_empty() => Err(NameError::NoRecords),
                _ => Ok(addresses),
            }
        })
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// No answer is worse than the answer that there is nothing: it may be otherwise in a minute.
fn worse(one: Option<NameError>, other: NameError) -> Option<NameError> {
    match (one, other) {
        (Some(error @ NameError::Unavailable(_)), _) | (_, error @ NameError::Unavailable(_)) => Some(error),
        (Some(NameError::NoRecords), _) | (_, NameError::NoRecords) => Some(NameError::NoRecords),
        _ => Some(NameError::NoSuchDomain),
    }
}

/// Without the dot at its end, but for the root, which is the null MX.
fn host(name: &str) -> String {
    match name.strip_suffix('.') {
        Some("") | None => name.to_owned(),
        Some(host) => host.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, MX};
    use hickory_resolver::proto::rr::{Name, RecordType};
    use tokio::net::UdpSocket;

    use super::*;

    /// Answers by the first label of the name asked: what a zone of the real world may say.
    async fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut octets = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut octets).await {
                let asked = Message::from_vec(&octets[..length]).unwrap();
                if let Some(answer) = answer(&asked) {
                    socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
                }
            }
        });
        address
    }

    fn answer(asked: &Message) -> Option<Message> {
        let query = asked.queries.first()?.clone();
        let name = query.name().clone();
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match (name.to_ascii().split('.').next()?, query.query_type()) {
            ("silent", _) => return None,
            ("broken", _) => answer.metadata.response_code = ResponseCode::ServFail,
            ("absent", _) => answer.metadata.response_code = ResponseCode::NXDomain,
            ("two", RecordType::MX) => {
                for (preference, host) in [(20, "mx-b.example."), (10, "MX-A.example.")] {
                    let mx = MX::new(preference, Name::from_ascii(host).unwrap());
                    answer.add_answer(Record::from_rdata(name.clone(), 60, RData::MX(mx)));
                }
            }
            ("null", RecordType::MX) => {
                let mx = MX::new(0, Name::root());
                answer.add_answer(Record::from_rdata(name.clone(), 60, RData::MX(mx)));
            }
            ("mx-a", RecordType::A) => {
                answer.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, 1))));
            }
            // One half fails, the other has nothing.
            ("half", RecordType::A) => answer.metadata.response_code = ResponseCode::ServFail,
            _ => {}
        }
        Some(answer)
    }

    #[tokio::test]
    async fn tells_apart_what_does_not_exist_from_what_gives_no_answer() {
        let names = SystemNames::with_timeout(&[server().await], Duration::from_millis(200)).unwrap();
        let mut two = names.mx("two.example").await.unwrap();
        two.sort();
        assert_eq!(two, [(10, "mx-a.example".to_owned()), (20, "mx-b.example".to_owned())]);
        assert_eq!(names.mx("null.example").await.unwrap(), [(0, ".".to_owned())]);
        assert_eq!(names.addresses("mx-a.example").await.unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(names.mx("absent.example").await, Err(NameError::NoSuchDomain));
        assert_eq!(names.addresses("absent.example").await, Err(NameError::NoSuchDomain));
        assert_eq!(names.mx("empty.example").await, Err(NameError::NoRecords));
        assert!(matches!(names.mx("broken.example").await, Err(NameError::Unavailable(_))));
        assert!(matches!(names.addresses("half.example").await, Err(NameError::Unavailable(_))));
        assert!(matches!(names.mx("silent.example").await, Err(NameError::Unavailable(_))));
    }
}
