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
        #[cfg(windows)]
        return of_windows(code);
        #[cfg(not(windows))]
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

/// A code of Windows. If the system ends a process, the code is an NTSTATUS (ntstatus.h), which everybody knows as a
/// hexadecimal number or by its name.
#[cfg(any(windows, test))]
fn of_windows(code: i32) -> String {
    let number = code as u32;
    let name = match number {
        0x4000_0015 => "STATUS_FATAL_APP_EXIT",
        0x8000_0002 => "STATUS_DATATYPE_MISALIGNMENT",
        0x8000_0003 => "STATUS_BREAKPOINT",
        0xc000_0005 => "STATUS_ACCESS_VIOLATION",
        0xc000_0006 => "STATUS_IN_PAGE_ERROR",
        0xc000_0017 => "STATUS_NO_MEMORY",
        0xc000_001d => "STATUS_ILLEGAL_INSTRUCTION",
        0xc000_0025 => "STATUS_NONCONTINUABLE_EXCEPTION",
        0xc000_007b => "STATUS_INVALID_IMAGE_FORMAT",
        0xc000_0094 => "STATUS_INTEGER_DIVIDE_BY_ZERO",
        0xc000_0095 => "STATUS_INTEGER_OVERFLOW",
        0xc000_0096 => "STATUS_PRIVILEGED_INSTRUCTION",
        0xc000_00fd => "STATUS_STACK_OVERFLOW",
        0xc000_0135 => "STATUS_DLL_NOT_FOUND",
        0xc000_0138 => "STATUS_ORDINAL_NOT_FOUND",
        0xc000_0139 => "STATUS_ENTRYPOINT_NOT_FOUND",
        0xc000_013a => return "was ended by Ctrl-C or Ctrl-Break (code 0xC000013A)".to_owned(),
        0xc000_0142 => "STATUS_DLL_INIT_FAILED",
        0xc000_0374 => "STATUS_HEAP_CORRUPTION",
        // Both by __fastfail, which abort() calls too.
        0xc000_0409 => "STATUS_STACK_BUFFER_OVERRUN, or the program aborted",
        0xc000_0420 => "STATUS_ASSERTION_FAILURE",
        0xc000_0602 => "STATUS_FAIL_FAST_EXCEPTION",
        0xe043_4352 => "an exception of .NET",
        0xe06d_7363 => "an exception of C++",
        // Errors and warnings of the system. -1 and its like are a program's own.
        0x8000_0000..=0xcfff_ffff => return format!("exited with code 0x{number:08X}"),
        _ => return format!("exited with code {code}"),
    };
    format!("exited with code 0x{number:08X} ({name})")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_codes_of_windows_are_named() {
        let of = |number: u32| of_windows(number as i32);
        assert_eq!(of(0xc000_0005), "exited with code 0xC0000005 (STATUS_ACCESS_VIOLATION)");
        assert_eq!(of(0xc000_013a), "was ended by Ctrl-C or Ctrl-Break (code 0xC000013A)");
        assert_eq!(
            of(0xc000_0409),
            "exited with code 0xC0000409 (STATUS_STACK_BUFFER_OVERRUN, or the program aborted)"
        );
        let named = [
            0xc000_0374,
            0xc000_00fd,
            0xc000_0135,
            0xc000_0142,
            0xc000_001d,
            0xc000_0094,
            0x8000_0003,
            0xe06d_7363,
        ];
        for number in named {
            let said = of(number);
            assert!(said.starts_with(&format!("exited with code 0x{number:08X} (")), "{said}");
        }
        assert_eq!(of(0xc000_0999), "exited with code 0xC0000999");
        let own = [0, 1, 3, 255, 0x7fff_ffff, u32::MAX, -2_i32 as u32];
        assert!(own.iter().all(|code| of(*code) == format!("exited with code {}", *code as i32)));
    }
}
