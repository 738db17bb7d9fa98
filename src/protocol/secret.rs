//! Secret bytes in pieces: they grow without a copy, and become one whole in steps of one piece each. Knows nothing of
//! where they come from.
//!
//! Why: a vector that grows leaves what it had in a freed block, so a secret has to be copied and wiped, all of it, each
//! time that it doubles. Of 1 GiB that took most of a second, in one poll. In pieces each byte is copied once, at the end.
//!
//! Rules: a step costs no more than a piece; nothing is left unwiped but what is handed out; no more memory is touched than
//! the bytes take and one piece, since the whole is filled as fast as the pieces go.

use std::collections::VecDeque;

use zeroize::Zeroize;

/// The room of a piece.
const CHUNK: usize = 1024 * 1024;

/// A piece with less room than this is full: so much is asked for at once, at most.
const ROOM: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct SecretChunks {
    full: VecDeque<Vec<u8>>,
    /// What was joined until now.
    whole: Vec<u8>,
}

impl SecretChunks {
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.whole.is_empty()
    }

    /// Takes the bytes out of the way if another read would make them grow. Small ones may: they are copied as they double.
    pub(super) fn set_aside(&mut self, bytes: &mut Vec<u8>) {
        let is_full = bytes.capacity() - bytes.len() < ROOM && bytes.len() >= CHUNK / 2;
        if is_full {
            self.full.push_back(std::mem::replace(bytes, Vec::with_capacity(CHUNK)));
        }
    }

    /// Copies one more piece to the whole and wipes it, where these are the last bytes. Once all is joined the whole stands
    /// in their place. Whether it does.
    pub(super) fn join(&mut self, last: &mut Vec<u8>) -> bool {
        if self.is_empty() {
            return true;
        }
        if self.whole.capacity() == 0 {
            self.full.push_back(std::mem::take(last));
            self.whole.reserve_exact(self.full.iter().map(Vec::len).sum());
        }
        if let Some(mut chunk) = self.full.pop_front() {
            self.whole.extend_from_slice(&chunk);
            chunk.zeroize();
        }
        let is_done = self.full.is_empty();
        if is_done {
            *last = std::mem::take(&mut self.whole);
        }
        is_done
    }

    /// Wipes all of them.
    pub(super) fn clear(&mut self) {
        self.full.iter_mut().for_each(Zeroize::zeroize);
        self.full.clear();
        self.whole.zeroize();
        self.whole = Vec::new();
    }
}

impl Drop for SecretChunks {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a transport reads it, so much at a time.
    fn collect(chunks: &mut SecretChunks, total: usize, at_once: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut read = 0;
        while read < total {
            chunks.set_aside(&mut bytes);
            let count = at_once.min(total - read);
            let before = (bytes.capacity(), bytes.len());
            bytes.extend((read..read + count).map(|n| (n % 251) as u8));
            // It grew, and what it moved is bounded.
            assert!(bytes.capacity() == before.0 || before.1 <= CHUNK, "{before:?}");
            read += count;
        }
        bytes
    }

    #[test]
    fn all_of_it_comes_in_order_and_in_small_steps() {
        let sizes = if cfg!(miri) { [0, 1, CHUNK, 2 * CHUNK + 7] } else { [0, 1, CHUNK, 9 * CHUNK + 7] };
        for total in sizes {
            for at_once in [ROOM, ROOM - 1, 10_007] {
                let mut chunks = SecretChunks::default();
                let mut bytes = collect(&mut chunks, total, at_once);
                let (mut steps, mut joined) = (1, 0);
                while !chunks.join(&mut bytes) {
                    assert!(chunks.whole.len() - joined <= CHUNK, "one chunk a step");
                    (steps, joined) = (steps + 1, chunks.whole.len());
                }
                assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
                assert_eq!(bytes.len(), total);
                assert!(
                    chunks.is_empty() && steps <= 2 + 2 * total / CHUNK,
                    "{steps} steps for {total} bytes"
                );
                // What is small was never put aside, and is not copied.
                assert!(total > CHUNK / 2 || steps == 1);
            }
        }
    }

    #[test]
    fn the_whole_has_no_room_to_spare() {
        let mut chunks = SecretChunks::default();
        let mut bytes = collect(&mut chunks, 3 * CHUNK, ROOM);
        while !chunks.join(&mut bytes) {
            // What waits and what is joined is all that there is.
            let waiting: usize = chunks.full.iter().map(Vec::len).sum();
            assert_eq!(waiting + chunks.whole.len(), 3 * CHUNK);
        }
        assert_eq!(bytes.capacity(), 3 * CHUNK);
    }

    #[test]
    fn it_can_be_cleared_at_any_time() {
        for steps in 0..4 {
            let mut chunks = SecretChunks::default();
            let mut bytes = collect(&mut chunks, 3 * CHUNK, ROOM);
            (0..steps).for_each(|_| assert!(!chunks.join(&mut bytes) || steps == 3));
            chunks.clear();
            assert!(chunks.is_empty());
        }
    }
}
