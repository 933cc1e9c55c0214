//! `[relaying]`: who may relay, from whom and to whom.
//!
//! Contract: networks in CIDR; a bare address is itself alone. Everybody being allowed in is a warning, also when
//! that is only so because a container's gateway stands for everybody. A users file can be read and is in order.
//! Not here: the decision about a client, and what stands in the users file (`accept`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;

use super::spool::under;
use crate::accept::{CertificatePattern, UsersError, UsersFile};
use crate::config::quantity::Mismatch;
use crate::config::section::{At, Section};
use crate::config::tree::Value;
use crate::mail::{AddressPattern, SenderPattern};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relaying {
    /// Whose clients may relay without AUTH.
    pub networks: Vec<IpNet>,
    /// Client certificates whose holders may relay from anywhere.
    pub certificates: Vec<CertificatePattern>,
    /// The reverse-paths of who is not held to addresses of his own; `None`: any.
    pub senders: Option<Vec<SenderPattern>>,
    /// The only recipients; `None`: any.
    pub recipients: Option<Vec<AddressPattern>>,
    pub refuse_recipients: Vec<AddressPattern>,
    /// Who may relay with AUTH, from wherever.
    pub users: Option<UsersFile>,
    /// Whether the trace field names the user.
    pub show_user: bool,
}

impl Default for Relaying {
    fn default() -> Self {
        let net = |text: &str| text.parse().expect("a network");
        Self {
            networks: vec![net("127.0.0.0/8"), net("::1/128")],
            certificates: Vec::new(),
            senders: None,
            recipients: None,
            refuse_recipients: Vec::new(),
            users: None,
            show_user: false,
        }
    }
}

impl Relaying {
    pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Self {
        let networks = section.list("networks", network);
        if let Some(networks) = &networks {
            warn_of_everybody(&section, "relaying.networks", networks);
        }
        let default = Self::default();
        let users = section.text("users");
        let users = users.and_then(|at| users_file(&section, under(folder, &at.value, at.place), &at));
        let show_user = section.flag("show_user").unwrap_or(default.show_user);
        let relaying = Self {
            networks: networks.unwrap_or(default.networks),
            certificates: section.list("certificates", pattern).unwrap_or(default.certificates),
            senders: section.list("senders", pattern),
            recipients: section.list("recipients", pattern),
            refuse_recipients: section
                .list("refuse_recipients", pattern)
                .unwrap_or(default.refuse_recipients),
            users,
            show_user,
        };
        for (key, all) in [("senders", "from anybody"), ("recipients", "to anybody")] {
            if section.is_empty_list(key) {
                let problem = format!("relaying.{key} is empty: no mail at all would be accepted");
                let hint =
                    format!("take it out to accept mail {all}, or name addresses, such as \"*@example.org\"");
                section.report.fault(section.place_of(key), problem, None, Some(hint));
            }
        }
        section.done();
        relaying
    }

    /// Only where the users file is, whatever stands in it.
    pub(in crate::config) fn users_path(mut section: Section<'_>, folder: &Path) -> Option<PathBuf> {
        section.text("users").map(|at| under(folder, &at.value, at.place))
    }
}

fn users_file(section: &Section<'_>, path: PathBuf, at: &At<'_, String>) -> Option<UsersFile> {
    match UsersFile::open(&path) {
        Ok(users) => {
            if users.is_open_to_others() {
                let problem = format!("every user of this machine may read {}", path.display());
                let hint =
                    "chmod o= that file: its hashes can be guessed at, and its keys stand for this relay";
                section.report.warn(at.place, problem, hint);
            }
            Some(users)
        }
        Err(error) => {
            let (problem, hint) = match &error {
                UsersError::Read { source, .. } => (
                    format!("the users file {} cannot be read: {source}", path.display()),
                    "make it by `posthouse user add NAME --users FILE`, or name a file that this user may read",
                ),
                _ => {
                    (format!("the users file is not in order: {error}"), "mend it there; nothing was changed")
                }
            };
            section.report.fault(at.place, problem, None, Some(hint.into()));
            None
        }
    }
}

/// What has its own grammar, which says in its error what is expected.
fn pattern<T>(value: &Value) -> Result<T, Mismatch>
where
    T: FromStr<Err: fmt::Display>,
{
    let text = value.text().ok_or_else(|| Mismatch::new("text in quotes"))?;
    text.parse().map_err(|error: T::Err| {
        let expected = error.to_string();
        let mismatch = Mismatch::new(expected.strip_prefix("expected ").unwrap_or(&expected));
        match format!("*@{text}").parse::<AddressPattern>() {
            Ok(pattern) if !text.contains(['@', ':']) => mismatch.hint(format!("write \"{pattern}\"")),
            _ => mismatch,
        }
    })
}

/// `name` is the key's in the warning.
pub(super) fn warn_of_everybody(section: &Section<'_>, name: &str, networks: &[IpNet]) {
    let place = section.place_of("networks");
    if let Some(all) = networks.iter().find(|network| network.prefix_len() == 0) {
        let hint = "name the networks of your own clients, such as \"192.0.2.0/24\"";
        section.report.warn(place, format!("{name} has {all}: everybody may relay"), hint);
        return;
    }
    let in_container =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|file| std::path::Path::new(file).exists());
    let table = if in_container {
        std::fs::read_to_string("/proc/net/route").unwrap_or_default()
    } else {
        String::new()
    };
    let gateway = default_gateway(&table);
    let covers = |network: &&IpNet| gateway.is_some_and(|gateway| network.contains(&IpAddr::V4(gateway)));
    if let (Some(network), Some(gateway)) = (networks.iter().find(covers), gateway) {
        let problem = format!(
            "{name} has {network}, with the container's gateway {gateway} in it: \
             clients from outside may all seem to come from there"
        );
        section.report.warn(place, problem, "publish the port on 127.0.0.1 only, or name narrower networks");
    }
}

/// From `/proc/net/route`: the gateway of the line whose destination is 0, in hexadecimal, lowest octet first.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let gateway = u32::from_str_radix(columns.get(2)?, 16).ok()?;
        (columns.get(1) == Some(&"00000000") && gateway != 0).then(|| Ipv4Addr::from(gateway.to_le_bytes()))
    })
}

pub(super) fn network(value: &Value) -> Result<IpNet, Mismatch> {
    let mismatch = || Mismatch::new("a network, such as \"192.0.2.0/24\" or \"2001:db8::/32\"");
    let text = value.text().ok_or_else(mismatch)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| mismatch())?;
    if network.trunc() == network {
        Ok(network)
    } else {
        let whole = network.trunc();
        let alone = network.addr();
        Err(mismatch().hint(format!("write \"{whole}\" for the network, or \"{alone}\" for the one address")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_gateway_of_the_default_route() {
        let table = "Iface\tDestination\tGateway\tFlags\neth0\t000011AC\t00000000\t0001\neth0\t00000000\t010011AC\t0003\n";
        assert_eq!(default_gateway(table), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(default_gateway("Iface\tDestination\tGateway\n"), None);
        assert_eq!(default_gateway(""), None);
    }
}
