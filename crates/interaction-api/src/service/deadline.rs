//! How long a call may take effect: from its arrival, for as long as its caller waits.

use service_runtime::Pulse;
use std::time::Duration;
use sync_engine::accept::Call;
use tonic::metadata::MetadataMap;

/// The call with this metadata, seen now.
pub(super) async fn call(metadata: &MetadataMap, pulse: &Pulse) -> Call {
    let patience = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
    Call::arrived(pulse.arrived().await, patience)
}

/// `grpc-timeout`: at most eight digits and a unit. One that makes no sense is none, as for every gRPC server.
fn timeout(text: &str) -> Option<Duration> {
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
            assert_eq!(timeout(text), expected, "{text}");
        }
    }
}
