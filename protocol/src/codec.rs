//! The one place that knows how rows and messages become bytes: a format version byte, then bincode 2.
//!
//! Invariants: `CODEC-1` decoding what was encoded gives the value back; `CODEC-2` bytes of another version, cut short or
//! damaged give an error, never a panic and never an allocation beyond [`DECODE_BYTES_MAX`].
//! It is not self-describing: a type whose fields change gets a new version, and its reader keeps the old one.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

/// The most that one decoded value may allocate.
pub const DECODE_BYTES_MAX: usize = 32 * 1024 * 1024;

const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<DECODE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<DECODE_BYTES_MAX>();

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all, where at least the version was due.
    #[error("empty value where version {expected} was due")]
    Empty {
        /// The version that the reader knows.
        expected: u8,
    },
    /// Written by a version that this reader does not know.
    #[error("format version {found} where version {expected} was due")]
    Version {
        /// The version byte that was read.
        found: u8,
        /// The version that the reader knows.
        expected: u8,
    },
    /// Cut short or damaged.
    #[error("malformed value: {0}")]
    Malformed(String),
}

/// Appends the version byte and the value to `out`.
pub fn encode_into<T: Encode>(out: &mut Vec<u8>, version: u8, value: &T) {
    out.push(version);
    bincode::encode_into_std_write(value, out, CONFIGURATION)
        .expect("writing to a vector cannot fail, and no row type refuses its own values");
}

/// The version byte and the value.
pub fn encode<T: Encode>(version: u8, value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    encode_into(&mut out, version, value);
    out
}

/// Decodes a value and returns the bytes behind it.
///
/// # Errors
/// [`CodecError`] if the version is another one or the bytes are cut short or damaged.
pub fn decode_prefix<T: Decode<()>>(version: u8, bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (&found, body) = bytes.split_first().ok_or(CodecError::Empty { expected: version })?;
    if found != version {
        return Err(CodecError::Version { found, expected: version });
    }
    let (value, used) = bincode::decode_from_slice(body, CONFIGURATION)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok((value, &body[used..]))
}

/// Decodes a value that fills the bytes to their end.
///
/// # Errors
/// As [`decode_prefix`], and if bytes are left over.
pub fn decode<T: Decode<()>>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    match decode_prefix(version, bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(CodecError::Malformed(format!("{} bytes too many", rest.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back(value: (u64, String, Option<Vec<u8>>)) {
            let bytes = encode(3, &value);
            prop_assert_eq!(decode::<(u64, String, Option<Vec<u8>>)>(3, &bytes).unwrap(), value);
            prop_assert_eq!(decode::<(u64, String, Option<Vec<u8>>)>(4, &bytes), Err(CodecError::Version { found: 3, expected: 4 }));
            prop_assert!(decode::<(u64, String, Option<Vec<u8>>)>(3, &bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn damage_never_panics(bytes: Vec<u8>) {
            let _ = decode::<(u64, String, Option<Vec<u8>>)>(bytes.first().copied().unwrap_or(0), &bytes);
        }
    }

    #[test]
    fn a_lying_length_is_refused_before_memory_is_taken() {
        let mut bytes = vec![1, 253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(1, &bytes).is_err());
    }
}
