//! Times of the old system: strings, with and without a zone, and of any resolution.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, TimeZone};

const MICROS: i64 = 1_000_000;

/// A time as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LegacyTime {
    /// Microseconds since 1970.
    pub(super) micros: i64,
    /// The text says no more than this: a million for whole seconds, 1 for microseconds.
    pub(super) resolution: i64,
}

/// Reads `2024-05-01 12:00:00`, with `T` or `/`, with up to nine digits of fraction, with or without a zone (`Z`, `UTC`,
/// `+08:00`, `+0800`, `+08`), or seconds, milliseconds or microseconds since 1970. Without a zone it is in `zone`.
pub(super) fn parse(text: &str, zone: FixedOffset) -> Result<LegacyTime, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("no time".to_owned());
    }
    let wrong = || format!("{:?} is no time", text.chars().take(60).collect::<String>());
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().map_err(|_| wrong())?;
        return match text.len() {
            9 | 10 => Ok(LegacyTime { micros: number * MICROS, resolution: MICROS }),
            12 | 13 => Ok(LegacyTime { micros: number * 1000, resolution: 1000 }),
            15 | 16 => Ok(LegacyTime { micros: number, resolution: 1 }),
            _ => Err(wrong()),
        }
        .and_then(after_1970);
    }
    let (plain, utc) = match text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("UTC")) {
        Some(plain) => (plain.trim_end(), true),
        None => (text, false),
    };
    let normal = plain.replacen(['T', 't'], " ", 1).replace('/', "-");
    let zone = if utc { FixedOffset::east_opt(0).ok_or_else(wrong)? } else { zone };
    let time = if let Ok(time) = NaiveDateTime::parse_from_str(&normal, "%Y-%m-%d %H:%M:%S%.f") {
        zone.from_local_datetime(&time).single()
    } else if let Ok(date) = NaiveDate::parse_from_str(&normal, "%Y-%m-%d") {
        date.and_hms_opt(0, 0, 0).and_then(|time| zone.from_local_datetime(&time).single())
    } else if utc {
        None
    } else {
        ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"]
            .iter()
            .find_map(|format| DateTime::parse_from_str(&normal, format).ok())
    };
    let micros = time.ok_or_else(wrong)?.timestamp_micros();
    let digits = normal
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.bytes().take_while(u8::is_ascii_digit).count().min(6));
    let resolution = 10_i64.pow(6 - u32::try_from(digits).unwrap_or(6));
    after_1970(LegacyTime { micros, resolution })
}

fn after_1970(time: LegacyTime) -> Result<LegacyTime, String> {
    if time.micros > 0 { Ok(time) } else { Err("a time before 1970".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-05-01 12:00:00 UTC.
    const NOON: i64 = 1_714_564_800 * MICROS;

    #[test]
    fn every_way_to_write_the_same_moment() {
        let utc = FixedOffset::east_opt(0).unwrap();
        let east = FixedOffset::east_opt(8 * 3600).unwrap();
        let (second, milli, micro) = (MICROS, 1000, 1);
        for (text, zone, resolution) in [
            ("2024-05-01 12:00:00", utc, second),
            (" 2024-05-01T12:00:00 ", utc, second),
            ("2024/05/01 12:00:00", utc, second),
            ("2024-05-01 20:00:00", east, second),
            ("2024-05-01T12:00:00Z", east, second),
            ("2024-05-01 12:00:00 UTC", east, second),
            ("2024-05-01 20:00:00+08:00", utc, second),
            ("2024-05-01 20:00:00 +0800", utc, second),
            ("2024-05-01T07:00:00.000-05:00", east, milli),
            ("2024-05-01 17:30:00.000000+05:30", utc, micro),
            ("2024-05-01 12:00:00.000000000", utc, micro),
            ("1714564800", east, second),
            ("1714564800000", east, milli),
            ("1714564800000000", east, micro),
        ] {
            assert_eq!(parse(text, zone), Ok(LegacyTime { micros: NOON, resolution }), "{text}");
        }
        assert_eq!(parse("2024-05-01", utc).unwrap().micros, NOON - 12 * 3600 * MICROS);
        assert_eq!(
            parse("2024-05-01 12:00:00.25", utc).unwrap(),
            LegacyTime { micros: NOON + 250_000, resolution: 10_000 }
        );
    }

    #[test]
    fn what_is_no_time_says_so() {
        let utc = FixedOffset::east_opt(0).unwrap();
        for text in [
            "",
            "  ",
            "NULL",
            "yesterday",
            "0000-00-00 00:00:00",
            "2024-02-30 00:00:00",
            "2024-13-01 00:00:00",
            "2024-05-01 25:00:00",
            "1969-12-31 23:59:59",
            "12",
            "0",
            "99999999999999999999",
            "2024-05-01 12:00:00+99:00",
            "-5",
            "2024-05-01 12:00:00 +08:00Z",
        ] {
            assert!(parse(text, utc).is_err(), "{text:?} is {:?}", parse(text, utc));
        }
    }
}
