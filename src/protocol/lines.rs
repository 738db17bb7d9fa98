//! Collected bytes, and how they are cut into lines. Does not know where they come from.
//!
//! Rules:
//! - Every byte is returned once and in order, except the line ends (`\n` or `\r\n`), which are left out.
//! - A piece is never longer than its limit.
//! - Each byte is searched once.

use zeroize::Zeroize;

use super::secret::SecretChunks;
use crate::output::most_room;

/// To move this many bytes takes some microseconds.
const LITTLE: usize = 64 * 1024;
/// The least room for a read.
const PACKET: usize = 4096;

/// Bytes that were read. Lines are taken from the front.
#[derive(Default)]
pub(super) struct Splitter {
    bytes: Vec<u8>,
    /// The bytes up to here were returned.
    given: usize,
    /// There is no line end up to here.
    searched: usize,
    /// If the bytes are secret: the chunks before `bytes`. Secret bytes are only collected, not cut into lines.
    secret: Option<Box<SecretChunks>>,
}

/// A line, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The text without the line end. Bytes that are not UTF-8 are shown as U+FFFD.
    pub(crate) text: String,
    /// The original bytes, if they are not UTF-8.
    pub(crate) raw: Option<Box<[u8]>>,
    /// Whether a line end came after it.
    pub(crate) complete: bool,
}

impl Piece {
    pub(super) fn new(bytes: &[u8], complete: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Piece::of(text, complete),
            Err(_) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                Piece { text, raw: Some(bytes.into()), complete }
            }
        }
    }

    pub(crate) fn of(text: &str, complete: bool) -> Self {
        Piece { text: text.to_owned(), raw: None, complete }
    }

    /// The original bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.text.as_bytes())
    }
}

impl Splitter {
    /// Bytes that are not taken are wiped when this is dropped.
    #[cfg(unix)]
    pub(super) fn wipe(&mut self) {
        self.secret = Some(Box::default());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.given == self.bytes.len() && self.secret.as_ref().is_none_or(|before| before.is_empty())
    }

    /// Puts bytes that were taken out back, before the bytes that came since.
    pub(super) fn prepend(&mut self, mut taken: Splitter) {
        debug_assert!(self.secret.is_none(), "what is secret is never taken out");
        if !self.bytes.is_empty() {
            taken.bytes.extend_from_slice(&self.bytes[self.given..]);
        }
        *self = taken;
    }

    /// Drops the bytes that were returned. No more lines are taken from here.
    pub(super) fn forget_given(&mut self) {
        self.bytes.drain(..self.given);
        (self.given, self.searched) = (0, 0);
    }

    /// The buffer to append to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        // Moving the rest must not cost more than reading it did. So the returned bytes are dropped if they are more
        // than half, or if the rest is small and there is no room for the next read.
        let is_full = self.bytes.capacity() - self.bytes.len() < PACKET;
        if self.given > self.bytes.len() / 2 || self.given > 0 && is_full && self.rest().len() <= LITTLE {
            self.bytes.drain(..self.given);
            self.searched -= self.given;
            self.given = 0;
        }
        if let Some(before) = &mut self.secret {
            before.set_aside(&mut self.bytes);
        }
        &mut self.bytes
    }

    /// Joins some of the secret bytes. Returns whether all are joined. A step is small, so that a poll stays short.
    pub(super) fn join(&mut self) -> bool {
        self.secret.as_mut().is_none_or(|before| before.join(&mut self.bytes))
    }

    /// Drops this many of the last bytes.
    pub(super) fn cut_off(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len() - count);
    }

    /// Drops all bytes.
    pub(super) fn clear(&mut self) {
        self.secret.iter_mut().for_each(|before| before.clear());
        self.given(self.bytes.len());
    }

    /// All bytes that were not returned, with no more memory than they need. If none were returned before, this is no
    /// copy.
    pub(super) fn take(&mut self) -> Vec<u8> {
        while !self.join() {}
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..self.given);
        (self.given, self.searched) = (0, 0);
        if bytes.capacity() > most_room(bytes.len()) {
            if self.secret.is_some() {
                // If the allocator moves a block to shrink it, the old bytes stay in memory.
                let fitting = bytes.to_vec();
                std::mem::replace(&mut bytes, fitting).zeroize();
            } else {
                // Common allocators shrink a large block in place, and a small one is cheap to move.
                bytes.shrink_to_fit();
            }
        }
        bytes
    }

    /// The next line. A line longer than `limit` comes in pieces, and only the last piece may be complete. `at_end`
    /// says that no line end will come. Then the rest is returned too.
    pub(super) fn line(&mut self, limit: usize, at_end: bool) -> Option<Piece> {
        debug_assert!(self.secret.is_none(), "a line would be a copy of a secret");
        let limit = limit.max(1);
        // One more than the limit, since `\r\n` may follow it.
        let most = self.bytes.len().min(self.given.saturating_add(limit).saturating_add(2));
        let from = self.searched.max(self.given);
        let found = memchr::memchr(b'\n', &self.bytes[from.min(most)..most]);
        if let Some(end) = found.map(|place| from + place) {
            let line = &self.bytes[self.given..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() <= limit {
                let piece = Piece::new(line, true);
                self.given(end + 1);
                return Some(piece);
            }
        } else {
            self.searched = most;
        }
        let rest = self.rest();
        // A `\r` right after the limit may belong to a line end.
        let too_long = rest.len() > limit && (at_end || rest.len() > limit + 1 || rest[limit] != b'\r');
        let cut = match (too_long, at_end) {
            (true, _) => cut(rest, limit),
            (false, true) if !rest.is_empty() => rest.len(),
            (false, _) => return None,
        };
        let piece = Piece::new(&rest[..cut], false);
        self.given(self.given + cut);
        Some(piece)
    }

    /// The bytes that were not returned and are not secret.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.given..]
    }

    pub(super) fn given_up_to(&self) -> usize {
        self.given
    }

    /// The caller has taken this many bytes from `rest`.
    pub(super) fn skip(&mut self, count: usize) {
        self.given(self.given + count);
    }

    fn given(&mut self, up_to: usize) {
        self.given = up_to;
        self.searched = self.searched.max(up_to);
        if self.is_empty() {
            // The buffer is used again, but its bytes are not.
            self.bytes.clear();
            (self.given, self.searched) = (0, 0);
        }
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        if self.secret.is_some() {
            self.bytes.zeroize();
        }
    }
}

