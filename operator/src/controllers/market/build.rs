//! The ConfigMap of a market book, and its generation. Pure.

use crate::kube::{ChildKind, owner};
use kube::api::{DynamicObject, ObjectMeta, TypeMeta};
use paddock_market_book::{Book, BookError};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Name of the ConfigMap.
pub const NAME: &str = "market-book";
/// Its key.
pub const KEY: &str = "book.json";
/// Annotation with the generation, so that it survives content that nobody can read.
const GENERATION: &str = "paddock.bet/book-generation";

/// A book that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its generation.
    pub generation: u64,
    /// Digest of its rules; empty if they could not be read.
    pub digest: String,
}

/// Digest of what a book enforces, without its generation.
pub fn digest(book: &Book) -> Result<String, BookError> {
    Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(book.digest_input()?.as_bytes())))
}

/// The book that a ConfigMap publishes.
pub fn read(config_map: &DynamicObject) -> Published {
    let noted = config_map.metadata.annotations.as_ref().and_then(|it| it.get(GENERATION));
    let noted = noted.and_then(|text| text.parse().ok()).unwrap_or_default();
    let text = config_map.data.get("data").and_then(|data| data.get(KEY)).and_then(serde_json::Value::as_str);
    let book = text.and_then(|text| Book::from_json(text.as_bytes()).ok());
    match book.and_then(|book| Some((book.generation(), digest(&book).ok()?))) {
        Some((generation, digest)) => Published { generation: generation.max(noted), digest },
        None => Published { generation: noted, digest: String::new() },
    }
}

/// The generation of a book: that of the latest published one if they enforce the same, else the next (never a lower one than
/// any that was seen). `None`: there is none above.
pub fn generation(digest: &str, known: &[Published], at_least: u64) -> Option<u64> {
    let latest = known.iter().max_by_key(|published| published.generation);
    match latest {
        Some(latest) if latest.digest == digest && latest.generation >= at_least && latest.generation > 0 => {
            Some(latest.generation)
        }
        _ => latest.map_or(0, |latest| latest.generation).max(at_least).checked_add(1),
    }
}

/// The ConfigMap. It belongs to the environment, not to a Market: an environment without Markets has an empty book.
pub fn config_map(namespace: &str, tenant: &str, environment: &str, book: &Book) -> Result<DynamicObject, BookError> {
    let purpose = owner::Purpose { tenant: Some(tenant), environment: Some(environment), ..Default::default() };
    let mut labels = owner::labels(&purpose);
    // Not the Tenant's: that is pruned by its own name.
    labels.insert(paddock_crds::labels::NAME.into(), NAME.into());
    let resource = ChildKind::ConfigMap.api_resource();
    Ok(DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace.into()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(GENERATION.into(), book.generation().to_string())])),
            ..ObjectMeta::default()
        },
        data: json!({"data": {KEY: book.to_json()?}}),
    })
}

#[cfg(test)]
mod tests {
    use super::super::validate::{compiled, tests::market};
    use super::*;
    use serde_json::Value;

    fn published(book: &Book) -> Published {
        read(&config_map("acme-prod", "acme", "prod", book).unwrap())
    }

    #[test]
    fn a_published_book_is_read_again() {
        let book = compiled(&[market("a", 1, Value::Null)]).book.with_generation(7);
        assert_eq!(published(&book), Published { generation: 7, digest: digest(&book).unwrap() });
    }

    #[test]
    fn the_generation_moves_with_the_rules_alone_and_never_back() {
        let empty = compiled(&[]).book;
        let one = compiled(&[market("a", 1, Value::Null)]).book;
        let (none, some) = (digest(&empty).unwrap(), digest(&one).unwrap());
        assert_eq!(generation(&none, &[], 0), Some(1), "also an empty book has a generation");
        let known = Published { generation: 4, digest: none.clone() };
        assert_eq!(generation(&none, std::slice::from_ref(&known), 0), Some(4));
        assert_eq!(generation(&some, std::slice::from_ref(&known), 0), Some(5));
        let older = Published { generation: 2, digest: some.clone() };
        assert_eq!(
            generation(&some, &[known.clone(), older], 0),
            Some(5),
            "an older book with these rules does not come back"
        );
        assert_eq!(generation(&none, &[known], 9), Some(10), "a pod that has 9 refuses less");
        let last = Published { generation: u64::MAX, digest: none };
        assert_eq!(generation(&some, &[last], 0), None);
    }

    #[test]
    fn content_that_nobody_can_read_keeps_its_generation() {
        let mut object = config_map("acme-prod", "acme", "prod", &compiled(&[]).book.with_generation(7)).unwrap();
        object.data = json!({"data": {KEY: "{"}});
        assert_eq!(read(&object), Published { generation: 7, digest: String::new() });
    }
}
