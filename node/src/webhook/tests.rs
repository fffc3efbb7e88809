//! Runs the sender against real endpoints: what it sends and how it classifies each behaviour.
//!
//! Tests with a slow endpoint compare the outcome only, never the elapsed time. `triggers-actors`
//! tests what an outcome means for the event.

mod endpoint;

use super::resolver::CheckedResolver;
use super::{HttpSender, TargetPolicy};
use endpoint::{Behaviour, Endpoint};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use triggers_actors::{NodeFault, SendFailure, SendOutcome, Webhook, WebhookSender as _};
use triggers_cluster_config::{DeliveryOptions, ListenOptions};
use triggers_protocol::event::EventState;
use triggers_protocol::webhook::{SignedHeaders, SigningKey, verify};
use triggers_protocol::{Environment, Event, EventId, EventType, Metadata, Timestamp};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ID: &str = "019b76da-a800-7000-8000-000000000001";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PAYLOAD: &str = r#"{ "a" : 1.0 }"#;

/// The defaults, but loopback endpoints may be called, also without TLS.
fn options() -> DeliveryOptions {
    let allowed_targets = vec!["127.0.0.0/8".to_owned()];
    DeliveryOptions { is_https_required: false, allowed_targets, ..DeliveryOptions::default() }
}

fn sender(options: &DeliveryOptions) -> HttpSender {
    HttpSender::new(options, Environment::system()).unwrap()
}

fn webhook(target_url: impl Into<String>) -> Webhook {
    let event = Event {
        id: EventId::parse(ID).unwrap(),
        received_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        event_type: EventType::parse("order.created").unwrap(),
        timestamp: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
        payload: PAYLOAD.into(),
        metadata: Arc::new(Metadata {
            trace_parent: Some(TRACE.to_owned()),
            ..Metadata::default()
        }),
        state: EventState::ACCEPTED,
    };
    let keys = vec![SigningKey::Ed25519([7; 32]), SigningKey::HmacSha256(vec![9; 32])];
    let at = Timestamp::parse("2026-01-01T00:00:01Z").unwrap();
    Webhook { event, target_url: target_url.into(), keys, at }
}

async fn send(options: &DeliveryOptions, target_url: impl Into<String>) -> SendOutcome {
    sender(options).send(webhook(target_url)).await
}

fn answered(status: u16) -> SendOutcome {
    SendOutcome::Answered { status, retry_after: None }
}

/// Status, failure and reason of a failed attempt.
fn failed(outcome: SendOutcome) -> (Option<u16>, SendFailure, String) {
    match outcome {
        SendOutcome::Failed { status, failure, reason } => (status, failure, reason),
        SendOutcome::Answered { .. } => panic!("{outcome:?}"),
    }
}

/// Starts an endpoint with a certificate for `name`; the directory contains it as `ca.pem`.
async fn secure_endpoint(name: &str) -> (Endpoint, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        Some(file)
    };
    let tls: TlsAcceptor = crate::http::tls::load(&ListenOptions {
        tls_certificate_file: write("ca.pem", made.cert.pem()),
        tls_key_file: write("key.pem", made.signing_key.serialize_pem()),
        ..ListenOptions::default()
    })
    .unwrap()
    .unwrap();
    (Endpoint::start_with_tls(Behaviour::Answer(OK.to_owned()), tls).await, directory)
}

fn ca_file(directory: &Path) -> Option<PathBuf> {
    Some(directory.join("ca.pem"))
}

