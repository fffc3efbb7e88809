//! Bodies of fuzz targets, also run as property tests, and access to private formats for benches.

pub use crate::kv::embedded::fuzzing::{decode_record, encode_record, fuzz_record};

use crate::tables::keys;
use triggers_protocol::PartitionId;

/// Reads arbitrary bytes as keys. An accepted key must be equal to the one built from its parts.
///
/// # Panics
/// If it is not.
pub fn fuzz_keys(data: &[u8]) {
    if let Some(partition) = keys::parse_route(data) {
        assert_eq!(keys::route(partition), data);
    }
    if let Some(incarnation) = keys::parse_node(data) {
        assert_eq!(keys::node(incarnation), data);
    }
    if let Some((second, tenant)) = keys::parse_wake(data) {
        // The prefix with the partition is not read back.
        assert_eq!(keys::wake(PartitionId(0), second, &tenant)[4..], data[4..]);
    }
    if let Some(id) = keys::id_of_key(data) {
        assert!(data.ends_with(&id.to_bytes()));
    }
    if let Some(number) = keys::number_of_audit(data) {
        assert!(data.ends_with(&number.to_be_bytes()));
    }
    keys::tenant_of_key(data);
    keys::time_of_due_key(data);
    keys::time_of_audit(data);
}

#[cfg(test)]
mod tests {
    use super::fuzz_keys;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_read_without_a_panic(
            prefix in prop::sample::select(vec![&b""[..], b"map/", b"n/", b"p\0\0a"]),
            rest in prop::collection::vec(any::<u8>(), 0..64),
            text in "[a-z0-9_-]{0,24}",
        ) {
            fuzz_keys(&[prefix, &rest].concat());
            fuzz_keys(&[prefix, text.as_bytes()].concat());
            fuzz_keys(&[prefix, &[0; 8], text.as_bytes()].concat());
        }
    }
}
