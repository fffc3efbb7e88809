//! Tests of the accept loop over real sockets.
//!
//! They wait for responses and closed connections, never for a fixed time.

use super::*;
use crate::http::respond::{Responder, around};
use axum::body::Body;
use axum::extract::Extension;
use axum::http::Request;
use axum::routing::get;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\n\r\n";
const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(router: Router, options: ListenOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        let task = tokio::spawn(serve(listener, router, None, options, shutdown));
        Self { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn wait_until_stopped(self) {
        tokio::time::timeout(DEADLINE, self.task).await.expect("the server ends").unwrap();
    }
}

/// Reads until the peer closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection is closed");
    // A reset also closes the connection.
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn some(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4_096];
    let count =
        tokio::time::timeout(DEADLINE, stream.read(&mut bytes)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn echo() -> Router {
    Router::new().route(
        "/",
        get(async |Extension(peer): Extension<crate::http::client_address::Peer>| {
            peer.address.to_string()
        }),
    )
}

#[tokio::test]
async fn the_peer_is_known_to_handlers() {
    let running = Running::start(echo(), ListenOptions::default()).await;
    let mut stream = running.connect().await;
    stream.write_all(GET).await.unwrap();
    let answer = some(&mut stream).await;
    assert!(answer.ends_with(&stream.local_addr().unwrap().to_string()), "{answer}");
}

#[tokio::test]
async fn a_connection_without_a_complete_head_is_closed() {
    let options = ListenOptions { header_timeout_ms: 200, ..ListenOptions::default() };
    let running = Running::start(echo(), options).await;
    for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nx: "] {
        let mut stream = running.connect().await;
        stream.write_all(sent).await.unwrap();
        rest(&mut stream).await;
    }
    let mut stream = running.connect().await;
    stream.write_all(GET).await.unwrap();
    assert!(some(&mut stream).await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    assert_eq!(rest(&mut stream).await, "", "CONNECTION-1: half a head after a request");
}

#[tokio::test]
async fn connections_over_the_maximum_wait() {
    let options = ListenOptions { connections_max: 1, ..ListenOptions::default() };
    let running = Running::start(echo(), options).await;
    let mut first = running.connect().await;
    first.write_all(GET).await.unwrap();
    assert!(some(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = running.connect().await;
    second.write_all(GET).await.unwrap();
    drop(first);
    assert!(some(&mut second).await.starts_with("HTTP/1.1 200"), "SERVER-1");
}

#[tokio::test]
async fn connections_of_one_address_are_limited_without_a_proxy() {
    let options = ListenOptions { connections_per_address_max: 1, ..ListenOptions::default() };
    let running = Running::start(echo(), options.clone()).await;
    let mut first = running.connect().await;
    first.write_all(GET).await.unwrap();
    assert!(some(&mut first).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut running.connect().await).await, "", "SERVER-1");
    let proxied =
        Running::start(echo(), ListenOptions { is_behind_tls_proxy: true, ..options }).await;
    let mut both = [proxied.connect().await, proxied.connect().await];
    for stream in &mut both {
        stream.write_all(GET).await.unwrap();
        assert!(
            some(stream).await.starts_with("HTTP/1.1 200"),
            "all connections from a proxy have its address"
        );
    }
}

#[tokio::test]
async fn a_stop_answers_requests_that_began_and_closes_idle_connections() {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, release) = (begun.clone(), release.clone());
        async move || {
            begun.notify_one();
            release.notified().await;
            "done"
        }
    };
    let running =
        Running::start(Router::new().route("/", get(handler)), ListenOptions::default()).await;
    let mut idle = running.connect().await;
    let mut busy = running.connect().await;
    busy.write_all(GET).await.unwrap();
    begun.notified().await;
    running.stop.send(true).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    release.notify_one();
    let answer = rest(&mut busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"),
        "CONNECTION-2: {answer}"
    );
    drop((idle, busy));
    running.wait_until_stopped().await;
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_timeout_is_cut_off() {
    let begun = Arc::new(Notify::new());
    let handler = {
        let begun = begun.clone();
        async move || {
            begun.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let options = ListenOptions { drain_timeout_ms: 100, ..ListenOptions::default() };
    let running = Running::start(Router::new().route("/", get(handler)), options).await;
    let mut busy = running.connect().await;
    busy.write_all(GET).await.unwrap();
    begun.notified().await;
    running.stop.send(true).unwrap();
    running.wait_until_stopped().await;
    assert_eq!(rest(&mut busy).await, "", "SERVER-3");
}

/// More bytes than the buffers between two sockets hold.
const LARGE_BYTES: usize = 64 << 20;

/// Starts a server with one large response. The second value is notified of each request.
async fn large(change: impl FnOnce(&mut ListenOptions)) -> (Running, Arc<Notify>) {
    let begun = Arc::new(Notify::new());
    let handler = {
        let begun = begun.clone();
        async move || {
            begun.notify_one();
            vec![b'x'; LARGE_BYTES]
        }
    };
    let mut options = NodeOptions::default();
    // Longer than the test, so that only `response_timeout_ms` can end the connection.
    (options.listen.request_timeout_ms, options.listen.drain_timeout_ms) = (600_000, 600_000);
    change(&mut options.listen);
    let responder = Responder::new(Environment::system(), &options);
    (
        Running::start(around(Router::new().route("/", get(handler)), responder), options.listen)
            .await,
        begun,
    )
}

#[tokio::test]
async fn a_response_that_is_not_read_ends_its_connection() {
    let (running, begun) = large(|listen| listen.response_timeout_ms = 200).await;
    let mut stuck = running.connect().await;
    stuck.write_all(GET).await.unwrap();
    begun.notified().await;
    running.stop.send(true).unwrap();
    running.wait_until_stopped().await;
    assert!(rest(&mut stuck).await.len() < LARGE_BYTES, "SERVER-2");
}

async fn http2(running: &Running) -> (http2::SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(running.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

#[tokio::test]
async fn an_http2_response_that_is_not_read_ends_its_connection() {
    let (running, _) = large(|listen| listen.response_timeout_ms = 200).await;
    let (mut sender, connection) = http2(&running).await;
    let answer = sender.send_request(Request::new(Body::empty())).await.unwrap();
    assert_eq!(answer.status(), 200);
    tokio::time::timeout(DEADLINE, connection).await.expect("SERVER-2").unwrap().ok();
    drop(answer);
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let options = ListenOptions { idle_timeout_ms: 200, ..ListenOptions::default() };
    let running = Running::start(echo(), options).await;
    let (mut sender, connection) = http2(&running).await;
    assert_eq!(sender.send_request(Request::new(Body::empty())).await.unwrap().status(), 200);
    let ended = tokio::time::timeout(DEADLINE, connection).await.expect("CONNECTION-1").unwrap();
    assert!(ended.is_ok(), "the connection is closed gracefully: {ended:?}");
    drop(sender);
}
