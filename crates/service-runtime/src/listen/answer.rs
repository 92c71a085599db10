//! An answer that keeps its call in flight until it is sent.

use crate::listen::link::Call;
use crate::listen::unsent::Sending;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of an answer, with its call.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    sending: Arc<Sending>,
}

impl<B> Answer<B> {
    /// The call ends when the other side has taken the last byte, or the answer is given up.
    pub fn new(body: B, call: Call) -> Self {
        Self { body, sending: Sending::new(call) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.sending.wanted();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
        Poll::Ready(Some(Ok(frame.map_data(|bytes| {
            if !self.body.is_end_stream() {
                self.sending.waits();
            }
            if bytes.is_empty() { bytes } else { self.sending.part(bytes) }
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
