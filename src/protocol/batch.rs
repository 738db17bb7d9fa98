//! Lines that are there, looked at once for all of them: what was read is found to be UTF-8, and to have these line
//! ends, a batch at a time.
//!
//! Refuses to know where the bytes come from, and what comes after them.
//!
//! Rule: what it gives is what the splitter would give, piece by piece. What is no UTF-8, or has no line end yet, is
//! left to the splitter.

use super::Slot;
use super::lines::{Piece, Splitter, cut};

/// The most bytes of a batch: looking at them takes some microseconds. The first one is small, and each may have twice as
/// many: it may be that two lines are taken and the rest is given back.
const BATCH: usize = 64 * 1024;
const FIRST: usize = 64;

/// The longest character in UTF-8: a piece that is at least as long need not split any.
const CHARACTER: usize = 4;

/// What was read from a descriptor, lent to whoever takes many lines at a time.
#[derive(Debug)]
pub(crate) struct LineBatch {
    pub(super) slot: Slot,
    fd: i32,
    /// All of it. What was given of the batch is not yet counted here.
    collected: Splitter,
    /// Whole lines, copied from the front of what was collected; given up to `at`.
    batch: String,
    at: usize,
    /// Where the lines of the batch end; `next` is the one that begins at `at`.
    ends: Vec<u32>,
    next: usize,
    /// The most bytes of the next batch.
    most: usize,
    /// Up to this place of what was collected there is no batch to be had.
    barren: usize,
}

impl LineBatch {
    pub(super) fn new(slot: Slot, fd: i32, collected: Splitter) -> Self {
        let (batch, ends) = (String::new(), Vec::new());
        LineBatch { slot, fd, collected, batch, at: 0, ends, next: 0, most: FIRST, barren: 0 }
    }

    /// The next of the batch: the text, and whether it is a whole line or a piece of one that is longer than the limit.
    /// `None` if there is none, or the limit is less than any character may need; then the splitter is to be asked.
    #[inline]
    pub(crate) fn line(&mut self, limit: usize) -> Option<(i32, &str, bool)> {
        if limit < CHARACTER || self.next == self.ends.len() && !self.look() {
            return None;
        }
        let (from, end) = (self.at, self.ends[self.next] as usize);
        let without = end - usize::from(self.batch[from..end].ends_with('\r'));
        if without - from > limit {
            return Some((self.fd, self.piece(limit), false));
        }
        (self.at, self.next) = (end + 1, self.next + 1);
        Some((self.fd, &self.batch[from..without], true))
    }

    #[cold]
    fn piece(&mut self, limit: usize) -> &str {
        let rest = &self.batch[self.at..];
        let cut = cut(rest.as_bytes(), limit);
        self.at += cut;
        &rest[..cut]
    }

    /// The next that is no part of a batch.
    pub(crate) fn line_apart(&mut self, limit: usize) -> Option<(i32, Piece)> {
        self.count();
        Some((self.fd, self.collected.line(limit, false)?))
    }

    /// Looks at the next lines, once the batch was given. Whether there are any.
    #[inline(never)]
    fn look(&mut self) -> bool {
        self.count();
        let rest = self.collected.rest();
        let from = self.collected.given_up_to();
        if from < self.barren || rest.is_empty() {
            return false;
        }
        let rest = &rest[..rest.len().min(self.most)];
        let text =
            std::str::from_utf8(rest).or_else(|error| std::str::from_utf8(&rest[..error.valid_up_to()]));
        let text = text.unwrap_or_default();
        let Some(last) = memchr::memrchr(b'\n', text.as_bytes()) else {
            // Neither is there one up to here, nor with what makes it no UTF-8.
            self.barren = from + text.len() + 1;
            self.most = BATCH.min(2 * self.most);
            return false;
        };
        self.batch.push_str(&text[..=last]);
        // No batch is longer than 4 GiB.
        self.ends.extend(memchr::memchr_iter(b'\n', self.batch.as_bytes()).map(|end| end as u32));
        true
    }

    /// Counts what was given of the batch, and forgets it.
    fn count(&mut self) {
        self.most = if self.next == self.ends.len() { BATCH.min(2 * self.most) } else { FIRST };
        self.collected.skip(self.at);
        self.batch.clear();
        self.ends.clear();
        (self.at, self.next) = (0, 0);
    }

    /// What was not given.
    pub(super) fn into_rest(mut self) -> Splitter {
        self.count();
        self.collected
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut next: impl FnMut() -> Option<Piece>) -> Vec<Piece> {
        std::iter::from_fn(&mut next).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 4096 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the bytes are, and however the limit changes: as the splitter alone.
        #[test]
        fn it_gives_what_the_splitter_gives(
            bytes in proptest::collection::vec(prop_oneof![
                3 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..]), 1 => Just(&b"\r\n"[..]), 4 => Just(&b"abc"[..]),
                1 => Just("\u{e4}\u{20ac}".as_bytes()), 1 => Just("\u{1f980}".as_bytes()), 1 => Just(&b"\xe4"[..]),
            ], 0..40),
            limits in proptest::collection::vec(1_usize..12, 1..8),
            taken in 0_usize..40,
        ) {
            let bytes = bytes.concat();
            let (mut alone, mut collected) = (Splitter::default(), Splitter::default());
            alone.buffer().extend_from_slice(&bytes);
            collected.buffer().extend_from_slice(&bytes);

            // Some are taken while it is lent.
            let mut ready = LineBatch::new(0, 1, collected);
            for limit in limits.iter().cycle().take(taken) {
                let of_batch = ready.line(*limit).map(|(_, text, complete)| Piece::new(text.as_bytes(), complete));
                let given = of_batch.or_else(|| ready.line_apart(*limit).map(|(_, piece)| piece));
                prop_assert_eq!(given, alone.line(*limit, false));
            }

            // The rest after it was given back.
            let mut rest = Splitter::default();
            rest.prepend(ready.into_rest());
            prop_assert_eq!(all(|| rest.line(5, true)), all(|| alone.line(5, true)));
        }
    }

    /// More than one batch, with a line that is longer than any.
    #[test]
    fn batches_follow_each_other() {
        let long = "\u{e4}".repeat(BATCH);
        let text = format!("{}{long}\n{}", "short\r\n".repeat(BATCH), "x\n".repeat(BATCH));
        let mut collected = Splitter::default();
        collected.buffer().extend_from_slice(text.as_bytes());
        let mut ready = LineBatch::new(0, 1, collected);
        let mut apart = 0;
        for expected in text.lines() {
            if let Some((_, line, complete)) = ready.line(usize::MAX) {
                assert!(line == expected && complete);
                continue;
            }
            let (_, piece) = ready.line_apart(usize::MAX).expect("a line");
            assert!(piece.text == expected && piece.complete);
            apart += 1;
        }
        assert_eq!(apart, 1, "the line that is longer than a batch");
        assert!(ready.into_rest().is_empty());
    }
}
