//! What stands at the front of a connection, read as a PROXY header.
//!
//! Contract: all octets are what the other side sent.
//! Promises: no panic; the answer is the same at whatever octet it is asked for once there are enough, and "more" before
//! that; nobody is waited for past the longest header; a header takes no octet that is not its own; a line of version 1
//! that is understood says the same when it is written anew.
//! The PROXY protocol, versions 1 and 2.

use posthouse::net::proxy::{Header, MAX_V1, MAX_V2, read};

pub fn run(octets: &[u8]) {
    let whole = read(octets);
    match &whole {
        Ok(None) => assert!(octets.len() < MAX_V2, "{} octets, and still none is whole", octets.len()),
        Ok(Some((header, length))) => {
            assert!(*length <= octets.len() && *length <= MAX_V2, "a header of {length} octets");
            for short in 0..*length {
                assert_eq!(
                    read(&octets[..short]),
                    Ok(None),
                    "a header is whole after {short} octets of {length}"
                );
            }
            assert_eq!(read(&octets[..*length]), whole, "what follows a header changes it");
            if octets.starts_with(b"PROXY ") {
                version_1(&octets[..*length], header);
            }
        }
        Err(_) => {
            let decided = (0..octets.len()).find(|short| read(&octets[..*short]) != Ok(None));
            let short = decided.unwrap_or(octets.len());
            assert!(
                read(&octets[..short]).is_err(),
                "a header of {short} octets is none with more behind it"
            );
        }
    }
}

fn version_1(line: &[u8], header: &Header) {
    assert!(line.len() <= MAX_V1, "a line of {} octets", line.len());
    let text = std::str::from_utf8(line).expect("a line of version 1 is US-ASCII");
    assert_eq!(text.find("\r\n"), Some(text.len() - 2), "{text:?}");
    if let (Some(source), Some(destination)) = (header.source, header.destination) {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let again = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        assert_eq!(read(again.as_bytes()), Ok(Some((*header, again.len()))), "{text:?}");
    }
}
