//! A certificate authority for the nodes of one cluster, and the certificates it issues.
//!
//! Keys are ECDSA on P-256. A node's certificate is for a server and a client, since each node is
//! both. Validity begins an hour early, so that a node whose clock is behind accepts it.
//!
//! - `AUTHORITY-1`: a certificate is returned only after it was verified as a peer verifies it:
//!   under the authority's certificate, for the node's name. That also finds a key that does not
//!   belong to the certificate.
//! - `AUTHORITY-2`: the authority signs nodes only; no other authority can stand below it.
//!
//! It keeps no list of certificates and revokes none. To shut a node out, create a new authority.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::Timestamp;

const NAME: &str = "Triggers cluster authority";
/// Largest lag of a node's clock.
const SKEW: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    /// Making a key or certificate failed, or reading the authority's key.
    #[error("a key or certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The authority's certificate is not valid.
    #[error("ca.pem cannot be read: {0}")]
    Certificate(#[from] pem::Error),
    /// The name is not valid for a node.
    #[error("a node cannot have this name: {0}")]
    Name(#[from] InvalidDnsNameError),
    /// Peers would reject the new certificate.
    #[error(
        "peers would reject the certificate ({0}); do ca.pem and ca-key.pem belong together, and \
         were they made by this command?"
    )]
    Refused(String),
}

/// A certificate and its private key, both as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// An authority that can issue certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Authority {
    /// Makes an authority that is valid for some days, and returns it with its certificate and key.
    pub(super) fn make(now: Timestamp, days: u32) -> Result<(Self, Pair), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut parameters = parameters();
        set_validity(&mut parameters, now, days);
        let certificate = parameters.self_signed(&key)?.pem();
        let pair = Pair { certificate, key: key.serialize_pem() };
        Ok((Self::open(&pair.certificate, &pair.key)?, pair))
    }

    /// Restores the authority from the certificate and key that `make` returned.
    pub(super) fn open(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certificate.as_bytes()) {
            roots.add(certificate?).map_err(refused)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(refused)?;
        Ok(Self { issuer: Issuer::new(parameters(), KeyPair::from_pem(key)?), verifier })
    }

    /// Issues a certificate for a node and its other hosts, valid for some days.
    pub(super) fn issue(
        &self,
        node: &str,
        hosts: &[String],
        now: Timestamp,
        days: u32,
    ) -> Result<Pair, AuthorityError> {
        let names: Vec<String> =
            std::iter::once(node.to_owned()).chain(hosts.iter().cloned()).collect();
        let mut parameters = CertificateParams::new(names)?;
        set_validity(&mut parameters, now, days);
        parameters.distinguished_name = named(node);
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let name = ServerName::try_from(node)?;
        let at = UnixTime::since_unix_epoch(now.since(Timestamp::EPOCH));
        self.verifier
            .verify_server_cert(certificate.der(), &[], &name, &[], at)
            .map_err(refused)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The time at which a certificate that is made now expires.
pub(super) fn expiry(now: Timestamp, days: u32) -> Timestamp {
    now.plus(DAY * days)
}

/// The certificate parameters of every authority.
fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named(NAME);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(parameters: &mut CertificateParams, now: Timestamp, days: u32) {
    let at = |time: Timestamp| date_time_ymd(1970, 1, 1) + time.since(Timestamp::EPOCH);
    parameters.not_before = at(now.minus(SKEW));
    parameters.not_after = at(expiry(now, days));
}

fn refused(error: impl ToString) -> AuthorityError {
    AuthorityError::Refused(error.to_string())
}
