//! Cluster parts of a node with a shared store: certificates, peer listener and options.
//!
//! - `BOOT-CLUSTER-1`: no part of the cluster starts with unusable files.
//! - `BOOT-CLUSTER-2`: if certificates are configured, both ends of a link present one of the
//!   cluster's authority. The cookie comes from the store, so only nodes that can read the store
//!   can join.
//!
//! With the embedded engine nothing of this is used.

use super::error::StartError;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use triggers_actors::ClusterOptions;
use triggers_actors::Joining;
use triggers_actors::NodePeerService;
use triggers_actors::cluster::ractor::{PeerTls, RactorOptions, RactorTransport};
use triggers_actors::model::settings::StoreSettings;
use triggers_cluster_config::NodeOptions;

/// Reads the certificates for links; `None` if the options name no files.
///
/// # Errors
/// [`StartError::Option`] naming the option at fault.
pub(super) fn tls(
    options: &triggers_cluster_config::ClusterOptions,
) -> Result<Option<PeerTls>, StartError> {
    let files = (&options.tls_certificate_file, &options.tls_key_file, &options.tls_ca_file);
    let (Some(certificate_file), Some(key_file), Some(ca_file)) = files else { return Ok(None) };
    let chain = certificates("cluster.tls_certificate_file", certificate_file)?;
    let key = || {
        PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| fault("cluster.tls_key_file", Some(key_file), error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("cluster.tls_ca_file", ca_file)? {
        roots
            .add(certificate)
            .map_err(|error| fault("cluster.tls_ca_file", Some(ca_file), error))?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable =
        |error: rustls::Error| fault("cluster.tls_certificate_file", Some(certificate_file), error);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| fault("cluster.tls_ca_file", Some(ca_file), error))?;
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), key_or(key())?)
        })
        .map_err(unusable)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_root_certificates(roots).with_client_auth_cert(chain, key_or(key())?)
        })
        .map_err(unusable)?;
    Ok(Some(PeerTls {
        acceptor: TlsAcceptor::from(Arc::new(server)),
        connector: TlsConnector::from(Arc::new(client)),
    }))
}

fn key_or(
    key: Result<PrivateKeyDer<'static>, StartError>,
) -> Result<PrivateKeyDer<'static>, rustls::Error> {
    key.map_err(|error| rustls::Error::General(error.to_string()))
}

fn certificates(field: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let all =
        CertificateDer::pem_file_iter(file).map_err(|error| fault(field, Some(file), error))?;
    let all: Vec<_> =
        all.collect::<Result<_, _>>().map_err(|error| fault(field, Some(file), error))?;
    if all.is_empty() {
        return Err(fault(field, Some(file), "the file contains no certificate"));
    }
    Ok(all)
}

fn fault(field: &str, file: Option<&Path>, reason: impl std::fmt::Display) -> StartError {
    let reason =
        file.map_or_else(|| reason.to_string(), |file| format!("{}: {reason}", file.display()));
    StartError::Option { field: field.to_owned(), reason }
}

/// Starts the peer transport and collects what the node needs to join the cluster. `peer` names
/// this process: node name and boot id.
///
/// # Errors
/// [`StartError`].
pub(super) async fn joining(
    options: &NodeOptions,
    settings: &StoreSettings,
    peer: &str,
    (listener, address): (TcpListener, SocketAddr),
    (tls, client_address): (Option<PeerTls>, SocketAddr),
) -> Result<Joining, StartError> {
    let cluster = &options.cluster;
    let peers = NodePeerService::default();
    let transport = RactorTransport::start(
        RactorOptions {
            peer: peer.to_owned(),
            cookie: cookie(settings),
            listener,
            tls,
            requests_max: cluster.peer_requests_max,
            bytes_max: cluster.peer_bytes_max,
        },
        Arc::new(peers.clone()),
    );
    let transport = transport.await.map_err(triggers_actors::StartError::Actors)?;
    let options = ClusterOptions {
        name: options.node.name.clone(),
        address: client_address.to_string(),
        peer_address: cluster.advertised_address.clone().unwrap_or_else(|| address.to_string()),
        heartbeat_interval: Duration::from_millis(cluster.heartbeat_interval_ms),
        stop_after: Duration::from_millis(cluster.stop_after_ms),
        take_over_after: Duration::from_millis(cluster.take_over_after_ms),
        transfers_in_flight_max: cluster.transfers_in_flight_max,
    };
    Ok(Joining { options, transport: Arc::new(transport), peers })
}

/// The shared secret of the nodes, derived from a secret in the store by a one-way hash.
fn cookie(settings: &StoreSettings) -> String {
    let digest = Sha256::new()
        .chain_update("triggers: cookie of the members")
        .chain_update(settings.cursor_secret);
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
