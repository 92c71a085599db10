//! Records of a journal file. All integers are big-endian.
//!
//! ```text
//! record   u32 body length (never 0) | u32 CRC-32 (IEEE) of the body | body
//! accepted u8 1 | u16 shard | i64 version | i64 answered count (-1: none) | payload
//! settled  u8 2 | u16 shard | i64 clock | i64 settled up to | i64 version of each entry
//! ```

use bytes::{Buf, BufMut};
use crc32fast::hash as crc32;

const ACCEPTED: u8 = 1;
const SETTLED: u8 = 2;
const FRAME: usize = 8;

/// Longest body; whatever claims to be longer is no record.
const MAX_BODY: usize = 1 << 20;

/// Most versions in one settled record.
pub(crate) const MAX_SETTLED: usize = 10_000;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Accepted { shard: u16, version: i64, count: i64, payload: &'a [u8] },
    Settled { shard: u16, clock: i64, up_to: i64, versions: Vec<i64> },
}

impl Record<'_> {
    pub(crate) const fn shard(&self) -> u16 {
        match self {
            Self::Accepted { shard, .. } | Self::Settled { shard, .. } => *shard,
        }
    }
}

pub(crate) fn put_accepted(out: &mut Vec<u8>, shard: u16, version: i64, count: i64, payload: &[u8]) {
    framed(out, |out| {
        out.put_u8(ACCEPTED);
        out.put_u16(shard);
        out.put_i64(version);
        out.put_i64(count);
        out.put_slice(payload);
    });
}

pub(crate) fn put_settled(out: &mut Vec<u8>, shard: u16, clock: i64, up_to: i64, versions: &[i64]) {
    framed(out, |out| {
        out.put_u8(SETTLED);
        out.put_u16(shard);
        out.put_i64(clock);
        out.put_i64(up_to);
        versions.iter().for_each(|version| out.put_i64(*version));
    });
}

fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u64(0);
    body(out);
    let length = (out.len() - start - FRAME) as u32;
    let crc = crc32(&out[start + FRAME..]);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + FRAME].copy_from_slice(&crc.to_be_bytes());
}

/// The first record of `bytes` and its length; `Err` says why there is none. Empty bytes are the caller's end.
pub(crate) fn next(bytes: &[u8]) -> Result<(Record<'_>, usize), &'static str> {
    let mut frame = bytes.get(..FRAME).ok_or("the record is cut off")?;
    let (length, crc) = (frame.get_u32() as usize, frame.get_u32());
    if !(1..=MAX_BODY).contains(&length) {
        return Err("not the length of a record");
    }
    let body = bytes.get(FRAME..FRAME + length).ok_or("the record is cut off")?;
    if crc32(body) != crc {
        return Err("wrong checksum");
    }
    Ok((decode(body)?, FRAME + length))
}

fn decode(mut body: &[u8]) -> Result<Record<'_>, &'static str> {
    const SHORT: &str = "the record is too short";
    let kind = body.try_get_u8().map_err(|_| SHORT)?;
    let shard = body.try_get_u16().map_err(|_| SHORT)?;
    let first = body.try_get_i64().map_err(|_| SHORT)?;
    let second = body.try_get_i64().map_err(|_| SHORT)?;
    match kind {
        ACCEPTED => Ok(Record::Accepted { shard, version: first, count: second, payload: body }),
        SETTLED => {
            let (versions, rest) = body.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(SHORT);
            }
            let versions = versions.iter().map(|bytes| i64::from_be_bytes(*bytes)).collect();
            Ok(Record::Settled { shard, clock: first, up_to: second, versions })
        }
        _ => Err("unknown kind of record"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive(version in any::<i64>(), count in any::<i64>(), payload in prop::collection::vec(any::<u8>(), 0..300),
            versions in prop::collection::vec(any::<i64>(), 0..40)) {
            let mut out = Vec::new();
            put_accepted(&mut out, 7, version, count, &payload);
            let first = out.len();
            put_settled(&mut out, 9, version, count, &versions);
            let (accepted, length) = next(&out).unwrap();
            prop_assert_eq!(accepted, Record::Accepted { shard: 7, version, count, payload: &payload });
            prop_assert_eq!(length, first);
            let (settled, length) = next(&out[first..]).unwrap();
            prop_assert_eq!(settled, Record::Settled { shard: 9, clock: version, up_to: count, versions });
            prop_assert_eq!(first + length, out.len());
        }

        /// Cut anywhere, or with one byte changed anywhere: no record.
        #[test]
        fn torn_and_damaged_records_are_found(payload in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let mut out = Vec::new();
            put_accepted(&mut out, 1, 2, 3, &payload);
            let at = at.index(out.len());
            prop_assert!(next(&out[..at]).is_err());
            out[at] ^= flip;
            prop_assert!(next(&out).is_err());
        }
    }

    /// What earlier versions wrote must stay readable.
    #[test]
    fn the_format_is_as_it_was() {
        let bytes = b"\0\0\0\x17\x98\xae\xa1\x5c\x01\0\x07\0\x06\x0a\x24\x18\x1e\x40\x07\0\0\0\0\0\0\0\x03like";
        let (version, count, payload) = (1_700_000_000_000_007, 3, &b"like"[..]);
        let mut out = Vec::new();
        put_accepted(&mut out, 7, version, count, payload);
        assert_eq!(out, bytes);
        assert_eq!(next(bytes), Ok((Record::Accepted { shard: 7, version, count, payload }, bytes.len())));
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926, "the check value of CRC-32 (IEEE)");
    }

    #[test]
    fn zeros_are_no_record() {
        assert!(next(&[0; 64]).is_err());
    }
}
