//! Opens connections to endpoints: look-up, TCP, TLS.
//!
//! - `CONNECTOR-1`: opening a connection takes at most `connect_timeout_ms`, whichever step hangs.
//! - `CONNECTOR-2`: an endpoint must present a certificate for the host in the URL, issued by a
//!   public authority (the roots are compiled in) or by one in `tls_ca_file`.
//!
//! HTTP/1.1 is the only protocol. Addresses are checked by the resolver, not here.

use super::SenderError;
use super::pool::EndpointConnection;
use super::resolver::CheckedResolver;
use crate::certificates::{FileError, add_roots};
use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt as _};
use triggers_cluster_config::DeliveryOptions;

/// Opens TCP connections: over the operating system, or in a simulation.
pub trait TcpConnector:
    Service<
        Uri,
        Response: Read + Write + Connection + Unpin + Send + 'static,
        Error: Into<BoxError>,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

/// Opens connections over the operating system, only to addresses that may be called.
pub type SystemTcp = HttpConnector<CheckedResolver>;

impl TcpConnector for SystemTcp {}

/// Opens plain and TLS connections within `connect_timeout`.
#[derive(Debug, Clone)]
pub(super) struct Connector<C> {
    https: HttpsConnector<C>,
    connect_timeout: Duration,
}

/// No connection was established in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} ms", .0.as_millis())]
pub(super) struct ConnectTimeout(Duration);

/// A connector that opens connections with `tcp`.
pub(super) fn over<C: TcpConnector>(
    options: &DeliveryOptions,
    tcp: C,
) -> Result<Connector<C>, SenderError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(options.tls_ca_file.as_deref())?)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
    Ok(Connector {
        https: https.wrap_connector(tcp),
        connect_timeout: Duration::from_millis(options.connect_timeout_ms),
    })
}

/// Connector over the operating system.
pub(super) fn system(options: &DeliveryOptions, resolver: CheckedResolver) -> SystemTcp {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // hyper divides this time among the addresses of a name.
    tcp.set_connect_timeout(Some(Duration::from_millis(options.connect_timeout_ms)));
    tcp
}

impl<C: TcpConnector> Connector<C> {
    /// Opens a connection to the endpoint of a URL.
    pub(super) async fn open(&self, url: &Uri) -> Result<EndpointConnection, BoxError> {
        let opening = self.https.clone().oneshot(url.clone());
        let opened = timeout(self.connect_timeout, opening).await;
        let stream = opened.map_err(|_| ConnectTimeout(self.connect_timeout))??;
        Ok(EndpointConnection::new(TokioIo::new(stream)))
    }
}

/// The public certificate authorities and those in the file.
fn roots(file: Option<&Path>) -> Result<RootCertStore, FileError> {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    if let Some(file) = file {
        add_roots(&mut roots, "delivery.tls_ca_file", file)?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_a_faulty_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let assert_rejected = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let message = roots(Some(&file)).unwrap_err().to_string();
            assert!(message.starts_with("delivery.tls_ca_file "), "CONNECTOR-2: {message}");
        };
        assert_rejected(None);
        assert_rejected(Some(""));
        assert_rejected(Some("nonsense"));
        assert_rejected(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    }

    #[test]
    fn certificates_of_the_file_are_added_to_the_public_ones() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let made = ["a.example", "b.example"]
            .map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
        std::fs::write(&file, made.map(|made| made.cert.pem()).concat()).unwrap();
        assert_eq!(
            roots(Some(&file)).unwrap().len(),
            roots(None).unwrap().len() + 2,
            "CONNECTOR-2"
        );
        assert!(!roots(None).unwrap().is_empty(), "CONNECTOR-2");
    }
}