#[tokio::test]
async fn the_event_is_sent_and_signed() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    let url = endpoint.url("http", "/hooks?key=a%20b");
    assert_eq!(send(&options(), url).await, answered(200));
    let received = endpoint.requests().remove(0);
    assert!(received.head.starts_with("POST /hooks?key=a%20b HTTP/1.1\r\n"), "{}", received.head);
    let header =
        |name: &str| received.header(name).unwrap_or_else(|| panic!("{name}: {}", received.head));
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("accept"), "*/*");
    assert_eq!(header("user-agent"), concat!("Triggers/", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("host"), endpoint.address().to_string());
    assert_eq!(header("traceparent"), TRACE);
    let signed = SignedHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signatures: header("webhook-signature"),
    };
    assert_eq!((signed.id, signed.timestamp), (ID, "1767225601"), "WEBHOOK-REQUEST-1");
    let sent = webhook("");
    for key in &sent.keys {
        assert_eq!(
            verify(&key.verifying_key(), signed, &received.body, sent.at),
            Ok(()),
            "WEBHOOK-REQUEST-1"
        );
    }
    let body = String::from_utf8(received.body.clone()).unwrap();
    assert!(
        body.starts_with(&format!("{{\"event_id\":\"{ID}\",")) && body.contains(PAYLOAD),
        "WEBHOOK-REQUEST-1: {body}"
    );
}

#[tokio::test]
async fn a_malformed_trace_parent_is_not_sent() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    let mut webhook = webhook(endpoint.url("http", "/"));
    webhook.event.metadata = Arc::new(Metadata {
        trace_parent: Some("a\r\nx-injected: 1".to_owned()),
        ..Metadata::default()
    });
    assert_eq!(sender(&options()).send(webhook).await, answered(200));
    let received = endpoint.requests().remove(0);
    assert_eq!(
        (received.header("traceparent"), received.header("x-injected")),
        (None, None),
        "WEBHOOK-REQUEST-2"
    );
}

#[tokio::test]
async fn a_damaged_event_is_not_sent() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    let mut webhook = webhook(endpoint.url("http", "/"));
    webhook.event.payload = "{".into();
    let (status, failure, reason) = failed(sender(&options()).send(webhook).await);
    assert_eq!((status, failure), (None, SendFailure::Node(NodeFault::Request)), "{reason}");
    assert_eq!(endpoint.connections(), 0);
}

#[tokio::test]
async fn every_status_is_an_answer_and_none_is_followed() {
    let other = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    for status in [301, 302, 307, 308] {
        let location = other.url("http", "/");
        let head =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let endpoint = Endpoint::start(Behaviour::Answer(head)).await;
        assert_eq!(send(&options(), endpoint.url("http", "/")).await, answered(status), "SENDER-2");
    }
    assert_eq!(other.connections(), 0, "SENDER-2");
    let busy = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let endpoint = Endpoint::start(Behaviour::Answer(busy.to_owned())).await;
    let expected = SendOutcome::Answered { status: 503, retry_after: Some(Duration::from_secs(7)) };
    assert_eq!(send(&options(), endpoint.url("http", "/")).await, expected);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    let sender = sender(&options());
    // A connection returns to the pool a moment after its answer was read.
    let used_again = async {
        loop {
            assert_eq!(sender.send(webhook(endpoint.url("http", "/"))).await, answered(200));
            if endpoint.connections() < endpoint.requests().len() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), used_again)
        .await
        .expect("SENDER-4: no connection is used again");
}

#[tokio::test]
async fn an_unused_connection_is_closed() {
    let (endpoint, directory) = secure_endpoint("127.0.0.1").await;
    let short = DeliveryOptions {
        tls_ca_file: ca_file(directory.path()),
        idle_timeout_ms: 100,
        ..options()
    };
    let sender = sender(&short);
    for number in 1..3 {
        let url = endpoint.url("https", "/");
        assert_eq!(sender.send(webhook(url)).await, answered(200));
        let closed = async {
            while endpoint.ended() < number {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), closed).await.expect("POOL-2");
    }
    assert_eq!(endpoint.connections(), 2, "POOL-1");
}

#[tokio::test]
async fn no_connection_is_kept_without_idle_time() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    let sender = sender(&DeliveryOptions { idle_timeout_ms: 0, ..options() });
    for _ in 0..3 {
        assert_eq!(sender.send(webhook(endpoint.url("http", "/"))).await, answered(200));
    }
    assert_eq!(endpoint.connections(), 3, "POOL-1");
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_was_sent() {
    let rejection = "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let endpoint = Endpoint::start(Behaviour::AnswerAtOnce(rejection.to_owned())).await;
    let mut webhook = webhook(endpoint.url("http", "/"));
    webhook.event.payload = format!("{{\"x\":\"{}\"}}", "x".repeat(16 << 20)).into();
    assert_eq!(sender(&options()).send(webhook).await, answered(413), "SENDER-2");
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    // Bound but not listening, so that the port is nobody else's meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    let outcome = failed(send(&options(), format!("http://{address}/")).await);
    assert_eq!(outcome, (None, SendFailure::Connect, "connection refused".to_owned()));
}

