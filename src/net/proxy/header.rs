//! The header's two forms, as pure functions over octets.
//!
//! Contract: [`read`] gives the header and its length, `None` while more octets are needed, or what is wrong. It never
//! asks for more than the longest header, and its answer does not depend on how the octets were cut.
//! Not here: waiting for the octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of the longest line of version 1, CRLF included.
pub const MAX_V1: usize = 107;
/// Octets of the longest header of version 2 that is taken, with all that a proxy adds to it.
pub const MAX_V2: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8; 6] = b"PROXY ";
/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// The type of the extra that holds a checksum over the header.
const CHECKSUM: u8 = 0x03;

/// Who is behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client. `None`: the connection is the proxy's own (a health check), or it does not know.
    pub source: Option<SocketAddr>,
    /// What the client connected to.
    pub destination: Option<SocketAddr>,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the connection does not begin with a PROXY header")]
    NoHeader,
    #[error("the PROXY header is longer than allowed")]
    TooLong,
    #[error("the PROXY header is malformed")]
    Malformed,
    #[error("the PROXY header is of an unknown version or command")]
    Unknown,
    #[error("the PROXY header is not for a TCP connection")]
    NotTcp,
    #[error("the PROXY header does not fit its checksum")]
    Checksum,
}

const UNSAID: Header = Header { source: None, destination: None };

/// The header at the front of `octets`, and how many of them it takes.
pub fn read(octets: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    if begins(octets, SIGNATURE) {
        read_v2(octets)
    } else if begins(octets, WORD) {
        read_v1(octets)
    } else {
        Err(Fault::NoHeader)
    }
}

/// Whether `octets` begin with `word`, as far as they go.
fn begins(octets: &[u8], word: &[u8]) -> bool {
    octets.iter().zip(word).all(|(one, other)| one == other)
}

fn read_v1(octets: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let window = &octets[..octets.len().min(MAX_V1)];
    let Some(end) = window.iter().position(|octet| !matches!(octet, b' '..=b'~')) else {
        return if window.len() == MAX_V1 { Err(Fault::TooLong) } else { Ok(None) };
    };
    match &window[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < MAX_V1 => return Ok(None),
        [b'\r'] => return Err(Fault::TooLong),
        _ => return Err(Fault::Malformed),
    }
    let line = std::str::from_utf8(&window[WORD.len()..end]).map_err(|_| Fault::Malformed)?;
    Ok(Some((line_v1(line)?, end + 2)))
}

fn line_v1(line: &str) -> Result<Header, Fault> {
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(UNSAID);
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Fault::Malformed);
    };
    let address = |text: &str| -> Result<IpAddr, Fault> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().map(IpAddr::V4),
            Some("TCP6") => text.parse::<Ipv6Addr>().map(IpAddr::V6),
            _ => return Err(Fault::Malformed),
        }
        .map_err(|_| Fault::Malformed)
    };
    let source = SocketAddr::new(address(source)?, port(from)?);
    let destination = SocketAddr::new(address(destination)?, port(to)?);
    Ok(Header { source: Some(source), destination: Some(destination) })
}

/// Plain digits: no sign, no zero in front.
fn port(text: &str) -> Result<u16, Fault> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Fault::Malformed)
}

