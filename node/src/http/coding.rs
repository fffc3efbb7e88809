//! Content codings: gzip and zstd for the bodies of requests and responses.
//!
//! - `CODING-1`: a response is compressed only if the client accepts the coding, the response has
//!   more than [`PLAIN_BYTES_MAX`] bytes, and its length is known. Event streams have none.
//! - `CODING-2`: a body that ends inside its coding is an error.

use super::error::ApiError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use hyper::body::{Frame, SizeHint};
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use triggers_protocol::ErrorCode;
use zstd::stream::raw;
use zstd::zstd_safe::DParameter;

/// Codings of request bodies, as `Accept-Encoding` lists them.
const ACCEPTED: &str = "gzip, zstd";
/// Responses up to this size in bytes are not compressed.
const PLAIN_BYTES_MAX: u64 = 1_024;
/// Bytes that are compressed at once, so that other requests of the thread do not wait long.
const PIECE_BYTES: usize = 64 * 1024;
const ZSTD_LEVEL: i32 = 1;
/// Largest window of zstd bodies, as a power of two: 8 MiB, the limit of RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A way to compress a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// The format of RFC 1952.
    Gzip,
    /// The format of RFC 8878.
    Zstd,
}

impl Coding {
    fn parse(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("gzip") || is("x-gzip") {
            return Some(Self::Gzip);
        }
        is("zstd").then_some(Self::Zstd)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of a request body; `None` if it is plain.
    ///
    /// # Errors
    /// 415 with `Accept-Encoding` if it is another coding, or more than one.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut coding = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
                if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                let parsed = Self::parse(name);
                if parsed.is_none() || coding.is_some() {
                    let message = "Content-Encoding must be one of gzip, zstd and identity";
                    let error = ApiError::new(ErrorCode::UnsupportedMediaType, message);
                    return Err(ApiError { accept_encoding: Some(ACCEPTED), ..error });
                }
                coding = parsed;
            }
        }
        Ok(coding)
    }

    /// The coding that the client prefers for the response; `None` for a plain one.
    pub(crate) fn of_response(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let text = values.filter_map(|value| value.to_str().ok());
        let mut weights = Weights::default();
        for (name, weight) in text.flat_map(|text| text.split(',')).map(weighted) {
            match (Self::parse(name), name) {
                (Some(Self::Gzip), _) => weights.gzip = Some(weight),
                (Some(Self::Zstd), _) => weights.zstd = Some(weight),
                (None, "*") => weights.others = weight,
                (None, name) if name.eq_ignore_ascii_case("identity") => weights.plain = weight,
                (None, _) => {}
            }
        }
        let zstd = weights.zstd.unwrap_or(weights.others);
        let gzip = weights.gzip.unwrap_or(weights.others);
        let (coding, weight) = if gzip > zstd { (Self::Gzip, gzip) } else { (Self::Zstd, zstd) };
        (weight > 0.0 && weight >= weights.plain).then_some(coding)
    }
}

/// Weights of an `Accept-Encoding`; zero for what it does not name.
#[derive(Default)]
struct Weights {
    gzip: Option<f32>,
    zstd: Option<f32>,
    others: f32,
    plain: f32,
}

/// An element of `Accept-Encoding`, with its weight. A malformed weight counts as zero.
fn weighted(element: &str) -> (&str, f32) {
    let (name, parameters) = element.split_once(';').unwrap_or((element, "q=1"));
    let weight = parameters.trim().strip_prefix(['q', 'Q']).map(str::trim_start);
    let weight = weight.and_then(|rest| rest.strip_prefix('=')?.trim().parse::<f32>().ok());
    (name.trim(), weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0))
}

/// Expands a body into a writer.
pub(crate) enum Decoder<W: Write> {
    /// A decoder of gzip.
    Gzip(MultiGzDecoder<W>),
    /// A decoder of zstd.
    Zstd(zstd::stream::zio::Writer<W, raw::Decoder<'static>>),
}

impl<W: Write> Decoder<W> {
    /// Bytes that a decoder keeps, beside a copy of the last bytes that it wrote.
    pub(crate) const MEMORY_BYTES: usize = 256 * 1024;

    /// # Errors
    /// The library's error if it has no memory.
    pub(crate) fn new(coding: Coding, writer: W) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(writer)),
            Coding::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Self::Zstd(zstd::stream::zio::Writer::new(writer, decoder))
            }
        })
    }

    /// Expands the next bytes of the body.
    ///
    /// # Errors
    /// The writer's error, or that of a malformed body.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(piece),
            Self::Zstd(decoder) => decoder.write_all(piece),
        }
    }

    /// Ends the body: `CODING-2`.
    ///
    /// # Errors
    /// As [`Decoder::write`].
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }

    pub(crate) fn writer(&mut self) -> &mut W {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.writer_mut(),
        }
    }
}

/// Compresses a response: `CODING-1`.
pub(crate) fn compress(mut response: Response, coding: Option<Coding>) -> Response {
    let length = response.body().size_hint().exact().filter(|length| *length > PLAIN_BYTES_MAX);
    let Some(length) = length else { return response };
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING) {
        return response;
    }
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = coding else { return response };
    let encoder = match Encoder::new(coding, length) {
        Ok(encoder) => Some(encoder),
        Err(error) => {
            tracing::warn!(%error, "a response is not compressed");
            return response;
        }
    };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    let rest = Bytes::new();
    response.map(|body| Body::new(CompressedBody { body, rest, encoder, length }))
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::zio::Writer<Vec<u8>, raw::Encoder<'static>>),
}

impl Encoder {
    fn new(coding: Coding, length: u64) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Coding::Zstd => {
                let mut encoder = raw::Encoder::new(ZSTD_LEVEL)?;
                encoder.set_pledged_src_size(Some(length))?;
                Self::Zstd(zstd::stream::zio::Writer::new(Vec::new(), encoder))
            }
        })
    }

    /// Compresses a piece; returns what is complete.
    fn write(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.writer_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(mut encoder) => {
                encoder.finish()?;
                Ok(encoder.into_inner().0)
            }
        }
    }
}

/// A body that is compressed as it is read.
struct CompressedBody {
    body: Body,
    /// Remaining bytes of the current frame.
    rest: Bytes,
    /// `None` after the end.
    encoder: Option<Encoder>,
    /// Plain bytes in all.
    length: u64,
}

impl CompressedBody {
    /// The next compressed bytes; empty at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, axum::Error>> {
        while let Some(encoder) = &mut self.encoder {
            if self.rest.is_empty() {
                match ready!(Pin::new(&mut self.body).poll_frame(cx)?) {
                    Some(frame) => self.rest = frame.into_data().unwrap_or_default(),
                    None => {
                        let last = self.encoder.take().map(Encoder::finish).transpose();
                        return Poll::Ready(last.map(Option::unwrap_or_default).map_err(failed));
                    }
                }
            }
            let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
            let bytes = encoder.write(&piece).map_err(failed)?;
            if !bytes.is_empty() {
                return Poll::Ready(Ok(bytes));
            }
        }
        Poll::Ready(Ok(Vec::new()))
    }
}

fn failed(error: io::Error) -> axum::Error {
    axum::Error::new(error)
}

impl HttpBody for CompressedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let bytes = ready!(self.poll_bytes(cx)?);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        // Incompressible bytes grow a little.
        hint.set_upper(self.length + self.length / 64 + PLAIN_BYTES_MAX);
        hint
    }
}

#[cfg(test)]
mod tests;
