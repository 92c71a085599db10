//! Why a call or a request was refused, for programs: names that stay, of one domain. docs/API.md explains each one, and a test
//! of interaction-api compares.

use axum::http::StatusCode;

/// Who gives these reasons, as `google.rpc.ErrorInfo` calls it.
pub const DOMAIN: &str = "interaction-sync";

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a call or a request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// As callers are told it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// It breaks a rule of the contract.
    InvalidRequest = "INVALID_REQUEST",
    /// The key belongs to the other action.
    KeyReused = "IDEMPOTENCY_KEY_REUSED",
    /// It asks for more at once than a limit ever allows.
    BeyondBurst = "BEYOND_BURST",
    /// There is no token.
    TokenMissing = "TOKEN_MISSING",
    /// There is no header of the right form.
    TokenMalformed = "TOKEN_MALFORMED",
    /// It is nobody's token.
    TokenUnknown = "TOKEN_UNKNOWN",
    /// The token's role is too low.
    RoleTooLow = "ROLE_TOO_LOW",
    /// The token is limited to other users or types.
    OutOfScope = "OUT_OF_SCOPE",
    /// No certificate was shown, and more was asked than probes ask.
    CertificateMissing = "CERTIFICATE_MISSING",
    /// Without tokens only this machine is answered.
    NotLocal = "NOT_LOCAL",
    /// A page of another site asks.
    CrossSite = "CROSS_SITE",
    /// There is no such thing.
    NotFound = "NOT_FOUND",
    /// The resource of a like is deleted, and not restored.
    ResourceDeleted = "RESOURCE_DELETED",
    /// The route has no such method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
    /// The body is not JSON.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
    /// The user is over the limit.
    UserLimit = "USER_LIMIT",
    /// The token is.
    TokenLimit = "TOKEN_LIMIT",
    /// The address is.
    AddressLimit = "ADDRESS_LIMIT",
    /// The server is.
    ServerLimit = "SERVER_LIMIT",
    /// Too much waits to be written.
    Overloaded = "OVERLOADED",
    /// Too many large reads wait.
    ReadsWaiting = "READS_WAITING",
    /// Too many streams, or too much is watched.
    TooManyStreams = "TOO_MANY_STREAMS",
    /// Another one runs.
    WarmUpRunning = "WARM_UP_RUNNING",
    /// Too many calls of one connection that need no token.
    TooManyOpenCalls = "TOO_MANY_OPEN_CALLS",
    /// The message, or the body, is longer than any legal one.
    MessageTooLong = "MESSAGE_TOO_LONG",
    /// It was the oldest of too many that do not come.
    CrowdedOut = "CROWDED_OUT",
    /// It did not come in time.
    IncompleteRequest = "INCOMPLETE_REQUEST",
    /// No answer in time.
    NoAnswerInTime = "NO_ANSWER_IN_TIME",
    /// Its time was over before it could take effect.
    Expired = "EXPIRED",
    /// A store is unreachable, or has not confirmed.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// There is no place for the connection.
    TooManyConnections = "TOO_MANY_CONNECTIONS",
    /// The server starts or stops.
    NotServing = "NOT_SERVING",
    /// A fault of ours, or a store that refused.
    Internal = "INTERNAL",
}

impl Reason {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// What an answer by HTTP means whose reason nobody has said.
    pub const fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::TokenUnknown,
            StatusCode::FORBIDDEN => Self::RoleTooLow,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::IncompleteRequest,
            StatusCode::PAYLOAD_TOO_LARGE => Self::MessageTooLong,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::TOO_MANY_REQUESTS => Self::Overloaded,
            StatusCode::SERVICE_UNAVAILABLE => Self::StoreUnavailable,
            StatusCode::GATEWAY_TIMEOUT => Self::NoAnswerInTime,
            status if status.as_u16() < 500 => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_the_form_that_error_info_wants_and_each_is_one() {
        for reason in Reason::ALL {
            let name = reason.name();
            assert!(name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{name}");
            assert_eq!(Reason::named(name), Some(*reason));
        }
    }
}
