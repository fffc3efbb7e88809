//! Signing and verification of webhooks according to Standard Webhooks.
//!
//! The scheme is version 1.0.0 of <https://www.standardwebhooks.com>. The signed text is
//! `id.timestamp.body`. A symmetric key (`whsec_…`) produces `v1,` and an HMAC-SHA256. An
//! asymmetric key (`whsk_…`, public part `whpk_…`) produces `v1a,` and an ed25519 signature (RFC
//! 8032). Keys and signatures are in base64.
//!
//! Invariants:
//! - `WEBHOOK-1`: a signature is accepted by the verifying key of its signing key, and by no other.
//! - `WEBHOOK-2`: a secret never appears in `Debug` output or in an error.
//! - `WEBHOOK-3`: a webhook is rejected if its time differs by more than [`TOLERANCE`], so that a
//!   recorded webhook cannot be replayed later.

use crate::{Environment, Malformed, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bincode::{Decode, Encode};
use hmac::{Hmac, Mac};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::time::Duration;
use utoipa::ToSchema;

/// Header with the id of the webhook, which is the same in every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// Header with the time of the attempt, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// Accepted difference between the time of a webhook and the receiver's clock.
pub const TOLERANCE: Duration = Duration::from_secs(300);

const SECRET_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";
/// Length of a symmetric secret in bytes, according to the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRET_BYTES_GENERATED: usize = 32;

/// How webhooks are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SignatureScheme {
    /// HMAC-SHA256 with a shared secret; its signatures start with `v1`.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// Ed25519 with a key pair; its signatures start with `v1a`.
    #[serde(rename = "ed25519")]
    Ed25519,
}

/// The key that signs a webhook.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum SigningKey {
    /// A secret that the receiver shares.
    HmacSha256(Vec<u8>),
    /// The seed of a key pair; the receiver has the public key.
    Ed25519([u8; 32]),
}

impl SigningKey {
    /// Generates a new key.
    pub fn generate(scheme: SignatureScheme, environment: &Environment) -> Self {
        match scheme {
            SignatureScheme::HmacSha256 => {
                Self::HmacSha256(environment.bytes::<SECRET_BYTES_GENERATED>().to_vec())
            }
            SignatureScheme::Ed25519 => Self::Ed25519(environment.bytes()),
        }
    }

    /// Parses `whsec_…` (24 to 64 bytes) or `whsk_…` (a seed, optionally with its public key).
    ///
    /// # Errors
    /// [`Malformed`], without the key in the message.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = || {
            Malformed(
                "must be whsec_ and 24 to 64 bytes in base64, or whsk_ and an ed25519 key".into(),
            )
        };
        if let Some(secret) = text.strip_prefix(SECRET_PREFIX) {
            let bytes = STANDARD.decode(secret).map_err(|_| malformed())?;
            return SECRET_BYTES
                .contains(&bytes.len())
                .then_some(Self::HmacSha256(bytes))
                .ok_or_else(malformed);
        }
        let bytes = text
            .strip_prefix(PRIVATE_PREFIX)
            .and_then(|key| STANDARD.decode(key).ok())
            .ok_or_else(malformed)?;
        let (seed, public) = bytes.split_first_chunk::<32>().ok_or_else(malformed)?;
        let fits = public.is_empty() || public == public_key(seed);
        fits.then_some(Self::Ed25519(*seed)).ok_or_else(malformed)
    }

    /// The scheme of the key.
    pub fn scheme(&self) -> SignatureScheme {
        match self {
            Self::HmacSha256(_) => SignatureScheme::HmacSha256,
            Self::Ed25519(_) => SignatureScheme::Ed25519,
        }
    }

    /// The plain text of the key, which is shown to the client once.
    pub fn reveal(&self) -> String {
        match self {
            Self::HmacSha256(secret) => prefixed(SECRET_PREFIX, secret),
            Self::Ed25519(seed) => prefixed(PRIVATE_PREFIX, &[*seed, public_key(seed)].concat()),
        }
    }

    /// The public key `whpk_…` of an asymmetric key.
    pub fn public(&self) -> Option<String> {
        match self {
            Self::HmacSha256(_) => None,
            Self::Ed25519(seed) => Some(prefixed(PUBLIC_PREFIX, &public_key(seed))),
        }
    }

    /// The key with which a receiver verifies signatures.
    pub fn verifying_key(&self) -> VerifyingKey {
        match self {
            Self::HmacSha256(secret) => VerifyingKey::HmacSha256(secret.clone()),
            Self::Ed25519(seed) => VerifyingKey::Ed25519(public_key(seed)),
        }
    }

    /// Signs the text that the parts make together.
    fn sign(&self, parts: &[&[u8]]) -> String {
        match self {
            Self::HmacSha256(secret) => {
                prefixed("v1,", &mac(secret, parts).finalize().into_bytes())
            }
            Self::Ed25519(seed) => prefixed("v1a,", pair(seed).sign(&parts.concat()).as_ref()),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.scheme())
    }
}

