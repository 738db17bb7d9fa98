//! The first and the last bytes of a descriptor. Does not know where they come from.
//!
//! Rules: it holds only these bytes and one read. Each byte after the first ones is copied once, into a ring.

use std::collections::VecDeque;

use crate::output::Gap;

pub(super) struct Ends {
    first: usize,
    last: usize,
    /// The last of the bytes that came after the first ones.
    ring: VecDeque<u8>,
    left_out: u64,
}

impl Ends {
    pub(super) fn new(first: usize, last: usize) -> Self {
        Ends { first, last, ring: VecDeque::new(), left_out: 0 }
    }

    /// Takes the bytes after the first ones.
    pub(super) fn take_in(&mut self, bytes: &mut Vec<u8>) {
        let Some(more) = bytes.get(self.first..).filter(|more| !more.is_empty()) else { return };
        let before = self.ring.len() + more.len();
        let kept = &more[more.len().saturating_sub(self.last)..];
        let leaving = (self.ring.len() + kept.len()).saturating_sub(self.last);
        self.ring.drain(..leaving);
        if self.ring.len() + kept.len() > self.ring.capacity() {
            // The ring doubles, but never beyond its limit.
            let room = (2 * self.ring.len()).max(self.ring.len() + kept.len()).min(self.last);
            self.ring.reserve_exact(room - self.ring.len());
        }
        self.ring.extend(kept);
        self.left_out += (before - self.ring.len()) as u64;
        bytes.truncate(self.first);
    }

    /// Appends the last bytes to the first ones. Returns the gap between them, if bytes are missing.
    pub(super) fn join(self, bytes: &mut Vec<u8>) -> Option<Gap> {
        let gap = Gap { at: bytes.len(), bytes: self.left_out, last: self.ring.len() };
        if bytes.is_empty() {
            // Without a copy.
            *bytes = self.ring.into();
            return (gap.bytes > 0).then_some(gap);
        }
        bytes.reserve_exact(self.ring.len());
        let (one, other) = self.ring.as_slices();
        bytes.extend_from_slice(one);
        bytes.extend_from_slice(other);
        (self.left_out > 0).then_some(gap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 1024 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Compared with a simple model: keep all bytes, and cut at the end.
        #[test]
        fn the_ends_of_any_reads(
            first in 0..20_usize,
            last in 0..20_usize,
            reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..12),
        ) {
            let (mut ends, mut bytes, mut all) = (Ends::new(first, last), Vec::new(), Vec::new());
            for read in &reads {
                bytes.extend_from_slice(read);
                all.extend_from_slice(read);
                ends.take_in(&mut bytes);
                prop_assert!(bytes.len() <= first && ends.ring.capacity() <= last);
            }
            let gap = ends.join(&mut bytes);
            if all.len() <= first + last {
                prop_assert_eq!((bytes, gap), (all, None));
            } else {
                let left_out = all.len() - first - last;
                prop_assert_eq!(gap, Some(Gap { at: first, bytes: left_out as u64, last }));
                all.drain(first..first + left_out);
                prop_assert_eq!(bytes, all);
            }
        }
    }
}
