//! Tests of the choice of a coding, and of compressed responses.

use super::*;
use axum::http::HeaderName;
use http_body_util::BodyExt;
use proptest::prelude::*;

fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Expands a body that arrives in pieces.
fn expanded(coding: Coding, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(coding, Vec::new())?;
    for piece in pieces {
        decoder.write(piece)?;
    }
    decoder.finish()?;
    Ok(std::mem::take(decoder.writer()))
}

#[test]
fn only_known_codings_of_requests_are_accepted() {
    let of = |values: &[&str]| Coding::of_body(&headers(CONTENT_ENCODING, values));
    for plain in [&[][..], &["identity"], &[""], &["identity, Identity"]] {
        assert_eq!(of(plain), Ok(None), "{plain:?}");
    }
    for gzip in [&["gzip"][..], &["X-GZip"], &["identity, gzip"]] {
        assert_eq!(of(gzip), Ok(Some(Coding::Gzip)), "{gzip:?}");
    }
    assert_eq!(of(&["zstd"]), Ok(Some(Coding::Zstd)));
    for unknown in [&["br"][..], &["deflate"], &["gzip, gzip"], &["gzip", "zstd"], &["*"]] {
        let error = of(unknown).unwrap_err();
        assert_eq!(error.status().as_u16(), 415, "{unknown:?}");
        assert_eq!(error.accept_encoding, Some("gzip, zstd"), "{unknown:?}");
    }
}

#[test]
fn the_greatest_weight_chooses_the_coding_of_a_response() {
    use Coding::{Gzip, Zstd};
    for (values, coding) in [
        (&[][..], None),
        (&["gzip"], Some(Gzip)),
        (&["gzip, deflate, br, zstd"], Some(Zstd)),
        (&["zstd;q=0.5, GZIP;Q=0.8"], Some(Gzip)),
        (&["zstd ; q = 0.5", "gzip;q=0.5"], Some(Zstd)),
        (&["gzip;q=0"], None),
        (&["*"], Some(Zstd)),
        (&["zstd;q=0, *;q=0.1"], Some(Gzip)),
        (&["*;q=0"], None),
        (&["gzip;q=0.5, identity"], None),
        (&["gzip, identity;q=0.5"], Some(Gzip)),
        (&["identity;q=0"], None),
        (&["br, deflate"], None),
        (&["gzip;q=2, zstd;q=x"], None),
    ] {
        assert_eq!(Coding::of_response(&headers(ACCEPT_ENCODING, values)), coding, "{values:?}");
    }
}

#[tokio::test]
async fn only_large_responses_are_compressed() {
    let of = |bytes: usize| Response::new(Body::from("x".repeat(bytes)));
    let small = compress(of(1_024), Some(Coding::Gzip));
    assert!(small.headers().is_empty(), "CODING-1");
    let plain = compress(of(1_025), None);
    assert_eq!(plain.headers()[VARY], "accept-encoding");
    assert!(!plain.headers().contains_key(CONTENT_ENCODING));
    let stream = Body::from_stream(futures_util::stream::iter([Ok::<_, io::Error>("x")]));
    assert!(compress(Response::new(stream), Some(Coding::Gzip)).headers().is_empty());
    for coding in [Coding::Gzip, Coding::Zstd] {
        let compressed = compress(of(300_000), Some(coding));
        assert_eq!(compressed.headers()[CONTENT_ENCODING], coding.name());
        let again = compress(compressed, Some(coding));
        let bytes = again.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < 3_000, "{} bytes", bytes.len());
        assert_eq!(expanded(coding, &[&bytes]).unwrap(), "x".repeat(300_000).as_bytes());
    }
}

#[test]
fn a_body_of_several_members_is_one_body() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let member = || {
            let mut encoder = Encoder::new(coding, 2).unwrap();
            let begin = encoder.write(b"ab").unwrap();
            [begin, encoder.finish().unwrap()].concat()
        };
        let (one, other) = (member(), member());
        assert_eq!(expanded(coding, &[&one, &other]).unwrap(), b"abab");
        assert_eq!(expanded(coding, &[&[one, other].concat()]).unwrap(), b"abab");
    }
}

proptest! {
    #[test]
    fn compressed_bytes_expand_to_themselves(
        bytes in proptest::collection::vec(any::<u8>(), 0..5_000), at: prop::sample::Index,
        is_zstd: bool,
    ) {
        let coding = if is_zstd { Coding::Zstd } else { Coding::Gzip };
        let mut encoder = Encoder::new(coding, bytes.len() as u64).unwrap();
        let begin = encoder.write(&bytes).unwrap();
        let compressed = [begin, encoder.finish().unwrap()].concat();
        prop_assert!(compressed.len() <= bytes.len() + bytes.len() / 64 + 1_024);
        let (one, other) = compressed.split_at(at.index(compressed.len()));
        prop_assert_eq!(expanded(coding, &[one, other]).unwrap(), bytes);
        prop_assert!(expanded(coding, &[one]).is_err(), "CODING-2");
    }

    #[test]
    fn other_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for coding in [Coding::Gzip, Coding::Zstd] {
            prop_assert!(expanded(coding, &[&bytes]).is_err());
        }
    }
}
