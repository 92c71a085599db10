//! Many things that the server does not take in one statement or transaction: fewer at once, in order, one part after the other.

use crate::sql::error::StoreError;
use std::ops::Range;

/// What of a number of things comes next.
#[derive(Debug)]
pub(crate) struct Parts {
    from: usize,
    size: usize,
    len: usize,
}

impl Parts {
    /// All at once, at first.
    pub(crate) const fn of(len: usize) -> Self {
        Self { from: 0, size: len, len }
    }

    /// The next part; none if all is done.
    pub(crate) fn next(&self) -> Option<Range<usize>> {
        (self.from < self.len).then(|| self.from..(self.from + self.size).min(self.len))
    }

    /// Whether nothing comes after this part.
    pub(crate) const fn is_last(&self, part: &Range<usize>) -> bool {
        part.end == self.len
    }

    /// This part is written.
    pub(crate) const fn written(&mut self, part: &Range<usize>) {
        self.from = part.end;
    }

    /// This part failed: with less of it, or not at all.
    pub(crate) fn failed(&mut self, part: &Range<usize>, error: StoreError) -> Result<(), StoreError> {
        if !error.is_too_large() || part.len() == 1 {
            return Err(error);
        }
        self.size = part.len() / 2;
        Ok(())
    }

    /// What this part came to: nothing if less of it must be tried.
    pub(crate) fn done<T>(
        &mut self,
        part: &Range<usize>,
        done: Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        match done {
            Ok(done) => {
                self.written(part);
                Ok(done)
            }
            Err(error) => self.failed(part, error).map(|()| Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_large() -> StoreError {
        StoreError::TooLarge("x".into())
    }

    #[test]
    fn all_is_written_once_and_in_order_in_parts_that_fit() {
        for (len, fits) in [(1, 1), (7, 7), (7, 3), (10, 1), (1000, 64)] {
            let (mut parts, mut written) = (Parts::of(len), Vec::new());
            while let Some(part) = parts.next() {
                if part.len() > fits {
                    parts.failed(&part, too_large()).unwrap();
                } else {
                    assert_eq!(parts.is_last(&part), part.end == len);
                    parts.written(&part);
                    written.extend(part);
                }
            }
            assert_eq!(written, (0..len).collect::<Vec<_>>(), "{len} by {fits}");
        }
        assert!(Parts::of(0).next().is_none());
    }

    #[test]
    fn what_cannot_be_less_and_what_is_no_matter_of_length_fails() {
        assert!(Parts::of(1).failed(&(0..1), too_large()).unwrap_err().is_too_large());
        assert!(Parts::of(2).failed(&(0..2), StoreError::TooLate).is_err());
    }
}
