//! Opens connections to endpoints (look-up, TCP, TLS) and pools them.
//!
//! - `CONNECTOR-1`: opening a connection takes at most `connect_timeout_ms`, whichever step hangs.
//! - `CONNECTOR-2`: an endpoint must present a certificate for the host in the URL, issued by a
//!   public authority (the roots are compiled in) or by one in `tls_ca_file`.
//!
//! HTTP/1.1 is the only protocol. Addresses are checked by the resolver, not here.

use super::SenderError;
use super::resolver::CheckedResolver;
use crate::certificates::{FileError, add_roots};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tower::{BoxError, Service};
use triggers_cluster_config::DeliveryOptions;
use triggers_store::kv::BoxFuture;

/// An idle connection is closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept for one endpoint.
const IDLE_MAX: usize = 8;
/// Read buffer of a connection in bytes. A larger response head is an error.
const BUFFER_BYTES_MAX: usize = 65_536;

/// The connection pool for all endpoints.
pub(super) type Pool<C> = Client<Connector<C>, Full<Bytes>>;

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

/// Creates an empty pool.
pub(super) fn pool<C: TcpConnector>(
    options: &DeliveryOptions,
    tcp: C,
) -> Result<Pool<C>, SenderError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(options.tls_ca_file.as_deref())?)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
    let connector = Connector {
        https: https.wrap_connector(tcp),
        connect_timeout: Duration::from_millis(options.connect_timeout_ms),
    };
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX);
    // An endpoint that closed an idle connection saw nothing of the request: send it once more.
    builder.retry_canceled_requests(true).http1_max_buf_size(BUFFER_BYTES_MAX);
    Ok(builder.build(connector))
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

impl<C: TcpConnector> Service<Uri> for Connector<C> {
    type Response = MaybeHttpsStream<C::Response>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (opening, limit) = (self.https.call(uri), self.connect_timeout);
        Box::pin(async move {
            timeout(limit, opening).await.unwrap_or_else(|_| Err(ConnectTimeout(limit).into()))
        })
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
