//! Cluster parts of a node with a shared store: certificates, peer listener and options.
//!
//! - `BOOT-CLUSTER-1`: no part of the cluster starts with unusable files.
//! - `BOOT-CLUSTER-2`: if certificates are configured, both ends of a link present one of the
//!   cluster's authority. The cookie comes from the store, so only nodes that can read the store
//!   can join.
//!
//! With the embedded engine nothing of this is used.

use super::error::StartError;
use super::listeners;
use crate::certificates::{FileError, add_roots, certificates, private_key};
use crate::http::tls::TlsError;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use triggers_actors::cluster::ractor::{PeerTls, RactorOptions, RactorTransport};
use triggers_actors::model::settings::StoreSettings;
use triggers_actors::{ClusterOptions, Joining, NodePeerService};
use triggers_cluster_config::NodeOptions;

const CERTIFICATE_FIELD: &str = "cluster.tls_certificate_file";
const CA_FIELD: &str = "cluster.tls_ca_file";

/// Reads the certificates for links; `None` if the options name no files.
pub(super) fn peer_tls(options: &NodeOptions) -> Result<Option<PeerTls>, TlsError> {
    let options = &options.cluster;
    let files = (&options.tls_certificate_file, &options.tls_key_file, &options.tls_ca_file);
    let (Some(certificate_file), Some(key_file), Some(ca_file)) = files else { return Ok(None) };
    let chain = certificates(CERTIFICATE_FIELD, certificate_file)?;
    let key = private_key("cluster.tls_key_file", key_file)?;
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, CA_FIELD, ca_file)?;
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error| FileError::new(CERTIFICATE_FIELD, certificate_file, error);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| FileError::new(CA_FIELD, ca_file, error))?;
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let builder = builder.with_client_cert_verifier(verifier);
            builder.with_single_cert(chain.clone(), key.clone_key())
        })
        .map_err(unusable)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
        .map_err(unusable)?;
    Ok(Some(PeerTls {
        acceptor: TlsAcceptor::from(Arc::new(server)),
        connector: TlsConnector::from(Arc::new(client)),
    }))
}

/// Binds the peer listener, starts the peer transport, and collects what the node needs to join the
/// cluster. `peer` names this process: node name and boot id. `client_address` is the address of
/// its public listener.
pub(super) async fn joining(
    options: &NodeOptions,
    settings: &StoreSettings,
    peer: &str,
    tls: Option<PeerTls>,
    client_address: SocketAddr,
) -> Result<Joining, StartError> {
    let cluster = &options.cluster;
    let (listener, address) = listeners::bind(cluster.address).await?;
    tracing::info!(%address, "peer listener ready");
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
    format!("{:x}", digest.finalize())
}
