//! The binary encoding of rows and messages: a version byte, then the value in bincode 2.
//!
//! Invariants:
//! - `CODEC-1`: decoding an encoded value returns an equal value.
//! - `CODEC-2`: bytes of another version, truncated or damaged bytes return an error. Decoding
//!   never panics and never allocates more than [`DECODE_BYTES_MAX`].
//!
//! The encoding does not describe itself: a type whose fields change needs a new version.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

/// Bytes that the decoding of one value allocates at most.
pub const DECODE_BYTES_MAX: usize = 32 * 1024 * 1024;

const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<DECODE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<DECODE_BYTES_MAX>();

/// The error for bytes that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// There are no bytes, not even a version byte.
    #[error("empty value, expected format version {expected}")]
    Empty {
        /// The version that the reader supports.
        expected: u8,
    },
    /// The value has a version that the reader does not support.
    #[error("format version {found}, expected {expected}")]
    Version {
        /// The version byte that was read.
        found: u8,
        /// The version that the reader supports.
        expected: u8,
    },
    /// The bytes are truncated or damaged.
    #[error("malformed value: {0}")]
    Malformed(String),
}

/// Appends the version byte and the value to `out`.
pub fn encode_into<T: Encode>(out: &mut Vec<u8>, version: u8, value: &T) {
    out.push(version);
    bincode::encode_into_std_write(value, out, CONFIGURATION)
        .expect("writing to a vector cannot fail, and encoding a row type cannot fail");
}

/// Encodes the version byte and the value.
pub fn encode<T: Encode>(version: u8, value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    encode_into(&mut out, version, value);
    out
}

/// Decodes a value and returns the remaining bytes after it.
///
/// # Errors
/// [`CodecError`] if the version differs or the bytes are truncated or damaged.
pub fn decode_prefix<T: Decode<()>>(version: u8, bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (&found, body) = bytes.split_first().ok_or(CodecError::Empty { expected: version })?;
    if found != version {
        return Err(CodecError::Version { found, expected: version });
    }
    let (value, used) = bincode::decode_from_slice(body, CONFIGURATION)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok((value, &body[used..]))
}

/// Decodes a value that consumes all bytes.
///
/// # Errors
/// [`CodecError`] as for [`decode_prefix`], and if bytes remain after the value.
pub fn decode<T: Decode<()>>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    match decode_prefix(version, bytes)? {
        (value, []) => Ok(value),
        (_, remaining) => {
            Err(CodecError::Malformed(format!("{} bytes after the value", remaining.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Sample = (u64, String, Option<Vec<u8>>);

    proptest! {
        #[test]
        fn encoded_values_decode_to_themselves(value: Sample) {
            let bytes = encode(3, &value);
            prop_assert_eq!(decode::<Sample>(3, &bytes), Ok(value));
            let wrong_version = CodecError::Version { found: 3, expected: 4 };
            prop_assert_eq!(decode::<Sample>(4, &bytes), Err(wrong_version));
            prop_assert!(decode::<Sample>(3, &bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn a_false_length_is_rejected_before_memory_is_allocated() {
        let mut bytes = vec![1, 253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(1, &bytes).is_err());
    }
}
