//! How a large buffer grows.
//!
//! Refuses to know what the bytes are.
//!
//! Large output takes most of its time to touch new pages, 4 KiB after 4 KiB. The longest poll is one in which the buffer
//! doubles. Two habits make both shorter on Linux, and cost nothing elsewhere:
//! - glibc grows a large buffer by mremap(2). If both places are at a multiple of a large page, the kernel moves whole
//!   tables of pages: 0.1 ms for 256 MiB. If not, it moves page by page: 1.3 ms. Linux 6.7 and later choose such a
//!   place for what is as long as a multiple of a large page.
//! - The parent asks for many pages in one call, before it needs them: madvise(2), MADV_POPULATE_WRITE, Linux 5.14.
//!
//! Large pages (MADV_HUGEPAGE) would save a third of the time again. But one fault of such a page took up to 3 ms in a
//! virtual machine, and so did the poll.
#![cfg_attr(target_os = "linux", allow(unsafe_code))]

/// What one table of pages maps on most processors.
const LARGE_PAGE: usize = 2 * 1024 * 1024;

/// What glibc keeps of a mapping for itself is within one page.
const HEADER: usize = 4096;

/// Makes room for so many bytes more, and doubles the buffer at least.
pub(crate) fn grow(buffer: &mut Vec<u8>, room: usize) {
    let doubled =
        buffer.capacity().checked_mul(2).and_then(|twice| twice.checked_next_multiple_of(LARGE_PAGE));
    match doubled {
        Some(whole) if buffer.capacity() >= LARGE_PAGE / 2 && whole - HEADER >= buffer.len() + room => {
            buffer.reserve_exact(whole - HEADER - buffer.len());
        }
        _ => buffer.reserve(room),
    }
}

/// Faults in the pages that the next reads of a large buffer will fill, after a read of so many bytes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn prefault(_buffer: &mut Vec<u8>, _read: usize) {}

/// Faults in the pages that the next reads of a large buffer will fill, after a read of so many bytes.
#[cfg(target_os = "linux")]
pub(crate) fn prefault(buffer: &mut Vec<u8>, read: usize) {
    use rustix::mm::{Advice, madvise};
    /// So much at a time: about as much as a stream's pipe holds, and a tenth of a millisecond.
    const STEP: usize = 256 * 1024;
    let length = buffer.len();
    let step = length / STEP;
    if length < LARGE_PAGE / 2 || (length - read) / STEP == step {
        return;
    }
    // The rest of this step was faulted in before.
    let from = (step + 1) * STEP - length;
    let spare = buffer.spare_capacity_mut();
    let Some(ahead) = spare.get_mut(from..spare.len().min(from + STEP)) else { return };
    let page = rustix::param::page_size();
    let start = ahead.as_ptr().align_offset(page).min(ahead.len());
    let whole = &mut ahead[start..];
    let length = whole.len() / page * page;
    // SAFETY: it changes no byte, and the pages are within the buffer.
    let _: rustix::io::Result<()> =
        unsafe { madvise(whole.as_mut_ptr().cast(), length, Advice::LinuxPopulateWrite) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_grows_to_whole_large_pages_and_keeps_its_bytes() {
        let mut buffer = Vec::new();
        let most = if cfg!(miri) { 3 * LARGE_PAGE } else { 20 * LARGE_PAGE };
        let (mut grown, mut moved) = (0, 0);
        while buffer.len() < most {
            if buffer.capacity() - buffer.len() < HEADER {
                let before = buffer.capacity();
                grow(&mut buffer, HEADER);
                assert!(
                    buffer.capacity() + HEADER >= 2 * before && buffer.capacity() - buffer.len() >= HEADER
                );
                if before >= LARGE_PAGE / 2 {
                    assert_eq!((buffer.capacity() + HEADER) % LARGE_PAGE, 0);
                    grown += 1;
                }
                moved += before;
            }
            let n = buffer.len() as u64;
            buffer.extend_from_slice(&n.to_ne_bytes());
            #[cfg(not(miri))]
            prefault(&mut buffer, 8);
        }
        let words =
            buffer.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
        assert!(words.enumerate().all(|(index, word)| word == 8 * index as u64));
        assert!(grown > 0 && moved < 2 * buffer.len(), "{grown} times, {moved} bytes moved");
    }
}
