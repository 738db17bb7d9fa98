//! A batch of lines that were already read: one pass checks that they are UTF-8, and finds their ends.
//!
//! Refuses to know where the bytes come from, and what comes after them.
//!
//! Rule: it returns the same pieces as the splitter. Bytes that are not UTF-8, and a line without an end, are left to
//! the splitter.

use super::Slot;
use super::lines::{Piece, Splitter, cut};

/// The most bytes of a batch; checking them takes some microseconds. The first batch is small and each next one may be
/// twice as large, because the caller may take two lines and give the rest back.
const BATCH: usize = 64 * 1024;
const FIRST: usize = 64;

/// The longest character in UTF-8. A piece of at least this length need not split a character.
const CHARACTER: usize = 4;

/// The unread bytes of a descriptor, lent to a caller that takes many lines.
pub(crate) struct LineBatch {
    pub(super) slot: Slot,
    fd: i32,
    /// All the bytes. It does not yet count the lines of the batch that were returned.
    collected: Splitter,
    /// Whole lines, copied from the front of `collected`. Returned up to `at`.
    batch: String,
    at: usize,
    /// The ends of the batch's lines. `next` is the line that begins at `at`.
    ends: Vec<u32>,
    next: usize,
    /// The most bytes of the next batch.
    most: usize,
    /// Up to this position `collected` has no batch.
    barren: usize,
}

impl LineBatch {
    pub(super) fn new(slot: Slot, fd: i32, collected: Splitter) -> Self {
        let (batch, ends) = (String::new(), Vec::new());
        LineBatch { slot, fd, collected, batch, at: 0, ends, next: 0, most: FIRST, barren: 0 }
    }

    /// The next line of the batch: its text, and whether it is whole. A line longer than the limit comes in pieces.
    /// `None` if the batch has no line, or if the limit is too small for some characters; then ask the splitter.
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

    /// The next line that is not part of a batch.
    pub(crate) fn line_apart(&mut self, limit: usize) -> Option<(i32, Piece)> {
        self.count();
        Some((self.fd, self.collected.line(limit, false)?))
    }

    /// Makes the next batch, after all of this one was returned. Returns whether it has a line.
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
            // There is no line end up to here, and the next byte is no UTF-8.
            self.barren = from + text.len() + 1;
            self.most = BATCH.min(2 * self.most);
            return false;
        };
        self.batch.push_str(&text[..=last]);
        // No batch is longer than 4 GiB.
        self.ends.extend(memchr::memchr_iter(b'\n', self.batch.as_bytes()).map(|end| end as u32));
        true
    }

    /// Counts the lines that were returned, and clears the batch.
    fn count(&mut self) {
        self.most = if self.next == self.ends.len() { BATCH.min(2 * self.most) } else { FIRST };
        self.collected.skip(self.at);
        self.batch.clear();
        self.ends.clear();
        (self.at, self.next) = (0, 0);
    }

    /// The bytes that were not returned.
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

        /// For all bytes and all changes of the limit: the same pieces as from the splitter alone.
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

            // Some lines are taken from the batch.
            let mut ready = LineBatch::new(0, 1, collected);
            for limit in limits.iter().cycle().take(taken) {
                let of_batch = ready.line(*limit).map(|(_, text, complete)| Piece::new(text.as_bytes(), complete));
                let given = of_batch.or_else(|| ready.line_apart(*limit).map(|(_, piece)| piece));
                prop_assert_eq!(given, alone.line(*limit, false));
            }

            // The rest is taken after it was given back.
            let mut rest = Splitter::default();
            rest.prepend(ready.into_rest());
            prop_assert_eq!(all(|| rest.line(5, true)), all(|| alone.line(5, true)));
        }
    }

    /// More than one batch, and a line that is longer than any batch.
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