fn read_v2(octets: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    // Each octet is judged as soon as it is there, so that nobody is waited for in vain.
    let is_local = match octets.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Fault::Unknown),
    };
    let Some(fixed) = octets.get(..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_V2 {
        return Err(Fault::TooLong);
    }
    let Some(whole) = octets.get(..length) else { return Ok(None) };
    let header = match fixed[13] {
        _ if is_local => return Ok(Some((UNSAID, length))),
        0x00 | 0x10 | 0x20 | 0x30 => (UNSAID, FIXED),
        0x11 => {
            let (from, to, ports) = addresses::<4>(whole).ok_or(Fault::Malformed)?;
            (both(from.into(), to.into(), ports), FIXED + 12)
        }
        0x21 => {
            let (from, to, ports) = addresses::<16>(whole).ok_or(Fault::Malformed)?;
            (both(from.into(), to.into(), ports), FIXED + 36)
        }
        // A proxy in front of a local socket: no network address at all.
        0x31 if length >= FIXED + 216 => (UNSAID, FIXED + 216),
        0x31 => return Err(Fault::Malformed),
        0x12 | 0x22 | 0x32 => return Err(Fault::NotTcp),
        _ => return Err(Fault::Unknown),
    };
    let (header, extras) = header;
    // Without a known family nobody knows where the extras begin.
    if extras > FIXED {
        check_extras(whole, extras)?;
    }
    Ok(Some((header, length)))
}

/// Two addresses of N octets, and their ports.
fn addresses<const N: usize>(whole: &[u8]) -> Option<([u8; N], [u8; N], [u16; 2])> {
    let body = whole.get(FIXED..FIXED + 2 * N + 4)?;
    let (from, rest) = body.split_first_chunk::<N>()?;
    let (to, ports) = rest.split_first_chunk::<N>()?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((*from, *to, [port(0), port(2)]))
}

fn both(from: IpAddr, to: IpAddr, ports: [u16; 2]) -> Header {
    Header { source: Some(SocketAddr::new(from, ports[0])), destination: Some(SocketAddr::new(to, ports[1])) }
}

