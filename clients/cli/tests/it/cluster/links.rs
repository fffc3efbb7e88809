//! Tests of the cluster listener with mutual TLS against clients that are not nodes of the cluster.
//!
//! - LINKS-T-1: a client without a certificate, or with one from another CA, gets no connection.
//! - LINKS-T-2: a client with a certificate but without the cookie gets no session and cannot call.
//! - LINKS-T-3: garbage and oversized frames close their connection; the links between nodes stay.

use super::fleet::Fleet;
use crate::harness::{STATE_DEADLINE_MS, process, wait_until};
use ractor::Actor;
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{NodeServer, NodeServerMessage, client_connect_enc};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const REJECTED: &str = "a peer connection was rejected";
const GONE: &str = "exited with";

async fn make_certificates(directory: &Path, nodes: &str) {
    let out = directory.to_str().unwrap();
    let made = process::run(&["cluster", "certs", "--out", out, "--node", nodes], &[]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A TLS client that trusts the CA in `trusts` and presents the certificate in `shows`, if any.
fn connector(trusts: &Path, shows: Option<(&Path, &str)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&trusts.join("ca.pem")) {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some((directory, name)) => {
            let key =
                PrivateKeyDer::from_pem_file(directory.join(format!("{name}-key.pem"))).unwrap();
            builder
                .with_client_auth_cert(certificates(&directory.join(format!("{name}.pem"))), key)
                .unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

async fn connect(connector: &TlsConnector, address: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect(ServerName::try_from("node-1").unwrap(), stream).await
}

/// Sends bytes and waits for the other side to close the connection.
async fn is_closed(stream: std::io::Result<TlsStream<TcpStream>>, bytes: &[u8]) {
    // With TLS 1.3 a rejection arrives after the client's part of the handshake.
    let Ok(mut stream) = stream else { return };
    if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(
        Duration::from_millis(STATE_DEADLINE_MS),
        stream.read_to_end(&mut rest),
    )
    .await;
    assert!(ended.is_ok(), "the connection stays open");
}

/// Waits for `more` lines with this message beyond those logged `before`.
async fn logs(fleet: &Fleet, message: &str, before: usize, more: usize) {
    wait_until(STATE_DEADLINE_MS, message, || async {
        fleet.node("node-1").times_logged(message) >= before + more
    })
    .await;
}

async fn is_linked(fleet: &Fleet) {
    wait_until(STATE_DEADLINE_MS, "the nodes are linked", || async {
        let Some(view) = fleet.node("node-1").view().await else { return false };
        let members = view["members"].as_array().unwrap();
        members.len() == 2 && members.iter().all(|member| member["link"] != "down")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_nodes_of_the_cluster_are_admitted() {
    let (own, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make_certificates(own.path(), "node-1,node-2,guest").await;
    make_certificates(foreign.path(), "node-2").await;
    let file = |name: &str| own.path().join(name).to_str().unwrap().to_owned();
    let tls = vec![
        ("TRIGGERS__CLUSTER__TLS_CERTIFICATE_FILE".to_owned(), file("{name}.pem")),
        ("TRIGGERS__CLUSTER__TLS_KEY_FILE".to_owned(), file("{name}-key.pem")),
        ("TRIGGERS__CLUSTER__TLS_CA_FILE".to_owned(), file("ca.pem")),
    ];
    let Some(fleet) = Fleet::start_with(&["node-1", "node-2"], tls).await else { return };
    fleet.balanced().await;
    is_linked(&fleet).await;
    let address = fleet.node("node-1").peers.address.to_string();

    let rejected = fleet.node("node-1").times_logged(REJECTED);
    let hello = [0, 0, 0, 0, 0, 0, 0, 1, 0];
    is_closed(connect(&connector(own.path(), None), &address).await, &hello).await;
    let stranger = connector(own.path(), Some((foreign.path(), "node-2")));
    is_closed(connect(&stranger, &address).await, &hello).await;
    // LINKS-T-1: the node logs the line after the connection has ended.
    logs(&fleet, REJECTED, rejected, 2).await;

    let guest = connector(own.path(), Some((own.path(), "guest")));
    let gone = fleet.node("node-1").times_logged(GONE);
    let garbage = [&64_u64.to_be_bytes()[..], &[0xff; 64]].concat();
    for bytes in [&garbage[..], &u64::MAX.to_be_bytes()[..], &(17_u64 << 20).to_be_bytes()[..]] {
        let stream = connect(&guest, &address).await.expect("LINKS-T-3: its certificate is good");
        is_closed(Ok(stream), bytes).await;
    }

    logs(&fleet, GONE, gone, 3).await;
    let cookie = "not the cookie of this cluster".to_owned();
    let mode = Some(NodeConnectionMode::Isolated);
    let server =
        NodeServer::new(0, cookie, "guest@0".to_owned(), "triggers".to_owned(), None, mode);
    let server = server.with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (server, _) = Actor::spawn(None, server, ()).await.unwrap();
    let name = ServerName::try_from("node-1").unwrap();
    let gone = fleet.node("node-1").times_logged(GONE);
    client_connect_enc(&server, &address, guest, name)
        .await
        .expect("LINKS-T-2: its certificate is good");
    logs(&fleet, GONE, gone, 1).await;
    wait_until(STATE_DEADLINE_MS, "LINKS-T-2: the guest has no session", || async {
        ractor::call_t!(server, NodeServerMessage::GetSessions, 5_000).unwrap().is_empty()
    })
    .await;
    let incarnation =
        fleet.node("node-1").view().await.unwrap()["incarnation"].as_str().unwrap().to_owned();
    let group = format!("gw/{}", incarnation.rsplit_once('.').unwrap().0);
    assert!(ractor::pg::get_members(&group).is_empty(), "LINKS-T-2: the gateway is not visible");
    server.stop(None);

    is_linked(&fleet).await;
    let both = ["node-1", "node-2"].map(|name| fleet.client(name));
    both[0]
        .post("/v1/tenants", &serde_json::json!({ "id": "after", "name": "After" }))
        .await
        .expect(201);
    both[1].get("/v1/tenants/after").await.expect(200);
}
