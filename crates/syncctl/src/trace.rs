//! Traces of real users as operations.

use crate::Operation;
use domain::{Action, Pair, ResourceType};
use std::io::BufRead;

/// Shape of a trace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceFormat {
    /// `userId,movieId,rating,timestamp`: 4.0 or more is a like of video `movieId`, less an unlike.
    Movielens,
}

/// Ratings from here on are likes.
const LIKED_FROM: f64 = 4.0;

/// Why a trace was not understood.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be read.
    #[error("trace could not be read")]
    Io(#[from] std::io::Error),
    /// A line that is not a rating.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1, the header included.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a whole trace; the operations are in time order, those of the same time in file order.
pub fn read(format: TraceFormat, input: impl BufRead) -> Result<Vec<Operation>, TraceError> {
    let TraceFormat::Movielens = format;
    let mut events = Vec::new();
    for (index, text) in traffic::lines::lines(input).enumerate() {
        let line = index + 1;
        let text = text?;
        let text = text.trim_end();
        if text.is_empty() || (line == 1 && text == "userId,movieId,rating,timestamp") {
            continue;
        }
        events.push(rating(text).map_err(|reason| TraceError::Line { line, reason })?);
    }
    events.sort_by_key(|(time, _)| *time);
    Ok(events.into_iter().map(|(_, operation)| operation).collect())
}

fn rating(text: &str) -> Result<(i64, Operation), String> {
    let mut fields = text.split(',');
    let (Some(user), Some(movie), Some(rating), Some(time), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(format!("expected userId,movieId,rating,timestamp, got {text:?}"));
    };
    let user = number("userId", user)?;
    let movie = number("movieId", movie)?;
    let time = number("timestamp", time)?;
    let stars: f64 = rating.parse().map_err(|_| format!("rating: expected a number, got {rating:?}"))?;
    if !(0.0..=5.0).contains(&stars) {
        return Err(format!("rating: must be 0 to 5, got {rating:?}"));
    }
    let pair = Pair::new(user, ResourceType::Video, movie).map_err(|invalid| invalid.to_string())?;
    Ok((time, Operation { pair, action: Action::from_liked(stars >= LIKED_FROM) }))
}

fn number(field: &str, text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{field}: expected a whole number, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Operation>, TraceError> {
        read(TraceFormat::Movielens, text.as_bytes())
    }

    #[test]
    fn orders_by_time_then_by_line() {
        let operations =
            parse("userId,movieId,rating,timestamp\n1,10,4.0,200\n2,20,3.5,100\r\n3,30,5.0,100\n").unwrap();
        let seen: Vec<_> =
            operations.iter().map(|o| (o.pair.user.get(), o.pair.resource.id.get(), o.action.liked())).collect();
        assert_eq!(seen, [(2, 20, false), (3, 30, true), (1, 10, true)]);
        assert!(operations.iter().all(|o| o.pair.resource.kind == ResourceType::Video));
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, expected) in [
            ("1,10,4.0,200\n1,10,x,200\n", "line 2: rating: expected a number, got \"x\""),
            ("1,10,4.0\n", "line 1: expected userId,movieId,rating,timestamp, got \"1,10,4.0\""),
            ("0,10,4.0,200\n", "line 1: user_id: must be greater than 0, got 0"),
            ("1,10,4.0,200,7\n", "line 1: expected userId,movieId,rating,timestamp, got \"1,10,4.0,200,7\""),
            ("1,10,NaN,200\n", "line 1: rating: must be 0 to 5, got \"NaN\""),
            ("1,1e3,4,200\n", "line 1: movieId: expected a whole number, got \"1e3\""),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }
}
