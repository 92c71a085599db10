//! How long a call may take effect: from its arrival, for as long as its caller waits.

use axum::http::{Extensions, HeaderMap};
use service_runtime::Pulse;
use service_runtime::listen::Arrived;
use std::time::{Duration, Instant};
use sync_engine::accept::Call;
use tonic::Request;

const HEADER: &str = "grpc-timeout";

/// The call of this request, seen now.
pub(super) async fn call<T>(request: &Request<T>, pulse: &Pulse) -> Call {
    let patience = request.metadata().get(HEADER).and_then(|value| value.to_str().ok()).and_then(read);
    Call::arrived(arrived(request.extensions(), pulse).await, patience)
}

/// When a request arrived at the latest: with its head, whatever it waited for since. Its caller may have gone on meanwhile.
pub(super) async fn arrived(extensions: &Extensions, pulse: &Pulse) -> Instant {
    let seen = pulse.arrived().await;
    let head = extensions.get().map(|Arrived(head)| *head);
    head.map_or(seen, |head| head.min(pulse.arrival(head)).min(seen))
}

/// How long the caller waits, if he says so; the error names the header. Whoever wrote one that nobody can read has a deadline
/// in mind that nobody would keep.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let mut all = headers.get_all(HEADER).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(format!("{HEADER}: given more than once"));
    }
    let known = value.to_str().ok().and_then(read);
    known.map(Some).ok_or_else(|| format!("{HEADER}: must be 1 to 8 digits and one of H, M, S, m, u, n"))
}

/// At most eight digits and a unit.
fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("2H", Some(Duration::from_secs(7_200))),
            ("5n", Some(Duration::from_nanos(5))),
            ("3M", Some(Duration::from_secs(180))),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
            let mut headers = HeaderMap::new();
            headers.append(HEADER, text.parse().unwrap());
            let said = timeout(&headers);
            assert_eq!(said.clone().ok().flatten(), expected, "{text}");
            assert!(said.err().is_none_or(|reason| reason.starts_with("grpc-timeout: ")), "{text}");
            headers.append(HEADER, "1S".parse().unwrap());
            assert!(timeout(&headers).is_err(), "{text} and another one");
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }
}
