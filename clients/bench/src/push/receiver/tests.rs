//! A receiver over a real connection: held, open, duplicates.

use super::*;
use crate::connection::Dialer;
use crate::plan::Mode;

async fn post(stream: &mut TcpStream, id: u128, payload: &str) -> String {
    let body = format!("{{\"payload\":{payload}}}");
    let request = format!(
        "POST / HTTP/1.1\r\nhost: h\r\nwebhook-id: {id:032x}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 256];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn webhooks_are_refused_until_the_gate_opens_and_then_counted_once() {
    let receivers = Receivers::start(2).await.unwrap();
    let url = receivers.urls()[0].clone();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(post(&mut stream, 1, "{}").await.starts_with("HTTP/1.1 503"));
    assert!(!receivers.have_all_refused(), "the second receiver had no webhook");

    let load = Load::new(&crate::tests::plan(Mode::Push), Dialer::new(&url).unwrap());
    let milestones = Arc::new(Milestones::new(2));
    receivers.open(Gate { load: load.clone(), milestones: Some(milestones.clone()) });
    for id in [1, 2, 2, 3] {
        assert!(post(&mut stream, id, "{}").await.starts_with("HTTP/1.1 204"), "{id}");
    }
    milestones.completed().await;
    assert_eq!((receivers.received(), receivers.duplicates()), (2, 1));
    assert_eq!(load.tallies.total().events, 2);
}

#[tokio::test]
async fn without_a_backlog_only_events_with_a_time_count() {
    let receivers = Receivers::start(1).await.unwrap();
    let url = receivers.urls()[0].clone();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let load = Load::new(&crate::tests::plan(Mode::Push), Dialer::new(&url).unwrap());
    receivers.open(Gate { load, milestones: None });
    let mut stream = TcpStream::connect(address).await.unwrap();
    post(&mut stream, 1, "{\"t\":\"00000000000000000001\",\"d\":\"\"}").await;
    post(&mut stream, 2, "{\"n\":1}").await;
    post(&mut stream, 3, "{\"t\":\"00000000000000000002\",\"d\":\"\"}").await;
    // The answer to a webhook is sent before it is counted.
    post(&mut stream, 4, "{}").await;
    assert_eq!((receivers.received(), receivers.duplicates()), (2, 0));
}
