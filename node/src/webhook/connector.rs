//! Opens connections to endpoints: lookup, TCP and TLS, all within one wait; and the pool that keeps them.
//!
//! Invariants: `CONNECTOR-1` opening a connection takes at most `connect_timeout_ms`, whatever part of it hangs;
//! `CONNECTOR-2` an endpoint shows a certificate of a public authority (the roots are compiled in) or of one in
//! `tls_ca_file`, for the host that the URL names. HTTP/1.1 is the one protocol: a webhook gains nothing from another.
//! It checks no addresses: the resolver does.

use super::SenderError;
use super::resolver::CheckedResolver;
use super::target::TargetPolicy;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tower::{BoxError, Service};
use triggers_cluster_config::DeliveryOptions;
use triggers_store::kv::BoxFuture;

/// How long a connection is kept without a webhook.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one endpoint that are kept without a webhook.
const IDLE_MAX: usize = 8;
/// Bytes of an answer that a connection holds, so also the largest head.
const BUFFER_BYTES_MAX: usize = 65_536;

/// The connections to all endpoints.
pub(super) type Pool<C> = Client<Connector<C>, Full<Bytes>>;

/// Opens TCP connections: the operating system's, or those of a simulation.
pub trait TcpConnector:
    Service<Uri, Response = Self::Stream, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// A connection.
    type Stream: Read + Write + Connection + Unpin + Send + 'static;
}

impl<C, S> TcpConnector for C
where
    C: Service<Uri, Response = S, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    S: Read + Write + Connection + Unpin + Send + 'static,
{
    type Stream = S;
}

/// The operating system's connections, to addresses that may be called.
pub type SystemTcp = HttpConnector<CheckedResolver>;

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Connector<C> {
    https: HttpsConnector<C>,
    wait: Duration,
}

/// No connection in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} ms", wait.as_millis())]
pub(super) struct ConnectTimeout {
    wait: Duration,
}

/// A pool without connections yet.
///
/// # Errors
/// [`SenderError::CaFile`] or [`SenderError::Tls`].
pub(super) fn pool<C: TcpConnector>(
    options: &DeliveryOptions,
    tcp: C,
) -> Result<Pool<C>, SenderError> {
    let connector = Connector::new(options, tcp)?;
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX);
    // An endpoint that closed an idle connection has seen nothing of the request: it goes out again on another.
    builder.retry_canceled_requests(true).http1_max_buf_size(BUFFER_BYTES_MAX);
    Ok(builder.build(connector))
}

/// Connections of the operating system.
pub(super) fn system(options: &DeliveryOptions, policy: Arc<TargetPolicy>) -> SystemTcp {
    let mut tcp = HttpConnector::new_with_resolver(CheckedResolver::new(policy));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // It is divided among the addresses of a name, so that one that is silent leaves time for the next.
    tcp.set_connect_timeout(Some(Duration::from_millis(options.connect_timeout_ms)));
    tcp
}

impl<C: TcpConnector> Connector<C> {
    fn new(options: &DeliveryOptions, tcp: C) -> Result<Self, SenderError> {
        let wait = Duration::from_millis(options.connect_timeout_ms);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(options.tls_ca_file.as_deref())?)
            .with_no_client_auth();
        let builder =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        Ok(Self { https: builder.wrap_connector(tcp), wait })
    }
}

impl<C: TcpConnector> Service<Uri> for Connector<C> {
    type Response = MaybeHttpsStream<C::Stream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (opening, wait) = (self.https.call(uri), self.wait);
        Box::pin(async move {
            match timeout(wait, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(ConnectTimeout { wait }.into()),
            }
        })
    }
}

/// The public authorities, and those of the file.
fn roots(file: Option<&Path>) -> Result<RootCertStore, SenderError> {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let Some(file) = file else { return Ok(roots) };
    let fault = |reason: String| SenderError::CaFile { file: file.to_owned(), reason };
    let public = roots.len();
    for certificate in
        CertificateDer::pem_file_iter(file).map_err(|error| fault(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.len() == public {
        return Err(fault("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let refused = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let message = roots(Some(&file)).unwrap_err().to_string();
            assert!(message.starts_with("delivery.tls_ca_file "), "CONNECTOR-2: {message}");
        };
        refused(None);
        refused(Some(""));
        refused(Some("nonsense"));
        refused(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    }

    #[test]
    fn the_certificates_of_the_file_are_added_to_the_public_ones() {
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
