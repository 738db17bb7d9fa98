//! Ground: resources that the system limits, by name and number. It does not know processes.

use std::fmt;

/// A resource that the system limits for a process; see [`Command::rlimit`](crate::Command::rlimit).
///
/// ```
/// use reaped::Resource;
/// assert_eq!(Resource::NOFILE.to_string(), "RLIMIT_NOFILE");
/// ```
///
/// # Platform
/// Unix. The constants have the system's own numbers, getrlimit(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource(i32);

impl Resource {
    /// The resource of this number. If the system does not have it, the start fails.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// assert_eq!(reaped::Resource::from_raw(14).to_string(), "limit 14"); // RLIMIT_RTPRIO
    /// ```
    pub const fn from_raw(number: i32) -> Self {
        Resource(number)
    }

    /// The number.
    ///
    /// ```
    /// assert_eq!(reaped::Resource::CPU.as_raw(), 0);
    /// ```
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// The name, or the number if it has no name here.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(resource, _)| resource == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "limit {}", self.0),
        }
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

macro_rules! resources {
    ($($name:ident $number:ident, $what:literal;)*) => {
        /// The names of POSIX.1-2017 (`<sys/resource.h>`), and those that Linux, macOS and the BSDs share.
        impl Resource {$(
            #[doc = $what]
            // The type differs between C libraries.
            pub const $name: Resource = Resource(libc::$number as i32);
        )*}

        const NAMES: &[(Resource, &str)] = &[$((Resource::$name, stringify!($number)),)*];
    };
}

resources! {
    AS RLIMIT_AS, "Bytes of address space.";
    CORE RLIMIT_CORE, "Bytes of a core file.";
    CPU RLIMIT_CPU, "Seconds of processor time; SIGXCPU at the soft limit, SIGKILL at the hard one.";
    DATA RLIMIT_DATA, "Bytes of data: initialised, uninitialised, and heap.";
    FSIZE RLIMIT_FSIZE, "Bytes of a file that is written; SIGXFSZ beyond.";
    MEMLOCK RLIMIT_MEMLOCK, "Bytes that may be locked in memory.";
    NOFILE RLIMIT_NOFILE, "One more than the highest descriptor number.";
    NPROC RLIMIT_NPROC, "Processes of the user.";
    STACK RLIMIT_STACK, "Bytes of the main thread's stack.";
}
