//! Bodies as they should not be.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};

/// The body of an answer.
pub(crate) type Answer = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How a body goes on after its last byte.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Never.
    Silence,
    /// The connection breaks.
    Broken,
}

/// All of it.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Answer {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// `bytes`, then an end that no body should have.
pub(crate) fn cut(bytes: Bytes, end: End) -> Answer {
    Cut { bytes: Some(bytes), end }.boxed_unsync()
}

struct Cut {
    bytes: Option<Bytes>,
    end: End,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.bytes.take(), self.end) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            (None, End::Silence) => Poll::Pending,
            (None, End::Broken) => Poll::Ready(Some(Err(io::Error::other("cut off on purpose").into()))),
        }
    }
}
