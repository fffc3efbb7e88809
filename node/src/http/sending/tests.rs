//! Tests of what is held of responses, on bodies without a connection.
//!
//! That a connection ends when its client does not read is tested over sockets, with the server.

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
async fn bytes_count_until_the_last_of_them_is_gone() {
    let door = Admission::new(usize::MAX, BYTES);
    let held = hold(response("application/json"), &door, None, MINUTE).unwrap();
    assert_eq!(held.body().size_hint().exact(), Some(BYTES as u64), "the length is still known");
    let refused = hold(response("application/json"), &door, None, MINUTE);
    assert_eq!(refused.err(), Some(Rejected::Busy), "SENDING-1");
    let pieces: Vec<Bytes> =
        held.into_body().into_data_stream().map(|piece| piece.unwrap()).collect().await;
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
    let whole: Vec<u8> = pieces.concat();
    assert!(
        whole.iter().enumerate().all(|(index, byte)| *byte == (index % 251) as u8)
            && whole.len() == BYTES
    );
    assert!(
        hold(response("application/json"), &door, None, MINUTE).is_err(),
        "SENDING-2: the body is gone, not the bytes"
    );
    drop(pieces);
    assert!(hold(response("application/json"), &door, None, MINUTE).is_ok());
}

#[tokio::test]
async fn event_streams_and_small_responses_do_not_count() {
    let door = Admission::new(0, 0);
    assert!(hold(response("text/event-stream"), &door, None, MINUTE).is_ok());
    assert!(hold(Response::new(Body::from("small")), &door, None, MINUTE).is_ok());
    assert!(hold(response("application/json"), &door, None, MINUTE).is_err());
}

#[tokio::test]
async fn a_connection_learns_of_a_response_that_takes_too_long() {
    let (door, sending) = (Admission::new(usize::MAX, usize::MAX), Arc::new(Sending::default()));
    let overdue = tokio::spawn({
        let sending = sending.clone();
        async move { sending.overdue().await }
    });
    // It waits for a first response from here on.
    tokio::task::yield_now().await;
    let taken = hold(response("application/json"), &door, Some(&sending), Duration::ZERO).unwrap();
    drop(taken);
    assert_eq!(sending.first_end(), None, "what was taken is no longer waited for");
    let _later = hold(response("application/json"), &door, Some(&sending), MINUTE).unwrap();
    let _stuck = hold(response("application/json"), &door, Some(&sending), Duration::ZERO).unwrap();
    tokio::time::timeout(MINUTE / 2, overdue).await.expect("SENDING-3").unwrap();
}
