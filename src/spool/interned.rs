//! What many messages have in common, each kept once while a start takes them in: domains of recipients, and sources.
//!
//! Contract: equal ones have the same number; a number is good for the [`Interned`] that gave it, and for no other.
//! Memory: a message costs four octets for each, whatever they say; a relay has few sources, and far fewer domains than
//! messages.
//! Not here: whose they are (`note`, `sketch`), how a hint numbers its own (`hint`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::mail::Source;

/// The number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DomainId(u32);

/// The number of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceId(u32);

/// Domains and sources by number.
#[derive(Default)]
pub(super) struct Interned {
    domains: Vec<Arc<str>>,
    domain_ids: HashMap<Arc<str>, DomainId>,
    sources: Vec<Arc<Source<'static>>>,
    source_ids: HashMap<Arc<Source<'static>>, SourceId>,
}

impl Interned {
    /// The number of a domain, whatever the case of its letters.
    pub fn domain_id(&mut self, domain: &str) -> DomainId {
        let domain = domain.to_ascii_lowercase();
        if let Some(id) = self.domain_ids.get(domain.as_str()) {
            return *id;
        }
        let (id, text) = (DomainId(self.domains.len() as u32), Arc::<str>::from(domain));
        self.domains.push(Arc::clone(&text));
        self.domain_ids.insert(text, id);
        id
    }

    pub fn domain(&self, id: DomainId) -> &Arc<str> {
        &self.domains[id.0 as usize]
    }

    pub fn source_id(&mut self, source: Source<'_>) -> SourceId {
        if let Some(id) = self.known_source(&source) {
            return id;
        }
        let (id, source) = (SourceId(self.sources.len() as u32), Arc::new(source.into_owned()));
        self.sources.push(Arc::clone(&source));
        self.source_ids.insert(source, id);
        id
    }

    fn known_source<'a>(&self, source: &Source<'a>) -> Option<SourceId> {
        // Whoever lives longer may be asked for one that lives less long.
        let ids: &HashMap<Arc<Source<'a>>, SourceId> = &self.source_ids;
        ids.get(source).copied()
    }

    pub fn source(&self, id: SourceId) -> &Arc<Source<'static>> {
        &self.sources[id.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ReversePath;

    #[test]
    fn equal_ones_have_one_number_and_are_kept_once() {
        let mut interned = Interned::default();
        let first = interned.domain_id("Example.org");
        assert_eq!(interned.domain_id("example.ORG"), first);
        assert_ne!(interned.domain_id("example.com"), first);
        assert_eq!(&**interned.domain(first), "example.org");
        let path = ReversePath::from("a@Example.org".parse::<crate::mail::Address>().unwrap());
        let mut of = |user| interned.source_id(Source::new(&path, user, Some("submission")));
        let (app, nobody) = (of(Some("app")), of(None));
        assert_eq!((of(Some("app")), of(None)), (app, nobody));
        assert_ne!(app, nobody);
        assert_eq!(**interned.source(app), Source::new(&path, Some("app"), Some("submission")));
        assert_eq!((interned.sources.len(), interned.domains.len()), (2, 2));
    }
}
