//! A response's body that keeps its request open: the request ends when the body is dropped.
//!
//! Without it a connection would look idle while a long answer is on its way. Invariant: `OPEN-BODY-1` frames, end and
//! length are those of the body inside.

use super::activity::Open;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of an open request.
pub(super) struct OpenBody {
    body: Body,
    _open: Open,
}

impl OpenBody {
    /// Keeps `open` as long as the body.
    pub(super) fn new(body: Body, open: Open) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