#[tokio::test]
async fn a_name_without_address_is_a_dns_failure() {
    // Long timeouts, so that a slow resolver does not make this a timeout.
    let patient =
        DeliveryOptions { connect_timeout_ms: 60_000, attempt_timeout_ms: 60_000, ..options() };
    let outcome = failed(send(&patient, "http://nothing.invalid/").await);
    assert_eq!(outcome, (None, SendFailure::Dns, "the host name has no address".to_owned()));
}

/// Sends 100 webhooks at once, each to the host that `host` names.
async fn burst(endpoint: &Endpoint, host: impl Fn(usize) -> String) -> Vec<SendOutcome> {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let slow = move |_: &str| {
        std::thread::sleep(Duration::from_millis(20));
        Ok(vec![loopback])
    };
    let policy = Arc::new(TargetPolicy::from_options(&options()).unwrap());
    let resolver = CheckedResolver::with(Arc::new(slow), &options(), policy.clone());
    let tcp = super::connector::system(&options(), resolver);
    let sender = HttpSender::over(&options(), Environment::system(), tcp, policy).unwrap();
    let port = endpoint.address().port();
    let webhooks = (0..100).map(|n| webhook(format!("http://{}:{port}/", host(n))));
    futures_util::future::join_all(webhooks.map(|webhook| sender.send(webhook))).await
}

#[tokio::test]
async fn a_burst_to_one_host_or_one_zone_has_no_failed_attempt() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    for outcome in burst(&endpoint, |_| "hooks.partner.example".to_owned()).await {
        assert_eq!(outcome, answered(200), "RESOLVER-2");
    }
    for outcome in burst(&endpoint, |n| format!("tenant-{n}.zapier.example")).await {
        assert_eq!(outcome, answered(200), "RESOLVER-3");
    }
}

#[tokio::test]
async fn no_connection_is_opened_to_a_forbidden_target() {
    let endpoint = Endpoint::start(Behaviour::Answer(OK.to_owned())).await;
    let port = endpoint.address().port();
    let strict = DeliveryOptions { allowed_targets: Vec::new(), ..options() };
    for host in [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
    ] {
        let (status, failure, reason) =
            failed(send(&strict, format!("http://{host}:{port}/")).await);
        assert_eq!((status, failure), (None, SendFailure::Forbidden), "SENDER-3: {host}: {reason}");
        assert!(!reason.contains("127.0.0.1") && !reason.contains("::1"), "FAULT-1: {reason}");
    }
    let secure = DeliveryOptions { is_https_required: true, ..options() };
    let (_, failure, reason) = failed(send(&secure, endpoint.url("http", "/")).await);
    assert_eq!(failure, SendFailure::Forbidden, "SENDER-3: {reason}");
    assert!(reason.starts_with("target_url must be an https:// URL"), "{reason}");
    assert_eq!(endpoint.connections(), 0, "WEBHOOK-HTTP-1");
}

#[tokio::test]
async fn a_silent_endpoint_times_out() {
    let endpoint = Endpoint::start(Behaviour::Silence).await;
    let read = DeliveryOptions { read_timeout_ms: 200, ..options() };
    let outcome = failed(send(&read, endpoint.url("http", "/")).await);
    assert_eq!(outcome, (None, SendFailure::Timeout, "no answer within 200 ms".to_owned()));
    let attempt = DeliveryOptions { attempt_timeout_ms: 200, ..options() };
    let (status, failure, reason) = failed(send(&attempt, endpoint.url("http", "/")).await);
    assert_eq!((status, failure), (None, SendFailure::Timeout), "SENDER-1: {reason}");
    // An unanswered TLS handshake counts as connecting.
    let connect = DeliveryOptions { connect_timeout_ms: 200, ..options() };
    let outcome = failed(send(&connect, endpoint.url("https", "/")).await);
    assert_eq!(
        outcome,
        (None, SendFailure::Timeout, "no connection within 200 ms".to_owned()),
        "CONNECTOR-1"
    );
}