/// The key that verifies signatures.
#[derive(Clone, PartialEq, Eq)]
pub enum VerifyingKey {
    /// The secret shared with the sender.
    HmacSha256(Vec<u8>),
    /// The public key of the sender.
    Ed25519([u8; 32]),
}

impl VerifyingKey {
    /// Parses `whsec_…`, `whpk_…` or `whsk_…`.
    ///
    /// # Errors
    /// [`Malformed`], without the key in the message.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let Some(public) = text.strip_prefix(PUBLIC_PREFIX) else {
            return SigningKey::parse(text).map(|key| key.verifying_key());
        };
        let bytes = STANDARD.decode(public).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self::Ed25519)
            .ok_or_else(|| Malformed("must be whpk_ and 32 bytes in base64".into()))
    }

    /// Tests whether a signature of the text is valid.
    fn accepts(&self, parts: &[&[u8]], version: &str, signature: &[u8]) -> bool {
        match self {
            Self::HmacSha256(secret) => {
                version == "v1" && mac(secret, parts).verify_slice(signature).is_ok()
            }
            Self::Ed25519(public) => {
                let key = UnparsedPublicKey::new(&ED25519, public);
                version == "v1a" && key.verify(&parts.concat(), signature).is_ok()
            }
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifyingKey")
    }
}

/// The value of [`SIGNATURE_HEADER`]: one signature per key.
pub fn signatures(keys: &[SigningKey], id: &str, at: Timestamp, body: &[u8]) -> String {
    let at = at.as_seconds().to_string();
    let parts = signed_text(id, &at, body);
    match keys {
        [key] => key.sign(&parts),
        keys => keys.iter().map(|key| key.sign(&parts)).collect::<Vec<_>>().join(" "),
    }
}

/// The reason why a webhook is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The timestamp is not a number of seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// The timestamp differs from the clock by more than [`TOLERANCE`].
    #[error("webhook-timestamp differs from this machine's clock by more than five minutes")]
    OutsideTolerance,
    /// No signature is valid.
    #[error("no signature is valid for the key and the body")]
    Signature,
}

/// The values of the three headers of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    /// Value of [`ID_HEADER`].
    pub id: &'a str,
    /// Value of [`TIMESTAMP_HEADER`].
    pub timestamp: &'a str,
    /// Value of [`SIGNATURE_HEADER`].
    pub signatures: &'a str,
}

/// Verifies a received webhook.
///
/// # Errors
/// [`VerifyError`] with the reason why the webhook is rejected.
pub fn verify(
    key: &VerifyingKey,
    headers: SignedHeaders<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), VerifyError> {
    let SignedHeaders { id, timestamp, signatures } = headers;
    let sent = timestamp.parse::<u32>().map_err(|_| VerifyError::Timestamp)?;
    let difference = now.as_seconds().abs_diff(i64::from(sent));
    if difference > TOLERANCE.as_secs() {
        return Err(VerifyError::OutsideTolerance);
    }
    let parts = signed_text(id, timestamp, body);
    let is_valid = |signature: &str| {
        let Some((version, encoded)) = signature.split_once(',') else { return false };
        STANDARD.decode(encoded).is_ok_and(|bytes| key.accepts(&parts, version, &bytes))
    };
    signatures.split(' ').any(is_valid).then_some(()).ok_or(VerifyError::Signature)
}

