//! Lines of files that people name: none takes more memory than a line of ours can need, whatever the file is.

use std::io::{self, BufRead, Read};

/// The longest line that is read, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// Reads the next line into `line`, with its end if it has one; `false` at the end of the input.
///
/// # Errors
/// The input cannot be read, or the line is longer than [`MAX_LINE`].
pub fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = input.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', line)?;
    if read > MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of more than {MAX_LINE} bytes")));
    }
    Ok(read > 0)
}

/// The lines of a text, without their ends.
///
/// # Errors
/// Each line that cannot be read, is longer than [`MAX_LINE`], or is not UTF-8.
pub fn lines(mut input: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    let mut line = Vec::new();
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let text = read_line(&mut input, &mut line).and_then(|some| {
            let text = std::str::from_utf8(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            Ok(some.then(|| text.strip_suffix('\r').unwrap_or(text).to_owned()))
        });
        // An endless line has no next one.
        failed = text.is_err();
        text.transpose()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_line_is_refused() {
        let mut endless = io::BufReader::new(io::repeat(0));
        let error = read_line(&mut endless, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "a line of more than 65536 bytes");
        let mut lines = lines(io::BufReader::new(io::repeat(0)));
        lines.next().unwrap().unwrap_err();
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_line_of_the_largest_size_is_read() {
        let mut text = vec![b'a'; MAX_LINE - 1];
        text.push(b'\n');
        text.push(b'b');
        let lines: Vec<_> = lines(text.as_slice()).map(|line| line.unwrap().len()).collect();
        assert_eq!(lines, [MAX_LINE - 1, 1]);
    }
}
