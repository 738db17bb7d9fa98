//! Secret bytes in chunks. They grow without a copy, and are joined one chunk a step. Does not know where they come
//! from.
//!
//! Why: if a vector grows, its old bytes stay in freed memory. So all of a secret would be copied and wiped each time
//! its buffer doubles. For 1 GiB this took most of a second, in one poll. In chunks, each byte is copied once, at the
//! end.
//!
//! Rules:
//! - A step costs no more than one chunk.
//! - All memory is wiped, except the bytes that are returned.
//! - The joined bytes are filled as fast as the chunks are freed. So no more memory is touched than the bytes need, and
//!   one chunk.

use std::collections::VecDeque;

use zeroize::Zeroize;

/// The size of a chunk.
const CHUNK: usize = 1024 * 1024;

/// A chunk with less room than this is full. It is the most that one read asks for.
const ROOM: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct SecretChunks {
    full: VecDeque<Vec<u8>>,
    /// The bytes that were joined so far.
    whole: Vec<u8>,
}

impl SecretChunks {
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.whole.is_empty()
    }

    /// Moves the bytes aside, if another read would make them grow. Small buffers may grow: they are copied as they
    /// double.
    pub(super) fn set_aside(&mut self, bytes: &mut Vec<u8>) {
        let is_full = bytes.capacity() - bytes.len() < ROOM && bytes.len() >= CHUNK / 2;
        if is_full {
            self.full.push_back(std::mem::replace(bytes, Vec::with_capacity(CHUNK)));
        }
    }

    /// Joins one more chunk and wipes it; `last` are the last bytes. When all are joined, `last` becomes the whole.
    /// Returns whether all are joined.
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

    /// Wipes all chunks.
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

    /// Collects bytes as a transport does, `at_once` at a time.
    fn collect(chunks: &mut SecretChunks, total: usize, at_once: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut read = 0;
        while read < total {
            chunks.set_aside(&mut bytes);
            let count = at_once.min(total - read);
            let before = (bytes.capacity(), bytes.len());
            bytes.extend((read..read + count).map(|n| (n % 251) as u8));
            // If the buffer grew, few bytes were copied.
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
                // Small buffers are never set aside, and not copied.
                assert!(total > CHUNK / 2 || steps == 1);
            }
        }
    }

    #[test]
    fn the_whole_has_no_room_to_spare() {
        let mut chunks = SecretChunks::default();
        let mut bytes = collect(&mut chunks, 3 * CHUNK, ROOM);
        while !chunks.join(&mut bytes) {
            // The chunks that are left and the joined bytes are all the memory.
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
