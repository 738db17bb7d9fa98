//! Ground: why a program ended as it did, in words. It sees only the end itself.
//!
//! Rule: it says no more than was seen. It names the usual use of a signal or code, because any program may send the
//! one or exit with the other.

use std::process::ExitStatus;

use crate::output::Output;
#[cfg(unix)]
use crate::signal::Signal;

/// How the program ended, and the reason if it is known.
pub(crate) fn explain(output: &Output) -> String {
    let mut text = describe(output.status);
    let code = of_shell(output.status.code().filter(|_| output.is_shell));
    for part in [of_signal(output.status), code].into_iter().flatten() {
        text.push_str(", which ");
        text.push_str(&part);
    }
    // The signal of the program itself, or of a program that a shell reports.
    if output.memory_short && text.contains("SIGKILL") {
        text.push_str(", probably out of memory");
    }
    text
}

/// `exited with code 3`, `was killed by SIGTERM (signal 15)`.
pub(super) fn describe(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        // STATUS_CONTROL_C_EXIT: nobody would know the number.
        #[cfg(windows)]
        if code as u32 == 0xc000_013a {
            return "was ended by Ctrl-C or Ctrl-Break (code 0xC000013A)".to_owned();
        }
        return format!("exited with code {code}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            let core = if status.core_dumped() { ", core dumped" } else { "" };
            let name = Signal::from_raw(signal).to_string();
            return match name.starts_with("SIG") {
                true => format!("was killed by {name} (signal {signal}{core})"),
                false => format!("was killed by {name}{core}"),
            };
        }
    }
    "ended in a way that is not known".to_owned()
}

/// The usual reason for a signal, setrlimit(2), seccomp(2).
fn of_signal(status: ExitStatus) -> Option<String> {
    #[cfg(unix)]
    {
        let signal = std::os::unix::process::ExitStatusExt::signal(&status)?;
        let what = match Signal::from_raw(signal) {
            Signal::XCPU => "at the limit of processor time",
            Signal::XFSZ => "at the limit of a file's size",
            Signal::SYS if cfg!(target_os = "linux") => "for a system call that is not permitted (seccomp)",
            Signal::SYS => "for a system call that does not exist or is not permitted",
            _ => return None,
        };
        Some(format!("the system sends {what}"))
    }
    #[cfg(not(unix))]
    {
        let _ = status;
        None
    }
}

/// A shell's meaning of a code: POSIX.1-2017, XCU 2.8.2.
fn of_shell(code: Option<i32>) -> Option<String> {
    let what = match code? {
        126 => "found, but could not be run".to_owned(),
        127 => "not found".to_owned(),
        #[cfg(unix)]
        code => {
            let signal = Signal::from_raw(code.checked_sub(128)?).to_string();
            if !signal.starts_with("SIG") {
                return None;
            }
            format!("killed by {signal}")
        }
        #[cfg(not(unix))]
        _ => return None,
    };
    Some(format!("a shell says if a program was {what}"))
}
