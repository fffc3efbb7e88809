//! Loads the TLS certificate and key of the public listener.
//!
//! - `TLS-1`: both files are read once, at start. A fault in one stops the start and names its
//!   option and file.
//! - `TLS-2`: only TLS 1.2 and 1.3 are enabled, and HTTP/2 is offered before HTTP/1.1.
//!
//! Clients need no certificates: they authenticate with API keys.

use crate::certificates::{FileError, certificates, private_key};
use rustls::ServerConfig;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use triggers_cluster_config::ListenOptions;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file or the key file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate and the key do not match, or their kind is not supported.
    #[error("listen.tls_certificate_file and listen.tls_key_file cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Reads the certificate and the key that the options name; `None` if they name none.
///
/// # Errors
/// [`TlsError`], which names the option at fault.
pub fn load(options: &ListenOptions) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(certificate_file), Some(key_file)) =
        (&options.tls_certificate_file, &options.tls_key_file)
    else {
        return Ok(None);
    };
    let chain = certificates("listen.tls_certificate_file", certificate_file)?;
    let key = private_key("listen.tls_key_file", key_file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn options(directory: &Path, certificate: Option<&str>, key: Option<&str>) -> ListenOptions {
        let file = |name: &str, text: Option<&str>| {
            let file = directory.join(name);
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            Some(file)
        };
        ListenOptions {
            tls_certificate_file: file("certificate.pem", certificate),
            tls_key_file: file("key.pem", key),
            ..ListenOptions::default()
        }
    }

    #[test]
    fn without_files_there_is_no_tls() {
        assert!(load(&ListenOptions::default()).unwrap().is_none());
    }

    #[test]
    fn a_faulty_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases = [
            (None, None, "listen.tls_certificate_file"),
            (Some("nonsense"), None, "listen.tls_certificate_file"),
            (Some(certificate), None, "listen.tls_key_file"),
            (Some(certificate), Some("nonsense"), "listen.tls_key_file"),
        ];
        for (certificate, key, field) in cases {
            let error = load(&options(directory.path(), certificate, key)).err().unwrap();
            assert!(error.to_string().starts_with(field), "TLS-1: {error}");
        }
    }
}
