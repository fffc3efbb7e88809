//! Nodes show each other these certificates over TLS, on a pipe in memory.
//!
//! Both sides require a certificate of the cluster's authority, and the client checks the server's
//! name, as nodes do.

use super::*;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn arguments(out: &Path, nodes: &[&str]) -> CertsArguments {
    let nodes = nodes.iter().map(|node| node.to_string()).collect();
    CertsArguments {
        out: out.to_owned(),
        nodes,
        hosts: Vec::new(),
        days: 825,
        ca_days: 3_650,
        force: false,
    }
}

fn made(arguments: &CertsArguments) -> Vec<String> {
    let made = make(arguments, &Environment::system()).unwrap();
    made.iter().map(|made| made.file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn roots(out: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(out.join("ca.pem")).unwrap()).unwrap();
    Arc::new(roots)
}

fn identity(out: &Path, node: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_file(certificate_file(out, node)).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_file(key_file(out, node)).unwrap())
}

/// Whether `client`, with the files in its directory, and `server` with its own can talk, the
/// client asking for `name`.
async fn can_talk(client: (&Path, &str), server: (&Path, &str), name: &str) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(server.0), provider.clone())
        .build()
        .unwrap();
    let (chain, key) = identity(server.0, server.1);
    let accepting = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let accepting =
        accepting.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let (chain, key) = identity(client.0, client.1);
    let connecting = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let connecting = connecting
        .with_root_certificates(roots(client.0))
        .with_client_auth_cert(chain, key)
        .unwrap();

    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(accepting)).accept(far).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    };
    let ask = async {
        let mut stream = TlsConnector::from(Arc::new(connecting)).connect(name, near).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map(|_| text)
    };
    // One side rejects the other, so do not wait for both.
    let (served, asked) = tokio::join!(serve, ask);
    served.is_ok() && asked.is_ok_and(|text| text == "hello")
}

#[tokio::test]
async fn nodes_of_one_authority_talk_and_ask_for_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("cluster");
    let files = made(&CertsArguments {
        hosts: vec!["10.0.0.1".to_owned(), "Node.example".to_owned()],
        ..arguments(&out, &["node-2", "node-1", "node-2"])
    });
    let expected =
        ["ca.pem", "ca-key.pem", "node-1.pem", "node-1-key.pem", "node-2.pem", "node-2-key.pem"];
    assert_eq!(files, expected);
    let [one, two] = ["node-1", "node-2"].map(|node| (out.as_path(), node));
    for name in ["node-2", "10.0.0.1", "node.example"] {
        assert!(can_talk(one, two, name).await, "{name}");
    }
    assert!(can_talk(two, one, "node-1").await);
    assert!(!can_talk(one, two, "node-1").await, "the name of another node");
    assert!(!can_talk(one, two, "10.0.0.2").await);
}

#[tokio::test]
async fn nodes_of_another_authority_are_refused_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| directory.path().join(name));
    made(&arguments(&here, &["a", "b"]));
    made(&arguments(&there, &["a", "b"]));
    std::fs::copy(here.join("ca.pem"), there.join("ca.pem")).unwrap();
    assert!(!can_talk((&here, "a"), (&there, "b"), "b").await, "the server's");
    assert!(!can_talk((&there, "a"), (&here, "b"), "b").await, "the client's");
    assert!(can_talk((&here, "a"), (&here, "b"), "b").await);
}

#[tokio::test]
async fn a_second_run_adds_a_node_under_the_same_authority() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    made(&arguments(out, &["a"]));
    let authority = std::fs::read(out.join("ca.pem")).unwrap();
    assert_eq!(made(&arguments(out, &["b"])), ["b.pem", "b-key.pem"]);
    assert_eq!(std::fs::read(out.join("ca.pem")).unwrap(), authority);
    assert!(can_talk((out, "a"), (out, "b"), "b").await);
    assert!(can_talk((out, "b"), (out, "a"), "a").await);
}

#[test]
fn nothing_is_replaced_unless_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    made(&arguments(out, &["a"]));
    let before = std::fs::read(out.join("a.pem")).unwrap();
    let error = make(&arguments(out, &["b", "a"]), &Environment::system()).unwrap_err();
    assert!(
        error.to_string().contains("a.pem") && error.to_string().contains("--force"),
        "CERTS-2: {error}"
    );
    assert_eq!(std::fs::read(out.join("a.pem")).unwrap(), before);
    assert!(!out.join("b.pem").exists(), "CERTS-1");
    made(&CertsArguments { force: true, ..arguments(out, &["b", "a"]) });
    assert_ne!(std::fs::read(out.join("a.pem")).unwrap(), before);
}

#[test]
fn private_keys_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    made(&arguments(out, &["a"]));
    std::fs::set_permissions(out.join("a-key.pem"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    made(&CertsArguments { force: true, ..arguments(out, &["a"]) });
    for file in ["ca-key.pem", "a-key.pem"] {
        let mode = std::fs::metadata(out.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "CERTS-3: {file}");
    }
}

#[test]
fn an_authority_that_is_not_whole_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| directory.path().join(name));
    made(&arguments(&here, &["a"]));
    made(&arguments(&there, &["a"]));
    let refusal =
        || make(&arguments(&here, &["b"]), &Environment::system()).unwrap_err().to_string();

    std::fs::copy(there.join("ca.pem"), here.join("ca.pem")).unwrap();
    assert!(refusal().contains("belong together"), "AUTHORITY-1: {}", refusal());
    std::fs::write(here.join("ca.pem"), "nonsense").unwrap();
    assert!(!refusal().is_empty());
    std::fs::remove_file(here.join("ca.pem")).unwrap();
    assert!(refusal().contains("ca.pem is not"), "{}", refusal());
    assert!(!here.join("b.pem").exists(), "CERTS-1");
}