/// The place to cut a line that is longer than `limit`: at the limit, or a little before so that no character is split.
pub(super) fn cut(line: &[u8], limit: usize) -> usize {
    let starts = |place: &usize| line[*place] & 0b1100_0000 != 0b1000_0000;
    // A character is at most four bytes long. Bytes that are not UTF-8 are cut anywhere.
    (limit.saturating_sub(3).max(1)..=limit).rev().find(starts).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(splitter: &mut Splitter, limit: usize, at_end: bool) -> Vec<(String, bool)> {
        std::iter::from_fn(|| splitter.line(limit, at_end))
            .map(|piece| (piece.text, piece.complete))
            .collect()
    }

    fn split(text: &str, limit: usize) -> Vec<(String, bool)> {
        let mut splitter = Splitter::default();
        splitter.buffer().extend_from_slice(text.as_bytes());
        all(&mut splitter, limit, true)
    }

    fn pieces(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
        expected.iter().map(|(text, complete)| ((*text).to_owned(), *complete)).collect()
    }

    #[test]
    fn lines_and_their_ends() {
        assert_eq!(split("a\nb\r\n\nc", 100), pieces(&[("a", true), ("b", true), ("", true), ("c", false)]));
        assert_eq!(split("", 100), pieces(&[]));
        assert_eq!(split("\r\n\r", 100), pieces(&[("", true), ("\r", false)]));
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        assert_eq!(split("abcdefg\n", 3), pieces(&[("abc", false), ("def", false), ("g", true)]));
        assert_eq!(split("abc\r\nd", 3), pieces(&[("abc", true), ("d", false)]), "as long as the limit");
        assert_eq!(split("äöü\n", 3), pieces(&[("ä", false), ("ö", false), ("ü", true)]));
    }

    #[test]
    fn an_unfinished_line_waits() {
        let mut splitter = Splitter::default();
        splitter.buffer().extend_from_slice(b"one\ntw");
        assert_eq!(all(&mut splitter, 10, false), pieces(&[("one", true)]));
        splitter.buffer().extend_from_slice(b"o\n");
        assert_eq!(all(&mut splitter, 10, false), pieces(&[("two", true)]));
        assert!(splitter.is_empty());
    }

    /// For buffers of all kinds, and with or without lines taken from the front.
    #[test]
    fn what_is_taken_keeps_no_more_than_it_needs() {
        for wipes in [false, true] {
            for room in [0, 1, 512, 513, 4096, 65_536] {
                for count in [0, 1, 3, 255, 256, 257, 2048, 40_000].into_iter().filter(|count| *count <= room)
                {
                    let mut splitter = Splitter::default();
                    splitter.secret = wipes.then(Box::default);
                    splitter.buffer().reserve_exact(room + 5);
                    // No line is cut from a secret.
                    let line = if wipes { &b""[..] } else { b"line\n" };
                    splitter.buffer().extend_from_slice(line);
                    splitter.buffer().resize(count + line.len(), b'x');
                    assert_eq!(!wipes && splitter.line(10, false).is_some(), !wipes);
                    let taken = splitter.take();
                    assert_eq!(taken, vec![b'x'; count]);
                    assert!(taken.capacity() <= most_room(count), "{} for {count}", taken.capacity());
                    assert!(splitter.is_empty() && splitter.bytes.capacity() == 0);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 4096 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// For all chunkings: no byte is lost, and no piece is too long.
        #[test]
        fn every_chunking_gives_the_same(
            chunks in proptest::collection::vec(proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), Just(0xc3), Just(0xa4)], 0..12), 0..12),
            limit in 1_usize..9,
        ) {
            let whole = chunks.concat();
            let mut splitter = Splitter::default();
            let mut given = Vec::new();
            for chunk in &chunks {
                splitter.buffer().extend_from_slice(chunk);
                while let Some(piece) = splitter.line(limit, false) {
                    given.push(piece);
                }
            }
            while let Some(piece) = splitter.line(limit, true) {
                given.push(piece);
            }
            prop_assert!(splitter.is_empty());
            // Joins the pieces again, with the line end that each whole line had.
            let mut rest = &whole[..];
            for piece in given {
                let bytes = piece.bytes();
                prop_assert!(bytes.len() <= limit);
                prop_assert!(!bytes.contains(&b'\n'));
                prop_assert!(rest.starts_with(bytes));
                rest = &rest[bytes.len()..];
                if piece.complete {
                    rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).expect("a line end");
                }
            }
            prop_assert!(rest.is_empty());
        }

        /// Without a limit it does the same as `str::lines`.
        #[test]
        fn as_std_does_it(text in "[ab\r\n]{0,40}") {
            let expected: Vec<&str> = text.lines().collect();
            let given = split(&text, 1000);
            let lines: Vec<&str> = given.iter().map(|(line, _)| line.as_str()).collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
