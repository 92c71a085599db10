//! Frames of HTTP/2 that carry nothing: each costs little, and as many as a client can send would keep a core busy.
//!
//! A connection may send some at any time, and more the more it asks and is answered: clients acknowledge, measure by pings,
//! grant windows and give calls up.
//!
//! Calls sent ahead cost more, and tens of thousands of them may wait in a socket. So others have their turn after a few
//! frames, however many more are there to be read.

use std::time::Duration;
use tokio::time::Instant;

/// Small frames of a connection that asked for nothing yet.
const FIRST: u32 = 256;
/// Saved up at most.
const MOST: u32 = 8_192;
const PER_SECOND: u32 = 200;
/// Earned by the head of a call.
const PER_CALL: u32 = 16;
/// Earned by each part of an answer.
pub(crate) const FRAMES_PER_PART: u32 = 4;
/// Others have their turn after so many frames, or so many bytes: heads of calls are costly to read where they are long.
const TURN: u32 = 64;
const TURN_BYTES: usize = 32 << 10;
/// A frame of data that is as long pays for itself: the windows and the bounds of bodies count its bytes.
const SMALL: usize = 1_024;

/// Callers send shorter ones.
pub(crate) const LONG_HEAD: usize = 8 << 10;

const PREFACE: usize = 24;
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Bytes of heads that came; not those that are only announced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadBytes {
    pub(crate) all: usize,
    /// Of each head what it has beyond [`LONG_HEAD`].
    pub(crate) beyond: usize,
}

/// What is there of the head of a call, which may come in several frames.
#[derive(Debug, Default)]
struct CallHead {
    /// Its end is not there.
    is_open: bool,
    /// A frame of it is being read, and whether that is its last one.
    frame: Option<bool>,
    /// One ended with the last bytes.
    ended: bool,
}

impl CallHead {
    fn begin_frame(&mut self, kind: u8, flags: u8) {
        if kind == HEADERS || kind == CONTINUATION {
            self.is_open = true;
            self.frame = Some(flags & END_HEADERS != 0);
        }
    }

    fn end_frame(&mut self) {
        if self.frame.take() == Some(true) {
            self.is_open = false;
            self.ended = true;
        }
    }
}

/// Looks at the heads of all frames that a client sends.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes to come before the head of a frame.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
    call: CallHead,
    heads: HeadBytes,
    /// Of the head that came last.
    head_len: usize,
    left: u32,
    refilled: Instant,
    /// Since others had their turn.
    in_a_row: u32,
    bytes_in_a_row: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            call: CallHead::default(),
            heads: HeadBytes::default(),
            head_len: 0,
            left: FIRST,
            refilled: Instant::now(),
            in_a_row: 0,
            bytes_in_a_row: 0,
        }
    }
}

