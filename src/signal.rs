//! Ground: signals by name and number. It does not know processes.

use std::fmt;
use std::str::FromStr;

/// A signal, by its POSIX name or its number.
///
/// ```
/// use reaped::Signal;
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::from_raw(15), Signal::TERM);
/// ```
///
/// # Platform
/// The constants have the system's own numbers. Windows has no signals. It has these three names, and any other
/// number is an error:
///
/// - KILL ends the process, or its whole [`new_group`](crate::Command::new_group), at once, with exit code 1.
/// - INT and TERM are Ctrl-Break (`CTRL_BREAK_EVENT`) for a group that shares this program's console. For any other
///   child they are the same as KILL. Windows cannot send Ctrl-C to a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// The signal of this number. If the system does not have it, sending it is an error.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// assert_eq!(reaped::Signal::from_raw(34).to_string(), "signal 34"); // a real-time signal
    /// ```
    pub const fn from_raw(number: i32) -> Self {
        Signal(number)
    }

    /// The number.
    ///
    /// ```
    /// assert_eq!(reaped::Signal::KILL.as_raw(), 9);
    /// ```
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(signal, _)| *signal == self).map(|(_, name)| *name)
    }
}

/// The name, or the number if POSIX has no name for it.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// From its name, with or without `SIG`, or from its number.
///
/// ```
/// use reaped::Signal;
/// assert_eq!("TERM".parse(), Ok(Signal::TERM));
/// assert_eq!("SIGTERM".parse(), Ok(Signal::TERM));
/// assert_eq!("15".parse::<Signal>().unwrap().as_raw(), 15);
/// assert!("no signal".parse::<Signal>().is_err());
/// ```
impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(name: &str) -> Result<Self, UnknownSignal> {
        if let Ok(number) = name.parse::<i32>() {
            return Ok(Signal(number));
        }
        let is_it = |known: &str| known == name || known.strip_prefix("SIG") == Some(name);
        let found = NAMES.iter().find(|(_, known)| is_it(known));
        found.map(|(signal, _)| *signal).ok_or_else(|| UnknownSignal(name.to_owned()))
    }
}

/// A text that names no signal of this system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no signal's name")]
pub struct UnknownSignal(String);

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

macro_rules! signals {
    ($($(#[$attribute:meta])* $name:ident $text:literal $number:expr, $what:literal;)*) => {
        /// The names of POSIX.1-2017 (`<signal.h>`), without their `SIG`.
        impl Signal {$(
            $(#[$attribute])*
            #[doc = $what]
            pub const $name: Signal = Signal($number);
        )*}

        const NAMES: &[(Signal, &str)] = &[$($(#[$attribute])* (Signal::$name, $text),)*];
    };
}

#[cfg(unix)]
signals! {
    HUP "SIGHUP" libc::SIGHUP, "The terminal was closed; daemons read their settings again.";
    INT "SIGINT" libc::SIGINT, "Ctrl-C.";
    QUIT "SIGQUIT" libc::SIGQUIT, "Ctrl-\\: as INT, with a core dump.";
    ILL "SIGILL" libc::SIGILL, "Illegal instruction.";
    TRAP "SIGTRAP" libc::SIGTRAP, "A debugger's breakpoint.";
    ABRT "SIGABRT" libc::SIGABRT, "abort(3).";
    BUS "SIGBUS" libc::SIGBUS, "Access to memory that is not there.";
    FPE "SIGFPE" libc::SIGFPE, "Erroneous arithmetic.";
    KILL "SIGKILL" libc::SIGKILL, "Ends the process; cannot be caught.";
    USR1 "SIGUSR1" libc::SIGUSR1, "For the program's own use.";
    SEGV "SIGSEGV" libc::SIGSEGV, "Access to memory that is forbidden.";
    USR2 "SIGUSR2" libc::SIGUSR2, "For the program's own use.";
    PIPE "SIGPIPE" libc::SIGPIPE, "A write to a pipe that nobody reads.";
    ALRM "SIGALRM" libc::SIGALRM, "alarm(2).";
    TERM "SIGTERM" libc::SIGTERM, "Asks the process to end.";
    CHLD "SIGCHLD" libc::SIGCHLD, "A child has changed its state.";
    CONT "SIGCONT" libc::SIGCONT, "Continues a stopped process.";
    STOP "SIGSTOP" libc::SIGSTOP, "Stops the process; cannot be caught.";
    TSTP "SIGTSTP" libc::SIGTSTP, "Ctrl-Z.";
    TTIN "SIGTTIN" libc::SIGTTIN, "A read from the terminal in the background.";
    TTOU "SIGTTOU" libc::SIGTTOU, "A write to the terminal in the background.";
    URG "SIGURG" libc::SIGURG, "Urgent data on a socket.";
    XCPU "SIGXCPU" libc::SIGXCPU, "The limit of processor time was passed.";
    XFSZ "SIGXFSZ" libc::SIGXFSZ, "The limit of file size was passed.";
    VTALRM "SIGVTALRM" libc::SIGVTALRM, "setitimer(2), time in user mode.";
    PROF "SIGPROF" libc::SIGPROF, "setitimer(2), processor time.";
    WINCH "SIGWINCH" libc::SIGWINCH, "The terminal has a new size.";
    SYS "SIGSYS" libc::SIGSYS, "A system call that does not exist or is forbidden.";
}

#[cfg(windows)]
signals! {
    INT "SIGINT" 2, "Ctrl-Break for a group at our console; else ends the process.";
    KILL "SIGKILL" 9, "Ends the process.";
    TERM "SIGTERM" 15, "Ctrl-Break for a group at our console; else ends the process.";
}