/// The parts of the signed text, so that the body is not copied.
fn signed_text<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

fn mac(secret: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("HMAC accepts keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

fn prefixed(prefix: &str, bytes: &[u8]) -> String {
    format!("{prefix}{}", STANDARD.encode(bytes))
}

fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    pair(seed).public_key().as_ref().try_into().expect("an ed25519 key has 32 bytes")
}

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed)
        .expect("every 32 bytes are the seed of an ed25519 key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = SigningKey> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), SECRET_BYTES).prop_map(SigningKey::HmacSha256),
            any::<[u8; 32]>().prop_map(SigningKey::Ed25519),
        ]
    }

    fn header(keys: &[SigningKey], at: Timestamp, body: &[u8]) -> String {
        signatures(keys, "msg", at, body)
    }

    proptest! {
        #[test]
        fn only_unchanged_webhooks_verify(
            key in key(),
            other in key(),
            body: Vec<u8>,
            changed: Vec<u8>,
        ) {
            let now = Timestamp::from_millis(1_700_000_000_000);
            let seconds = now.as_seconds().to_string();
            let both = header(&[other.clone(), key.clone()], now, &body);
            let check = |id: &str, signatures: &str, body: &[u8]| {
                let headers = SignedHeaders { id, timestamp: &seconds, signatures };
                verify(&key.verifying_key(), headers, body, now)
            };
            prop_assert_eq!(check("msg", &both, &body), Ok(()));
            prop_assert_eq!(check("msg2", &both, &body), Err(VerifyError::Signature));
            prop_assert_eq!(check("msg", &both, &changed).is_ok(), body == changed);
            let of_other = header(std::slice::from_ref(&other), now, &body);
            prop_assert_eq!(check("msg", &of_other, &body).is_ok(), key == other);
            prop_assert_eq!(SigningKey::parse(&key.reveal()).unwrap(), key.clone());
            let public = key.public().unwrap_or_else(|| key.reveal());
            prop_assert_eq!(VerifyingKey::parse(&public).unwrap(), key.verifying_key());
            let debug = format!("{key:?}");
            prop_assert!(!debug.contains(&key.reveal()[6..]), "WEBHOOK-2");
        }

        #[test]
        fn arbitrary_texts_never_panic(
            text in "(wh(sec|sk|pk)_)?[A-Za-z0-9+/=]{0,100}",
            signatures in "\\PC{0,60}",
        ) {
            let _ = SigningKey::parse(&text);
            if let Ok(key) = VerifyingKey::parse(&text) {
                let headers = SignedHeaders { id: "msg", timestamp: "0", signatures: &signatures };
                let result = verify(&key, headers, b"", Timestamp::from_millis(0));
                prop_assert_eq!(result, Err(VerifyError::Signature));
            }
        }
    }

    #[test]
    fn the_published_example_is_reproduced() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp::from_millis(1_614_265_330_000);
        let signature =
            signatures(&[key], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_recorded_webhook_is_rejected_later() {
        let key = SigningKey::Ed25519([7; 32]);
        let sent = Timestamp::from_millis(1_700_000_000_000);
        let (seconds, signature) =
            (sent.as_seconds().to_string(), header(std::slice::from_ref(&key), sent, b"{}"));
        let at = |seconds_later: u64| {
            let now = sent.plus(Duration::from_secs(seconds_later));
            let headers = SignedHeaders { id: "msg", timestamp: &seconds, signatures: &signature };
            verify(&key.verifying_key(), headers, b"{}", now)
        };
        assert_eq!((at(300), at(301)), (Ok(()), Err(VerifyError::OutsideTolerance)));
    }

    #[test]
    fn keys_of_the_wrong_length_are_rejected() {
        for text in ["", "whsec_", "whsec_AAAA", "whsk_AAAA", "whpk_AAAA", "secret"] {
            assert!(
                SigningKey::parse(text).is_err() && VerifyingKey::parse(text).is_err(),
                "{text}"
            );
        }
        let mut wrong_half = [7; 64];
        wrong_half[63] = 0;
        assert!(SigningKey::parse(&format!("whsk_{}", STANDARD.encode(wrong_half))).is_err());
    }
}