#[tokio::test]
async fn an_endless_body_does_not_hold_the_attempt() {
    let endless = Endpoint::start(Behaviour::Chunks { bytes: 1_024, pause: Duration::ZERO }).await;
    assert_eq!(
        send(&options(), endless.url("http", "/")).await,
        answered(200),
        "SENDER-2: the status has arrived"
    );
    for pause in [Duration::from_millis(20), Duration::from_secs(3_600)] {
        let slow = Endpoint::start(Behaviour::Chunks { bytes: 1, pause }).await;
        assert_eq!(send(&options(), slow.url("http", "/")).await, answered(200), "SENDER-2");
    }
}

#[tokio::test]
async fn a_body_announced_as_too_large_is_not_read() {
    let head = "HTTP/1.1 400 No\r\ncontent-length: 65537\r\n\r\n";
    let endpoint = Endpoint::start(Behaviour::Answer(head.to_owned())).await;
    assert_eq!(send(&options(), endpoint.url("http", "/")).await, answered(400), "SENDER-2");
}

#[tokio::test]
async fn malformed_answers_are_protocol_failures() {
    let large = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(3_000);
    for (text, expected) in [
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer is not HTTP"),
        ("", "the connection ended before the answer"),
        (large.as_str(), "the head of the answer is too large"),
    ] {
        let endpoint = Endpoint::start(Behaviour::AnswerAndClose(text.to_owned())).await;
        let outcome = failed(send(&options(), endpoint.url("http", "/")).await);
        let shown = text.lines().next();
        assert_eq!(
            outcome,
            (None, SendFailure::Protocol, expected.to_owned()),
            "SENDER-2: {shown:?}"
        );
    }
}

#[tokio::test]
async fn a_truncated_body_does_not_change_the_status() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    ] {
        let endpoint = Endpoint::start(Behaviour::AnswerAndClose(text.to_owned())).await;
        assert_eq!(
            send(&options(), endpoint.url("http", "/")).await,
            answered(200),
            "SENDER-2: {text:?}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_without_tls_is_a_tls_failure() {
    let rejection = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let endpoint = Endpoint::start(Behaviour::AnswerAtOnce(rejection.to_owned())).await;
    let (status, failure, reason) = failed(send(&options(), endpoint.url("https", "/")).await);
    assert_eq!((status, failure), (None, SendFailure::Tls), "CONNECTOR-2: {reason}");
}

#[tokio::test]
async fn a_certificate_needs_a_known_authority() {
    let (endpoint, directory) = secure_endpoint("127.0.0.1").await;
    let url = endpoint.url("https", "/");
    let outcome = failed(send(&options(), url.clone()).await);
    let reason = "the certificate was issued by an unknown authority".to_owned();
    assert_eq!(outcome, (None, SendFailure::Tls, reason), "CONNECTOR-2");
    assert_eq!(endpoint.requests().len(), 0);
    let known = DeliveryOptions {
        tls_ca_file: ca_file(directory.path()),
        is_https_required: true,
        ..options()
    };
    assert_eq!(send(&known, url).await, answered(200), "CONNECTOR-2");
    assert_eq!(endpoint.requests().len(), 1);
}

#[tokio::test]
async fn a_certificate_for_another_host_is_rejected() {
    let (endpoint, directory) = secure_endpoint("other.example").await;
    let known = DeliveryOptions { tls_ca_file: ca_file(directory.path()), ..options() };
    let (status, failure, reason) = failed(send(&known, endpoint.url("https", "/")).await);
    assert_eq!((status, failure), (None, SendFailure::Tls), "CONNECTOR-2");
    assert!(reason.starts_with("the certificate is not valid for this host: "), "{reason}");
}