impl Frames {
    /// Whether the connection may go on after these bytes; `earned` are frames that answers allow.
    pub(crate) fn may_send(&mut self, mut bytes: &[u8], earned: impl FnOnce() -> u32) -> bool {
        let (mut cost, mut calls) = (0_u32, 0_u32);
        self.bytes_in_a_row = self.bytes_in_a_row.saturating_add(bytes.len());
        self.call.ended = false;
        while !bytes.is_empty() {
            let (skipped, rest) = bytes.split_at(self.skip.min(bytes.len()));
            self.skip -= skipped.len();
            if self.call.frame.is_some() {
                self.heads.all = self.heads.all.saturating_add(skipped.len());
                let before = self.head_len.max(LONG_HEAD);
                self.head_len = self.head_len.saturating_add(skipped.len());
                self.heads.beyond = self.heads.beyond.saturating_add(self.head_len.saturating_sub(before));
            }
            if self.skip == 0 {
                self.call.end_frame();
            }
            let Some(missing) = self.head.get_mut(self.have..).filter(|_| !rest.is_empty()) else { break };
            let (head, rest) = rest.split_at(missing.len().min(rest.len()));
            for (to, byte) in missing.iter_mut().zip(head) {
                *to = *byte;
            }
            self.have += head.len();
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                self.in_a_row = self.in_a_row.saturating_add(1);
                let [high, middle, low, kind, flags, ..] = self.head;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.call.begin_frame(kind, flags);
                if self.skip == 0 {
                    self.call.end_frame();
                }
                match kind {
                    HEADERS => {
                        calls = calls.saturating_add(1);
                        self.head_len = 0;
                    }
                    DATA if self.skip >= SMALL => {}
                    _ => cost = cost.saturating_add(1),
                }
            }
        }
        self.gain(calls.saturating_mul(PER_CALL));
        if cost > self.left {
            self.gain(earned());
            self.refill();
        }
        let within = cost <= self.left;
        self.left = self.left.saturating_sub(cost);
        within
    }

    /// Whether a call's head has begun that is not whole, or may have: a frame's own head is not.
    pub(crate) const fn has_open_head(&self) -> bool {
        self.call.is_open || self.have > 0
    }

    /// Whether a call's head was whole with the last bytes.
    pub(crate) const fn ended_head(&self) -> bool {
        self.call.ended
    }

    /// How much of the heads of calls came since the last question.
    pub(crate) fn take_head_bytes(&mut self) -> HeadBytes {
        std::mem::take(&mut self.heads)
    }

    /// Whether it is the turn of others; they have it now.
    pub(crate) fn gives_turn(&mut self) -> bool {
        let gives = self.in_a_row >= TURN || self.bytes_in_a_row >= TURN_BYTES;
        if gives {
            (self.in_a_row, self.bytes_in_a_row) = (0, 0);
        }
        gives
    }

    fn gain(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(MOST);
    }

    fn refill(&mut self) {
        let passed = self.refilled.elapsed().min(Duration::from_secs(3_600));
        let frames = u32::try_from(passed.as_millis()).unwrap_or(u32::MAX).saturating_mul(PER_SECOND) / 1_000;
        if frames > 0 {
            self.refilled = Instant::now();
            self.gain(frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, len: usize) -> Vec<u8> {
        let [.., middle, low] = len.to_be_bytes();
        [&[0, middle, low, kind, 0, 0, 0, 0, 0][..], &vec![0; len]].concat()
    }

    /// How many of these pass in pieces of this length.
    fn passed(frames: &mut Frames, kind: u8, len: usize, piece: usize) -> usize {
        let one = frame(kind, len);
        // To its end, so that the next one begins where it does.
        let passes = |_: &usize| {
            let mut all = true;
            for bytes in one.chunks(piece) {
                all &= frames.may_send(bytes, || 0);
            }
            all
        };
        (0..20_000).take_while(passes).count()
    }

    #[tokio::test]
    async fn the_head_of_a_call_is_open_until_its_last_frame_has_ended() {
        let whole = frame(HEADERS, 5);
        let mut last = frame(CONTINUATION, 3);
        last[4] = END_HEADERS;
        let bytes = [whole, frame(CONTINUATION, 0), last].concat();
        for piece in [1, 2, 5, 9, bytes.len()] {
            let mut frames = Frames { skip: 0, ..Frames::default() };
            assert!(!frames.has_open_head());
            let (mut sent, mut of_heads) = (0, 0);
            for part in bytes.chunks(piece) {
                frames.may_send(part, || 0);
                sent += part.len();
                of_heads += frames.take_head_bytes().all;
                let is_whole = sent == bytes.len();
                assert_eq!((frames.has_open_head(), frames.ended_head()), (!is_whole, is_whole), "{sent} of {piece}");
            }
            frames.may_send(&frame(DATA, 20), || 0);
            assert_eq!((frames.has_open_head(), frames.ended_head()), (false, false));
            assert_eq!((of_heads, frames.take_head_bytes()), (8, HeadBytes::default()));
            // Who announces much and sends little has sent little.
            frames.may_send(&frame(HEADERS, 60_000)[..10], || 0);
            assert_eq!(frames.take_head_bytes(), HeadBytes { all: 1, beyond: 0 });
        }
    }

    #[tokio::test]
    async fn of_each_head_what_is_beyond_the_usual_is_told() {
        let mut long = frame(HEADERS, LONG_HEAD);
        long.extend(frame(CONTINUATION, 100));
        let bytes = [frame(HEADERS, LONG_HEAD), long.clone(), frame(HEADERS, 50), frame(DATA, 9_000), long].concat();
        for piece in [1, 4_000, bytes.len()] {
            let mut frames = Frames { skip: 0, ..Frames::default() };
            let mut told = HeadBytes::default();
            for part in bytes.chunks(piece) {
                frames.may_send(part, || 0);
                let HeadBytes { all, beyond } = frames.take_head_bytes();
                told = HeadBytes { all: told.all + all, beyond: told.beyond + beyond };
            }
            assert_eq!(told, HeadBytes { all: 3 * LONG_HEAD + 250, beyond: 200 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_carry_nothing_are_counted() {
        for (kind, len) in [(6, 8), (4, 0), (4, 6), (2, 5), (8, 4), (99, 0), (99, 3_000), (DATA, 0), (DATA, 5), (9, 10)]
        {
            for piece in [1, 7, 4_000] {
                let mut frames = Frames::default();
                assert!(frames.may_send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || 0));
                let first = usize::try_from(FIRST).unwrap();
                assert_eq!(
                    passed(&mut frames, kind, len, piece),
                    first,
                    "kind {kind}, {len} bytes in pieces of {piece}"
                );
                tokio::time::advance(Duration::from_millis(500)).await;
                assert_eq!(passed(&mut frames, kind, len, piece), 100);
                assert!(frames.may_send(&frame(HEADERS, 40), || 0));
                assert_eq!(passed(&mut frames, kind, len, piece), 16);
                assert!(frames.may_send(&frame(kind, len), || 4));
                assert_eq!(passed(&mut frames, kind, len, piece), 3);
            }
        }
        let mut frames = Frames { skip: 0, ..Frames::default() };
        assert_eq!(passed(&mut frames, DATA, SMALL, 4_000), 20_000);
        assert_eq!(passed(&mut frames, HEADERS, 40, 4_000), 20_000);
    }
}