/// What a proxy adds behind the addresses: each a type, a length and octets. Only a checksum concerns us.
fn check_extras(whole: &[u8], begin: usize) -> Result<(), Fault> {
    let mut at = begin;
    while at < whole.len() {
        let [kind, high, low] = *whole.get(at..at + 3).ok_or(Fault::Malformed)? else {
            return Err(Fault::Malformed);
        };
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        let octets = whole.get(value.clone()).ok_or(Fault::Malformed)?;
        if kind == CHECKSUM {
            let said: [u8; 4] = octets.try_into().map_err(|_| Fault::Malformed)?;
            // Over the whole header, with zeros in its own place.
            let sum = crc32c::crc32c(&whole[..value.start]);
            let sum = crc32c::crc32c_append(sum, &[0; 4]);
            if crc32c::crc32c_append(sum, &whole[value.end..]) != u32::from_be_bytes(said) {
                return Err(Fault::Checksum);
            }
        }
        at = value.end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const V4: &[u8] = &[198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 25];

    fn header(source: &str, destination: &str) -> Header {
        Header { source: Some(source.parse().unwrap()), destination: Some(destination.parse().unwrap()) }
    }

    fn samples() -> Vec<(Vec<u8>, Header)> {
        let v4 = header("198.51.100.7:4711", "192.0.2.1:25");
        let v6 = header("[2001:db8::7]:4711", "[2001:db8::1]:25");
        let mut body6 = Vec::new();
        body6.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        body6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        body6.extend([0x12, 0x67, 0, 25]);
        let extras = [V4, &[0x04, 0, 3, 1, 2, 3], &[0x02, 0, 0]].concat();
        vec![
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n".to_vec(), v4),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n".to_vec(), v6),
            (b"PROXY UNKNOWN\r\n".to_vec(), UNSAID),
            (b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n".to_vec(), UNSAID),
            (v2(0x21, 0x11, V4), v4),
            (v2(0x21, 0x21, &body6), v6),
            (v2(0x21, 0x11, &extras), v4),
            (v2(0x20, 0x00, &[]), UNSAID),
            (v2(0x20, 0x11, V4), UNSAID),
            (v2(0x21, 0x00, &[1, 2, 3]), UNSAID),
            (v2(0x21, 0x31, &[0; 216]), UNSAID),
        ]
    }

    #[test]
    fn a_header_is_read_alike_wherever_it_is_cut_and_whatever_follows() {
        for (octets, expected) in samples() {
            for end in 0..octets.len() {
                assert_eq!(read(&octets[..end]), Ok(None), "{:?}", &octets[..end]);
            }
            for behind in [&b""[..], b"EHLO a\r\n", b"\r\n", &[0x16, 3, 1]] {
                let all = [&octets, behind].concat();
                assert_eq!(read(&all), Ok(Some((expected, octets.len()))), "{all:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_or_a_bad_one_is_refused() {
        let long = |length: usize| [&b"PROXY UNKNOWN "[..], &vec![b'x'; length - 16], b"\r\n"].concat();
        assert_eq!(read(&long(MAX_V1)), Ok(Some((UNSAID, MAX_V1))));
        let cases: Vec<(Vec<u8>, Fault)> = vec![
            (b"E".to_vec(), Fault::NoHeader),
            (b"proxy TCP4".to_vec(), Fault::NoHeader),
            (b"\r\nQUIT".to_vec(), Fault::NoHeader),
            (long(MAX_V1 + 1), Fault::TooLong),
            ([&b"PROXY UNKNOWN"[..], &[b' '; 100]].concat(), Fault::TooLong),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\rX".to_vec(), Fault::Malformed),
            (b"PROXY TCP4  198.51.100.7 192.0.2.1 4711 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25 \r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 +4711 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 04711 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 65536 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 2001:db8::7 192.0.2.1 4711 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.07 192.0.2.1 4711 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY UDP4 198.51.100.7 192.0.2.1 4711 25\r\n".to_vec(), Fault::Malformed),
            (b"PROXY TCP4 198.51.100.7\0".to_vec(), Fault::Malformed),
            (v2(0x11, 0x11, V4), Fault::Unknown),
            (v2(0x22, 0x11, V4), Fault::Unknown),
            (v2(0x21, 0x41, V4), Fault::Unknown),
            (v2(0x21, 0x12, V4), Fault::NotTcp),
            (v2(0x21, 0x11, &V4[..11]), Fault::Malformed),
            (v2(0x21, 0x21, V4), Fault::Malformed),
            (v2(0x21, 0x31, V4), Fault::Malformed),
            (v2(0x21, 0x11, &[V4, &[4, 0]].concat()), Fault::Malformed),
            (v2(0x21, 0x11, &[V4, &[4, 0, 2, 1]].concat()), Fault::Malformed),
            (v2(0x21, 0x11, &vec![0; MAX_V2]), Fault::TooLong),
        ];
        for (octets, fault) in cases {
            assert_eq!(read(&octets), Err(fault), "{:?}", String::from_utf8_lossy(&octets));
        }
    }

    #[test]
    fn a_checksum_is_kept() {
        let mut octets = v2(0x21, 0x11, &[V4, &[CHECKSUM, 0, 4, 0, 0, 0, 0], &[4, 0, 1, 7]].concat());
        let sum = crc32c::crc32c(&octets).to_be_bytes();
        octets[31..35].copy_from_slice(&sum);
        assert!(matches!(read(&octets), Ok(Some((_, length))) if length == octets.len()));
        octets[17] ^= 1;
        assert_eq!(read(&octets), Err(Fault::Checksum));
    }

    proptest! {
        /// More octets never change an answer that was given, and a header is never longer than what there is.
        #[test]
        fn an_answer_stands_whatever_comes_behind(
            octets in prop::collection::vec(any::<u8>(), 0..300),
            start in 0_usize..3,
        ) {
            let octets = match start {
                0 => octets,
                1 => [&WORD[..], &octets].concat(),
                _ => [&SIGNATURE[..], &[0x21, 0x11], &octets].concat(),
            };
            let mut answer = Ok(None);
            for end in 0..=octets.len() {
                let now = read(&octets[..end]);
                if answer != Ok(None) {
                    prop_assert_eq!(now, answer);
                }
                if let Ok(Some((_, length))) = now {
                    prop_assert!(length <= end);
                }
                answer = now;
            }
        }
    }
}
