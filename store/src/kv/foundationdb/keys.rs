//! Maps the keys of one store into the cluster's key space.
//!
//! ```text
//! prefix 00                  read by health checks; never written
//! prefix 00 process number   the fence of one commit: in conflict ranges only, never written
//! prefix 01 key              a pair of the store
//! ```
//! Invariants:
//! - `FOUNDATION-KEYS-1`: pairs keep the order of their keys.
//! - `FOUNDATION-KEYS-2`: stores share no key if neither prefix begins with the other.
//! - `FOUNDATION-KEYS-3`: no key begins with `0xff`, which the cluster reserves.

use super::error::FoundationOpenError;
use crate::kv::KeyRange;
use bytes::Bytes;

/// Maximum bytes of a prefix, which is part of every key and conflict range.
const PREFIX_BYTES_MAX: usize = 64;
const NO_PAIRS: u8 = 0;
const PAIRS: u8 = 1;

/// The keys of one store.
#[derive(Debug)]
pub(super) struct Keyspace {
    prefix: Vec<u8>,
}

impl Keyspace {
    /// Makes a key space.
    ///
    /// # Errors
    /// `Options` if the prefix is too long or begins with `0xff`.
    pub(super) fn new(prefix: &[u8]) -> Result<Self, FoundationOpenError> {
        if prefix.len() > PREFIX_BYTES_MAX || prefix.first() == Some(&0xff) {
            let reason = format!(
                "prefix: must have at most {PREFIX_BYTES_MAX} bytes and not begin with 0xff"
            );
            return Err(FoundationOpenError::Options(reason));
        }
        Ok(Self { prefix: prefix.to_vec() })
    }

    /// The cluster's key of a pair.
    pub(super) fn pair(&self, key: &[u8]) -> Vec<u8> {
        self.join(PAIRS, key)
    }

    /// Begin and end of a range of pairs.
    pub(super) fn range(&self, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
        (self.pair(&range.begin), self.pair(&range.end))
    }

    /// The store's key of a pair found in a [`Keyspace::range`].
    pub(super) fn strip(&self, found: &[u8]) -> Bytes {
        let bytes = self.prefix.len() + 1;
        Bytes::copy_from_slice(
            found.get(bytes..).expect("what is between two keys with a prefix has that prefix too"),
        )
    }

    /// The key that health checks read.
    pub(super) fn probe(&self) -> Vec<u8> {
        self.join(NO_PAIRS, &[])
    }

    /// The fence key of one commit. Two processes may use the same one: their fences conflict.
    pub(super) fn fence(&self, process: u32, number: u64) -> Vec<u8> {
        self.join(NO_PAIRS, &[&process.to_be_bytes()[..], &number.to_be_bytes()].concat())
    }

    fn join(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        [&self.prefix[..], &[kind], rest].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..5)
    }

    fn prefix() -> impl Strategy<Value = Vec<u8>> {
        key().prop_filter("the prefix is reserved", |prefix| prefix.first() != Some(&0xff))
    }

    proptest! {
        #[test]
        fn a_range_has_the_pairs_of_its_keys(
            prefix in prefix(), begin in key(), end in key(), key in key(),
        ) {
            let keys = Keyspace::new(&prefix).unwrap();
            let pair = keys.pair(&key);
            prop_assert_eq!(&keys.strip(&pair)[..], &key[..]);
            prop_assert!(pair[0] != 0xff, "FOUNDATION-KEYS-3");
            let range = KeyRange::new(begin, end);
            let (begin, end) = keys.range(&range);
            prop_assert_eq!(range.contains(&key), begin <= pair && pair < end, "FOUNDATION-KEYS-1");
        }

        #[test]
        fn stores_with_other_prefixes_share_nothing(
            prefix in prefix(), other in prefix(), key in key(), number: u64,
        ) {
            prop_assume!(!prefix.starts_with(&other) && !other.starts_with(&prefix));
            let [keys, others] = [&prefix, &other].map(|prefix| Keyspace::new(prefix).unwrap());
            let mine = [keys.pair(&key), keys.probe(), keys.fence(1, number)];
            prop_assert!(mine.iter().all(|key| !key.starts_with(&other)), "FOUNDATION-KEYS-2");
            prop_assert!(!others.pair(&key).starts_with(&prefix), "FOUNDATION-KEYS-2");
        }

        #[test]
        fn a_fence_key_is_no_pair(prefix in prefix(), process: u32, number: u64) {
            let keys = Keyspace::new(&prefix).unwrap();
            prop_assert!(keys.fence(process, number) < keys.pair(&[]));
            prop_assert!(keys.probe() < keys.fence(process, number));
        }
    }

    #[test]
    fn an_invalid_prefix_is_rejected() {
        for prefix in [&[0xff][..], &[b'p'; PREFIX_BYTES_MAX + 1]] {
            assert!(matches!(Keyspace::new(prefix), Err(FoundationOpenError::Options(_))));
        }
    }
}
