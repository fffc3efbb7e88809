//! A body that can be read several times, because it keeps the pieces already read.
//!
//! `KEPT-1`: every reader gets the same bytes. One reader reads at a time. Pieces are shared, not
//! copied.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use triggers_protocol::lock::lock;

/// A request body that each attempt reads from its beginning. Clones share it.
#[derive(Clone)]
pub(super) struct KeptBody(Arc<Mutex<Kept>>);

struct Kept {
    pieces: Vec<Bytes>,
    rest: Body,
}

impl KeptBody {
    pub(super) fn new(rest: Body) -> Self {
        Self(Arc::new(Mutex::new(Kept { pieces: Vec::new(), rest })))
    }

    /// A reader that starts at the beginning of the body.
    pub(super) fn reader(&self) -> Body {
        Body::new(Reader { kept: self.clone(), next: 0 })
    }
}

struct Reader {
    kept: KeptBody,
    /// Index of the next piece to return.
    next: usize,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let mut kept = lock(&this.kept.0);
        if let Some(piece) = kept.pieces.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let frame = ready!(Pin::new(&mut kept.rest).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(piece) = frame.data_ref()
        {
            kept.pieces.push(piece.clone());
            this.next += 1;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.kept.0);
        self.next >= kept.pieces.len() && kept.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let kept = lock(&self.kept.0);
        let ahead: usize = kept.pieces.iter().skip(self.next).map(Bytes::len).sum();
        let mut hint = kept.rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + ahead as u64);
        }
        hint.set_lower(hint.lower() + ahead as u64);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn every_reader_gets_the_complete_body() {
        let pieces = ["ab", "cd", "ef"].map(|piece| Ok::<_, axum::Error>(Bytes::from(piece)));
        let kept = KeptBody::new(Body::from_stream(stream::iter(pieces)));
        let mut first = kept.reader();
        first.frame().await.unwrap().unwrap();
        drop(first);
        for _ in 0..2 {
            assert_eq!(kept.reader().collect().await.unwrap().to_bytes(), "abcdef", "KEPT-1");
        }
        assert_eq!(KeptBody::new(Body::from("abcdef")).reader().size_hint().exact(), Some(6));
    }
}
