//! What is asked of the machine: its size, this process's memory, threads and processor time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// The system's allocator, with a count of the bytes that live; counts only once it was told to.
pub struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    if COUNTS.load(Ordering::Relaxed) {
        LIVE.fetch_add(sign * bytes as isize, Ordering::Relaxed);
    }
}

/// Starts counting.
pub fn count_heap() {
    COUNTS.store(true, Ordering::Relaxed);
}

/// Bytes allocated and not freed since counting began.
pub fn live_heap() -> isize {
    LIVE.load(Ordering::Relaxed)
}

// SAFETY: hands everything on to the system's allocator, and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, 1);
        count(layout.size(), -1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// A field of a file like `/proc/self/status`, in bytes.
fn kib_field(path: &str, field: &str) -> u64 {
    let text = fs::read_to_string(path).expect("proc is mounted");
    let line = text.lines().find(|line| line.starts_with(field)).expect("the kernel tells it");
    let number = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    number.expect("a number of KiB") * 1024
}

/// Memory in use at this moment.
pub fn resident() -> u64 {
    kib_field("/proc/self/status", "VmRSS:")
}

/// The most memory in use since `forget_peak`.
pub fn peak() -> u64 {
    kib_field("/proc/self/status", "VmHWM:")
}

/// Sets the peak to what is in use now, proc_pid_clear_refs(5).
pub fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("one's own peak can be reset");
}

/// Memory that can still be used.
pub fn available() -> u64 {
    kib_field("/proc/meminfo", "MemAvailable:")
}

/// Threads of this process.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("proc is mounted").count()
}

/// Cores, memory and kernel.
pub fn size() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let memory = kib_field("/proc/meminfo", "MemTotal:") as f64 / f64::from(1 << 30);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the version names whoever built it.
    let kernel = kernel.split(['-', '+', '\n']).next().unwrap_or_default();
    format!("{cores} cores, {memory:.0} GiB of memory, Linux {kernel}")
}

/// Processor time that this process has used, in seconds.
pub fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: room for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a valid rusage, and so is what the kernel wrote.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Processor time that this thread has used, in seconds.
pub fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Allows as many open files as an ordinary user may have, and says how many.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads what it is given.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    limit.rlim_cur
}

/// Memory that is written to, page by page of the usual size: what a fork has to copy tables for.
pub fn touched(bytes: usize) -> Vec<u8> {
    let mut memory: Vec<u8> = Vec::with_capacity(bytes);
    if bytes > 0 {
        const PAGE: usize = 4096;
        let skip = memory.as_ptr().align_offset(PAGE);
        let start = memory.as_mut_ptr().wrapping_add(skip);
        // SAFETY: whole pages within the allocation; the advice changes no contents.
        unsafe { libc::madvise(start.cast(), (bytes - skip) & !(PAGE - 1), libc::MADV_NOHUGEPAGE) };
        memory.resize(bytes, 1);
    }
    memory
}
