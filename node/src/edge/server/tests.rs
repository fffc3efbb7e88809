//! Tests of the accept loop over real sockets: what a connection gets, and how it ends.
//!
//! They wait for answers and ends of streams, never for time to pass.

use super::*;
use axum::extract::Extension;
use axum::routing::get;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

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

    async fn ended(self) {
        tokio::time::timeout(DEADLINE, self.task).await.expect("the server ends").unwrap();
    }
}

/// Everything until the peer closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    // A reset is an end as well.
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn some(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4_096];
    let count = tokio::time::timeout(DEADLINE, stream.read(&mut bytes)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn echo() -> Router {
    Router::new().route(
        "/",
        get(async |Extension(peer): Extension<crate::edge::client_address::PeerAddress>| peer.0.to_string()),
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
async fn silence_and_half_a_head_are_closed() {
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
    assert_eq!(rest(&mut stream).await, "", "CONNECTION-1: half a head after a whole request");
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
async fn stopping_answers_what_began_and_closes_the_rest() {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, release) = (begun.clone(), release.clone());
        async move || {
            begun.notify_one();
            release.notified().await;
            "done"
        }
    };
    let running = Running::start(Router::new().route("/", get(handler)), ListenOptions::default()).await;
    let mut idle = running.connect().await;
    let mut busy = running.connect().await;
    busy.write_all(GET).await.unwrap();
    begun.notified().await;
    running.stop.send(true).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    release.notify_one();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "CONNECTION-2: {answer}");
    drop((idle, busy));
    running.ended().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_ended() {
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
    running.ended().await;
    assert_eq!(rest(&mut busy).await, "", "SERVER-3");
}
