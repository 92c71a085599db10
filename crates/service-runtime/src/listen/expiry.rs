//! When a certificate ends: the one field of it that an operator must see coming.
//!
//! Read by hand from its DER, because nothing else of a certificate is looked at here.

use std::time::{Duration, SystemTime};

const DAY: u64 = 24 * 3600;

/// Renewal is late when less than this is left.
const SOON: Duration = Duration::from_secs(14 * DAY);

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of its validity; none for what is no certificate.
pub(super) fn of(certificate: &[u8]) -> Option<SystemTime> {
    let (mut certificate, _) = take(certificate, SEQUENCE)?;
    let (mut signed, _) = take(certificate, SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        (_, signed) = take(signed, VERSION)?;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, signed) = take(signed, tag)?;
    }
    (certificate, _) = take(signed, SEQUENCE)?;
    let (_, rest) = time(certificate)?;
    time(rest).map(|(end, _)| end)
}

/// How long a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// For long enough, or nobody knows.
    Long,
    /// For so many days.
    Days(u64),
    /// Not any more: clients refuse it.
    Over,
}

pub(super) fn validity(expires: Option<SystemTime>, now: SystemTime) -> Validity {
    match expires.map(|expires| expires.duration_since(now)) {
        Some(Err(_)) => Validity::Over,
        Some(Ok(left)) if left < SOON => Validity::Days(left.as_secs() / DAY),
        _ => Validity::Long,
    }
}

/// The content of the first element, which has this tag, and what comes after it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
        if bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}

fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let tag = *der.first()?;
    let (text, rest) = take(der, tag)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, rest_at) = match tag {
        // Of this century below 50, by the definition of X.509.
        UTC_TIME => (number(0..2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        GENERALIZED_TIME => (number(0..4)?, 4),
        _ => return None,
    };
    let two = |index: usize| number(rest_at + 2 * index..rest_at + 2 * index + 2);
    let days = days_since_epoch(year, two(0)?, two(1)?)?;
    let seconds = days * DAY + two(2)? * 3600 + two(3)? * 60 + two(4)?;
    Some((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), rest))
}

fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let before = |year: u64| (year - 1970) * 365 + (1970..year).filter(|year| leap(*year)).count() as u64;
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let of_year: u64 = months.iter().zip(1..month).map(|(days, _)| days).sum();
    Some(before(year) + of_year + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "250101000000Z", 1_735_689_600),
            (UTC_TIME, "240229235959Z", 1_709_251_199),
            (GENERALIZED_TIME, "20500301120000Z", 2_529_748_800),
        ] {
            let der = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            assert_eq!(time(&der).map(|(time, _)| seconds(time)), Some(expected), "{text}");
        }
        assert_eq!(time(b"\x17\x0d251301000000Z"), None);
        assert_eq!(of(b"\x30\x82no certificate"), None);
        assert_eq!(of(b""), None);
    }

    #[test]
    fn the_end_of_a_real_certificate_is_found() {
        use tokio_rustls::rustls::pki_types::CertificateDer;
        use tokio_rustls::rustls::pki_types::pem::PemObject;
        let ca = test_support::Authority::new("ours").unwrap();
        let server = ca.issue("server").unwrap();
        let certificate = CertificateDer::from_pem_file(&server.cert).unwrap();
        let end = of(&certificate).unwrap();
        assert!(end > SystemTime::UNIX_EPOCH + Duration::from_secs(50 * 365 * DAY), "{end:?}");
        assert!(of(&certificate[..certificate.len() / 4]).is_none());
    }

    #[test]
    fn an_end_is_seen_coming() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        let left = |day: u64| validity(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(day * DAY)), now);
        assert_eq!([left(1_090), left(1_013), left(999)], [Validity::Long, Validity::Days(13), Validity::Over]);
        assert_eq!(validity(None, now), Validity::Long);
    }
}
