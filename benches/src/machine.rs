//! Questions to the machine: its size, and this process's memory, threads and processor time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::python;

/// The system's allocator, with a count of the bytes in use. It counts only after `count_heap`.
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

// SAFETY: passes every call on to the system's allocator, and only counts.
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

/// The machine and the peers of the results.
#[derive(Default, Serialize, Deserialize)]
pub struct Facts {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// The version of each peer.
    pub versions: BTreeMap<String, String>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

impl Facts {
    /// The facts of this machine.
    pub fn look() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
        let processor = processor.and_then(|line| line.split_once(':')).map_or("", |(_, name)| name.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let mut versions = locked_versions();
        versions.extend(python::versions());
        Facts {
            processor: if processor.is_empty() { std::env::consts::ARCH.into() } else { processor.into() },
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get()),
            memory_gib: (kib_field("/proc/meminfo", "MemTotal:") as f64 / f64::from(1 << 30)).round() as u64,
            // The part after the version names the machine that built it.
            kernel: kernel.split(['-', '+', '\n']).next().unwrap_or_default().to_owned(),
            rustc: said(rustc, &["--version"]).unwrap_or_else(|| "an unknown rustc".into()),
            versions,
            skipped: python::missing().into_iter().chain(crate::instructions::missing()).collect(),
        }
    }

    /// Processor, cores, memory and kernel, in words.
    pub fn place(&self) -> String {
        let Facts { processor, cores, memory_gib, kernel, .. } = self;
        format!("{cores} cores of {processor}, {memory_gib} GiB of memory, Linux {kernel}")
    }
}

/// The first line of a command's output, if it succeeds.
pub fn said(mut command: Command, arguments: &[&str]) -> Option<String> {
    let output = command.args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The peers that this package depends on, with the versions in Cargo.lock.
fn locked_versions() -> BTreeMap<String, String> {
    const PEERS: [&str; 6] = ["async-process", "command-fds", "duct", "processkit", "subprocess", "tokio"];
    let lock = fs::read_to_string(crate::results::home().join("../Cargo.lock")).unwrap_or_default();
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    let packages = lock
        .split("[[package]]")
        .filter_map(|package| Some((field(package, "name")?, field(package, "version")?)));
    packages.filter(|(name, _)| PEERS.contains(&name.as_str())).collect()
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

/// Allows as many open files as this user may have, and returns how many.
pub fn raise_open_files() -> u64 {
    /// More than any family needs.
    const ENOUGH: libc::rlim_t = 1 << 17;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let most = limit.rlim_max.max(ENOUGH);
    let raised = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: reads what it is given. root may raise its own limit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
        return most;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads what it is given.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    limit.rlim_cur
}

/// Memory that was written to, page by page of the usual size. A fork has to copy its page tables.
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
