//! One method of [`Client`] for each operation of the API, one file for each group of resources.
//!
//! `OPERATIONS-1`: each operation of `docs/openapi.json` has a method, named after its
//! `operationId`.

mod administration;
mod events;
mod inbox;
mod subscriptions;

pub use administration::{AuditQuery, PageQuery};
pub use inbox::InboxQuery;
pub use subscriptions::AttemptsQuery;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    const DOCUMENT: &str = include_str!("../../../docs/openapi.json");
    const SOURCES: [&str; 4] = [
        include_str!("operations/administration.rs"),
        include_str!("operations/events.rs"),
        include_str!("operations/inbox.rs"),
        include_str!("operations/subscriptions.rs"),
    ];

    fn snake_case(name: &str) -> String {
        let letters = name.chars().map(|letter| match letter {
            'A'..='Z' => format!("_{}", letter.to_ascii_lowercase()),
            _ => letter.to_string(),
        });
        letters.collect()
    }

    #[test]
    fn each_operation_has_a_method() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        let names = operations.filter_map(|operation| operation["operationId"].as_str());
        let expected: BTreeSet<String> = names.map(snake_case).collect();
        assert!(expected.len() > 30, "{expected:?}");
        let missing: Vec<_> = expected
            .iter()
            .filter(|name| !SOURCES.iter().any(|text| text.contains(&format!("fn {name}("))))
            .collect();
        assert!(missing.is_empty(), "OPERATIONS-1: {missing:?}");
    }
}
