//! Requests that are no message: what tonic calls a fault of the server is the caller's, and is told as such.

use crate::status::{self, Reason};
use axum::http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

/// Our own refusals carry details, and all of them do; this one is of whoever reads messages, before any of our code.
const DETAILS: &str = "grpc-status-details-bin";

/// The answer as callers are told it.
pub(crate) fn told(response: Response<Body>) -> Response<Body> {
    if response.headers().contains_key(DETAILS) {
        return response;
    }
    let Some(unread) = Status::from_header_map(response.headers()) else { return response };
    let reason = match unread.code() {
        Code::Internal => Reason::InvalidRequest,
        Code::OutOfRange => Reason::MessageTooLong,
        _ => return response,
    };
    status::refuse(reason, format!("the request cannot be read: {}", unread.message())).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    #[test]
    fn what_cannot_be_read_is_its_callers() {
        let told = |status: Status| Status::from_header_map(told(status.into_http()).headers()).unwrap();
        for (unread, code, reason) in [
            (Status::internal("Missing request message."), Code::InvalidArgument, "INVALID_REQUEST"),
            (
                Status::out_of_range("Error, decoded message length too large"),
                Code::ResourceExhausted,
                "MESSAGE_TOO_LONG",
            ),
        ] {
            let text = unread.message().to_owned();
            let status = told(unread);
            assert_eq!(status.code(), code);
            assert!(status.message().contains(&text), "{status:?}");
            assert_eq!(status.get_details_error_info().unwrap().reason, reason);
        }
        let ours = status::refuse(Reason::Internal, "the database refused (id 7)");
        assert_eq!((told(ours.clone()).code(), told(ours).message()), (Code::Internal, "the database refused (id 7)"));
        assert_eq!(told(Status::unimplemented("no such method")).code(), Code::Unimplemented);
        assert!(super::told(Response::new(Body::empty())).headers().is_empty(), "an answer is not touched");
    }
}
