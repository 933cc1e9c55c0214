//! The keys at which every chain of DNSSEC signatures must end.
//!
//! Contract: those of the root zone come with the program ([`TrustAnchor::default`]); others are read from a file of
//! DNSKEY records as a zone writes them, such as `/usr/share/dns/root.key`, and stand in their place.
//! Not here: the validation (`validating_names`); new keys of the root (RFC 5011), which come with a new version, or in
//! the file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::serialize::txt::ParseError;

/// Keys that are trusted.
#[derive(Clone, Default)]
pub struct TrustAnchor {
    /// The records, where they are not the built-in ones.
    records: Option<Arc<str>>,
    pub(super) keys: Arc<TrustAnchors>,
}

/// Why there is no key to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustAnchorError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds something other than DNSKEY records")]
    Parse { path: PathBuf, source: ParseError },
    #[error("{path} holds no DNSKEY record of the root zone")]
    Empty { path: PathBuf },
}

impl TrustAnchor {
    /// The keys in a file of DNSKEY records; one of the root zone at least.
    pub fn load(path: &Path) -> Result<Self, TrustAnchorError> {
        let of = || path.to_owned();
        let records =
            std::fs::read_to_string(path).map_err(|source| TrustAnchorError::Read { path: of(), source })?;
        let keys = TrustAnchors::from_str(&records)
            .map_err(|source| TrustAnchorError::Parse { path: of(), source })?;
        if keys.is_empty() {
            return Err(TrustAnchorError::Empty { path: of() });
        }
        Ok(Self { records: Some(records.into()), keys: Arc::new(keys) })
    }
}

impl fmt::Debug for TrustAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustAnchor").field(&self.records.as_deref().unwrap_or("built-in")).finish()
    }
}

impl PartialEq for TrustAnchor {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

impl Eq for TrustAnchor {}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = ". 3600 IN DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==\n";

    #[test]
    fn a_file_of_keys_takes_the_place_of_the_built_in_ones_and_an_empty_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            TrustAnchor::load(&path)
        };
        let own = load(KEY).unwrap();
        assert_eq!((own.keys.len(), TrustAnchor::default().keys.len()), (1, 2));
        assert_ne!(own, TrustAnchor::default());
        assert!(matches!(load(""), Err(TrustAnchorError::Empty { .. })));
        assert!(matches!(load(&KEY.replace(". 3600", "example. 3600")), Err(TrustAnchorError::Empty { .. })));
        assert!(matches!(load("<html>"), Err(TrustAnchorError::Parse { .. })));
        let gone = TrustAnchor::load(&folder.path().join("gone"));
        assert!(matches!(gone, Err(TrustAnchorError::Read { .. })));
    }
}
