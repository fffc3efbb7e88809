//! Tests of the limits on bodies without a connection. The tests of the server cover connections.

use super::*;
use futures_util::StreamExt as _;

const BYTES: usize = 200_000;
const MINUTE: Duration = Duration::from_secs(60);

fn response(content_type: &'static str) -> Response {
    let bytes: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(content_type));
    response
}

#[tokio::test]
async fn bytes_count_until_the_last_one_is_dropped() {
    let gate = Admission::new(usize::MAX, BYTES);
    let limited = limit(response("application/json"), &gate, None, MINUTE).unwrap();
    assert_eq!(limited.body().size_hint().exact(), Some(BYTES as u64), "the length stays known");
    let rejected = limit(response("application/json"), &gate, None, MINUTE);
    assert_eq!(rejected.err(), Some(Rejected::Busy), "SENDING-1");
    let pieces: Vec<Bytes> =
        limited.into_body().into_data_stream().map(|piece| piece.unwrap()).collect().await;
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
    let bytes: Vec<u8> = pieces.concat();
    assert_eq!(bytes.len(), BYTES);
    assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == (index % 251) as u8));
    let rejected = limit(response("application/json"), &gate, None, MINUTE);
    assert!(rejected.is_err(), "SENDING-2: the body was dropped, but not its bytes");
    drop(pieces);
    assert!(limit(response("application/json"), &gate, None, MINUTE).is_ok());
}

#[tokio::test]
async fn event_streams_and_small_responses_do_not_count() {
    let gate = Admission::new(0, 0);
    assert!(limit(response("text/event-stream"), &gate, None, MINUTE).is_ok());
    assert!(limit(Response::new(Body::from("small")), &gate, None, MINUTE).is_ok());
    assert!(limit(response("application/json"), &gate, None, MINUTE).is_err());
}

#[tokio::test]
async fn a_connection_is_notified_of_an_overdue_response() {
    let gate = Admission::new(usize::MAX, usize::MAX);
    let deadlines = Arc::new(ResponseDeadlines::default());
    let overdue = tokio::spawn({
        let deadlines = deadlines.clone();
        async move { deadlines.overdue().await }
    });
    // Lets the task begin to wait for a first response.
    tokio::task::yield_now().await;
    let limited =
        |timeout| limit(response("application/json"), &gate, Some(&deadlines), timeout).unwrap();
    drop(limited(Duration::ZERO));
    assert_eq!(deadlines.first(), None, "a dropped response has no deadline");
    let _later = limited(MINUTE);
    let _stuck = limited(Duration::ZERO);
    tokio::time::timeout(MINUTE / 2, overdue).await.expect("SENDING-3").unwrap();
}
