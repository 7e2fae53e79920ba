//! What is sent: a whole, or pieces that are made while they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::service::metrics::Pieces;

/// How much is made at a time.
const PIECE_BYTES: usize = 32 << 10;

/// An answer's content. One that is small is sent with its length, a larger one in chunks.
pub(super) enum Content {
    /// Known as a whole.
    Whole(Bytes),
    /// The first piece, and where the others come from.
    Pieces(Bytes, Pieces),
}

impl Content {
    /// The text of `pieces`.
    pub(super) fn of(mut pieces: Pieces) -> Self {
        let first = pieces.next(PIECE_BYTES).unwrap_or_default();
        let is_whole = first.len() < PIECE_BYTES;
        let first = Bytes::from(first);
        if is_whole {
            Self::Whole(first)
        } else {
            Self::Pieces(first, pieces)
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Whole(text.into())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Pieces(first, pieces) => match std::mem::take(first) {
                first if first.is_empty() => pieces
                    .next(PIECE_BYTES)
                    .map(Bytes::from)
                    .unwrap_or_default(),
                first => first,
            },
        };
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(..) => SizeHint::default(),
        }
    }
}
