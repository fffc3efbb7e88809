//! Reads certificates and private keys from the PEM files that options name.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A file cannot be read, or does not contain what its option expects.
#[derive(Debug, thiserror::Error)]
#[error("{field} {}: {reason}", file.display())]
pub struct FileError {
    field: &'static str,
    file: PathBuf,
    reason: String,
}

impl FileError {
    /// The error of the file that the option `field` names.
    pub(crate) fn new(field: &'static str, file: &Path, reason: impl Display) -> Self {
        Self { field, file: file.to_owned(), reason: reason.to_string() }
    }
}

/// Reads the certificates of a file; there is at least one.
pub(crate) fn certificates(
    field: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let chain = read().map_err(|error| FileError::new(field, file, error))?;
    if chain.is_empty() {
        return Err(FileError::new(field, file, "the file contains no certificate"));
    }
    Ok(chain)
}

/// Adds the certificates of a file to the trusted authorities.
pub(crate) fn add_roots(
    roots: &mut RootCertStore,
    field: &'static str,
    file: &Path,
) -> Result<(), FileError> {
    for certificate in certificates(field, file)? {
        roots.add(certificate).map_err(|error| FileError::new(field, file, error))?;
    }
    Ok(())
}

/// Reads the private key of a file.
pub(crate) fn private_key(
    field: &'static str,
    file: &Path,
) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| FileError::new(field, file, error))
}
