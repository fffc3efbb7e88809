//! API keys of the form `trg_<kind>_<secret><checksum>`, 43 and 6 base62 characters.
//!
//! Invariants:
//! - `KEY-1`: only the SHA-256 of a key is stored. The secret has 256 random bits, so a fast hash
//!   suffices.
//! - `KEY-2`: the plain key never appears in `Debug` output.
//! - `KEY-3`: a key with a wrong checksum is rejected before it is looked up in the store.

use crate::{Environment, Malformed};
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// The purpose of a key. It is part of the key's text and has no other effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum KeyKind {
    /// A key for production: `trg_live_…`.
    Live,
    /// A key for development: `trg_test_…`.
    Test,
}

impl KeyKind {
    /// The `<kind>` part of the key's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// A plain API key. It exists only in the response that creates it and in requests.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The SHA-256 of a key's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct KeyHash(pub [u8; 32]);

impl ApiKey {
    /// Generates a new key.
    pub fn generate(kind: KeyKind, environment: &Environment) -> Self {
        let secret = base62(&environment.bytes::<32>());
        let stem = format!("trg_{}_{secret}", kind.as_str());
        let checksum = checksum(&stem).map(char::from);
        Self(stem + &String::from_iter(checksum))
    }

    /// Parses a key and verifies its checksum.
    ///
    /// # Errors
    /// [`Malformed`], without the key in the message.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The kind that the key's text names.
    pub fn kind(&self) -> KeyKind {
        if self.0.starts_with("trg_live_") { KeyKind::Live } else { KeyKind::Test }
    }

    /// The hash under which the key is stored.
    pub fn hash(&self) -> KeyHash {
        hash(&self.0)
    }

    /// The plain text of the key, which is shown to the client once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The part of the key that lists may show: `trg_live_` and four characters of the secret.
    pub fn hint(&self) -> String {
        self.0.chars().take(13).collect()
    }
}

impl KeyHash {
    /// Verifies a key's text like [`ApiKey::parse`] and hashes it.
    ///
    /// # Errors
    /// [`Malformed`], without the key in the message.
    pub fn of(text: &str) -> Result<Self, Malformed> {
        check(text)?;
        Ok(hash(text))
    }
}

/// Verifies the form and the checksum (`KEY-3`).
fn check(text: &str) -> Result<(), Malformed> {
    let malformed =
        || Malformed("is not a Triggers API key (trg_live_… or trg_test_… with a checksum)".into());
    let body = text
        .strip_prefix("trg_live_")
        .or_else(|| text.strip_prefix("trg_test_"))
        .ok_or_else(malformed)?;
    let length_fits = (SECRET_LENGTH + CHECKSUM_LENGTH..=128).contains(&body.len());
    if !length_fits || !body.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(malformed());
    }
    let (stem, found) = text.split_at(text.len() - CHECKSUM_LENGTH);
    if checksum(stem) == found.as_bytes() { Ok(()) } else { Err(malformed()) }
}

fn hash(text: &str) -> KeyHash {
    KeyHash(Sha256::digest(text.as_bytes()).into())
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({}…)", self.hint())
    }
}

/// Formats 256 bits as 43 base62 digits, most significant first.
fn base62(bytes: &[u8; 32]) -> String {
    let mut number = *bytes;
    let mut digits = [b'0'; SECRET_LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62)
                .expect("the remainder is below 62, so the quotient is below 256");
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// The CRC-32 of `stem` as six base62 digits.
fn checksum(stem: &str) -> [u8; CHECKSUM_LENGTH] {
    let mut number = crc32fast::hash(stem.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[number % 62];
        number /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn generated_keys_parse_and_differ() {
        let environment = Environment::system();
        let first = ApiKey::generate(KeyKind::Live, &environment);
        let second = ApiKey::generate(KeyKind::Test, &environment);
        assert_eq!(ApiKey::parse(first.reveal()).unwrap(), first);
        assert_ne!(first.hash(), second.hash());
        assert_eq!(first.reveal().len(), "trg_live_".len() + SECRET_LENGTH + CHECKSUM_LENGTH);
        assert!(!format!("{first:?}").contains(first.reveal()));
    }

    #[test]
    fn base62_covers_the_range() {
        assert_eq!(base62(&[0; 32]), "0".repeat(43));
        let mut one = [0; 32];
        one[31] = 61;
        assert!(base62(&one).ends_with('z'));
        assert_eq!(base62(&[255; 32]).len(), 43);
    }

    proptest! {
        #[test]
        fn a_wrong_character_is_detected(position in 9usize..58, replacement in "[0-9A-Za-z]") {
            let key = ApiKey::generate(KeyKind::Live, &Environment::system()).reveal().to_owned();
            let mut wrong = key.clone();
            wrong.replace_range(position..=position, &replacement);
            prop_assert_eq!(ApiKey::parse(&wrong).is_ok(), wrong == key);
            let hash = ApiKey::parse(&wrong).ok().map(|key| key.hash());
            prop_assert_eq!(KeyHash::of(&wrong).ok(), hash);
        }

        #[test]
        fn parse_never_panics(text in "\\PC{0,150}") {
            prop_assert!(ApiKey::parse(&text).is_err());
        }
    }
}
