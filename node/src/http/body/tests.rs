//! Tests of content types, and of bodies in pieces and in codings.

use super::*;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_ENCODING;
use futures_util::{poll, stream};
use std::pin::pin;

fn pieces(pieces: &[&'static str]) -> Body {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())))
        .collect();
    Body::from_stream(stream::iter(pieces))
}

fn code(outcome: Result<Bytes, ApiError>) -> ErrorCode {
    outcome.unwrap_err().code
}

/// Reads a body of at most eight bytes.
async fn read_eight(body: Body, timeout_ms: u64) -> Result<Bytes, ApiError> {
    let gate = Admission::new(usize::MAX, PERMIT_BYTES_MAX);
    read(body, BodyLimits { bytes_max: 8, timeout_ms, gate: &gate, share: None }).await
}

#[tokio::test]
async fn concurrent_bodies_are_bounded() {
    let gate = Admission::new(usize::MAX, 2 * PERMIT_BYTES_MAX);
    let limits = BodyLimits {
        bytes_max: 4 * PERMIT_BYTES_MAX,
        timeout_ms: 60_000,
        gate: &gate,
        share: None,
    };
    let other = gate.enter(PERMIT_BYTES_MAX).unwrap();
    assert_eq!(read(pieces(&["12", "34"]), limits).await.unwrap(), "1234", "it fits");
    let large: &'static str = "x".repeat(PERMIT_BYTES_MAX).leak();
    assert_eq!(code(read(pieces(&["12", large]), limits).await), ErrorCode::Unavailable);
    let single = read(pieces(&[large]), limits).await.unwrap();
    assert_eq!(single, large, "one piece needs no permit");
    drop(other);
    assert_eq!(read(pieces(&["12", large]), limits).await.unwrap().len(), large.len() + 2);
}

/// Sends two pieces and never ends.
fn slow(piece: &'static str) -> Body {
    let sent =
        stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{")), Ok(Bytes::from(piece))]);
    Body::from_stream(stream::StreamExt::chain(sent, stream::pending()))
}

#[tokio::test]
async fn slow_bodies_hold_only_received_bytes_within_the_share_of_their_tenant() {
    let node = Admission::new(usize::MAX, 4 * PERMIT_BYTES_MAX);
    let bodies = KeyedLimit::default();
    let [one, two] = ["one", "two"].map(|id| TenantId::parse(id).unwrap());
    let of = |tenant| BodyLimits {
        bytes_max: 4 * PERMIT_BYTES_MAX,
        timeout_ms: 60_000,
        gate: &node,
        share: Some(TenantShare { bodies: &bodies, tenant, bytes_max: 2 * PERMIT_BYTES_MAX }),
    };
    let mut held: Vec<_> = (0..32).map(|_| Box::pin(read(slow("x"), of(&one)))).collect();
    for body in &mut held {
        assert!(poll!(body).is_pending(), "BODY-4: many bodies with few bytes fit");
    }
    assert_eq!(code(read(slow("x"), of(&one)).await), ErrorCode::TenantQuotaExceeded, "BODY-4");
    let large: &'static str = "x".repeat(PERMIT_BYTES_MAX).leak();
    let body = read(pieces(&["12", large]), of(&two)).await.unwrap();
    assert_eq!(body.len(), large.len() + 2, "BODY-4");
    held.clear();
    let pending = poll!(pin!(read(slow(large), of(&one)))).is_pending();
    assert!(pending, "dropped bodies release their permits");
}

#[tokio::test]
async fn pieces_become_one_body_up_to_the_limit() {
    assert_eq!(read_eight(pieces(&[]), 60_000).await.unwrap(), "");
    assert_eq!(read_eight(pieces(&["12345678"]), 60_000).await.unwrap(), "12345678");
    assert_eq!(read_eight(pieces(&["12", "", "3456", "78"]), 60_000).await.unwrap(), "12345678");
    assert_eq!(
        code(read_eight(pieces(&["12", "3456", "789"]), 60_000).await),
        ErrorCode::PayloadTooLarge
    );
    assert_eq!(code(read_eight(Body::from("123456789"), 60_000).await), ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn an_interrupted_or_slow_body_is_an_error() {
    let broken = stream::iter([Ok(Bytes::from_static(b"12")), Err(std::io::Error::other("gone"))]);
    assert_eq!(code(read_eight(Body::from_stream(broken), 60_000).await), ErrorCode::InvalidJson);
    let stuck = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(code(read_eight(stuck, 1).await), ErrorCode::RequestTimeout);
}

#[test]
fn json_types_are_recognised() {
    for good in
        ["application/json", "Application/JSON", "application/problem+json", "application/a+JSON"]
    {
        assert!(is_json(good), "{good}");
    }
    for bad in [
        "",
        "text/json",
        "application/jsonx",
        "application/+json",
        "application/json+",
        "json",
        "ä+json",
    ] {
        assert!(!is_json(bad), "{bad}");
    }
}

#[test]
fn parameters_are_removed_and_charsets_checked() {
    let of = |value: &'static str| {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        media_type(&headers).map(str::to_owned).map_err(|error| error.code)
    };
    assert_eq!(of("application/json; charset=utf-8"), Ok("application/json".into()));
    assert_eq!(of("application/json;CHARSET=\"UTF-8\" ; a=b"), Ok("application/json".into()));
    assert_eq!(of("application/json; charset=latin1"), Err(ErrorCode::UnsupportedMediaType));
    assert_eq!(media_type(&HeaderMap::new()).unwrap(), "");
}

fn coded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    if coding == "zstd" {
        return zstd::encode_all(bytes, 19).unwrap();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads a body of at most a mebibyte in pieces of 1,000 bytes.
async fn read_coded(
    coding: &'static str,
    bytes: Vec<u8>,
    gate: &Arc<Admission>,
) -> Result<Bytes, ApiError> {
    let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))]);
    let pieces: Vec<_> = bytes
        .chunks(1_000)
        .map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    let limits = BodyLimits { bytes_max: 1 << 20, timeout_ms: 60_000, gate, share: None };
    read_decoded(&headers, Body::from_stream(stream::iter(pieces)), limits).await
}

#[tokio::test]
async fn a_coded_body_is_expanded_within_the_limits_of_every_body() {
    let gate = Admission::new(usize::MAX, 3 << 20);
    for coding in ["gzip", "zstd"] {
        for length in [1, 50_000, 1 << 20] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let read = read_coded(coding, coded(coding, &plain), &gate).await;
            assert_eq!(read.unwrap(), plain, "{coding} {length}");
        }
        let bomb = coded(coding, &vec![b' '; 200 << 20]);
        assert!(bomb.len() < 1 << 20);
        let read = read_coded(coding, bomb, &gate).await;
        assert_eq!(code(read), ErrorCode::PayloadTooLarge, "BODY-1: {coding}");
        for bytes in [b"plain".to_vec(), coded(coding, b"cut")[..10].to_vec()] {
            let read = read_coded(coding, bytes, &gate).await;
            assert_eq!(code(read), ErrorCode::InvalidJson, "CODING-2: {coding}");
        }
        assert_eq!(read_coded(coding, Vec::new(), &gate).await.unwrap(), "", "{coding}");
        let small = Admission::new(usize::MAX, 300 << 10);
        let read = read_coded(coding, coded(coding, &[b' '; 400_000]), &small).await;
        assert_eq!(code(read), ErrorCode::Unavailable, "BODY-4: {coding}");
    }
    assert!(gate.enter(3 << 20).is_ok(), "every permit was released");
    assert_eq!(code(read_coded("br", Vec::new(), &gate).await), ErrorCode::UnsupportedMediaType);
}
