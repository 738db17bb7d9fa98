//! Ctrl-Break, which asks a group at this program's console to end.
//!
//! Wine 8 refuses Ctrl-Break ("not implemented"), and knows Ctrl-C. Under Wine a stand-in replaces the one
//! function that the crate calls. It sends Ctrl-C to the same group, and the helper takes it for Ctrl-Break.
//! That shows which group the crate asks and when, that the system knows the group, and what follows. It does
//! not show that Windows delivers a Ctrl-Break, or when it refuses one.

use std::fs::File;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use reaped::{Command, Error, Process, Signal, Stdio};

use super::helper::CTRL_C_FOR_BREAK;
use super::support::{alone_at_console, eventually, helper};
use super::windows::runs;
use super::windows_ends::{BROKEN, descendant, family};

/// More than any test takes.
const LONG: Duration = Duration::from_secs(60);

pub fn is_wine() -> bool {
    stand_in::function(c"ntdll.dll", c"wine_get_version").is_some()
}

/// The exit code of a program that does not handle it; under Wine it is 0.
fn broken() -> i32 {
    if is_wine() { 0 } else { BROKEN }
}

/// Runs the test in a process of its own, at a console with Ctrl-Break.
fn at_console(name: &str, body: impl FnOnce()) {
    alone_at_console(name, true, || {
        if is_wine() {
            stand_in::put();
            // No other test runs in this process.
            unsafe { std::env::set_var(CTRL_C_FOR_BREAK, "1") };
        }
        body();
    });
}

mod stand_in {
    use windows_sys::Win32::Foundation::FARPROC;
    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT};
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
    use windows_sys::Win32::System::Memory::{PAGE_EXECUTE_READWRITE, VirtualProtect};

    type Send = unsafe extern "system" fn(u32, u32) -> i32;

    pub fn function(library: &std::ffi::CStr, name: &std::ffi::CStr) -> FARPROC {
        let library = unsafe { GetModuleHandleA(library.as_ptr().cast()) };
        unsafe { GetProcAddress(library, name.as_ptr().cast()) }
    }

    unsafe extern "system" fn send(event: u32, group: u32) -> i32 {
        let real = function(c"kernelbase.dll", c"GenerateConsoleCtrlEvent").expect("it is there");
        let real: Send = unsafe { std::mem::transmute(real) };
        unsafe { real(if event == CTRL_BREAK_EVENT { CTRL_C_EVENT } else { event }, group) }
    }

    /// Redirects this process's calls to `send`: kernel32's function jumps to kernelbase's, and now jumps
    /// here.
    pub fn put() {
        let called = function(c"kernel32.dll", c"GenerateConsoleCtrlEvent").expect("it is there") as usize;
        let real = function(c"kernelbase.dll", c"GenerateConsoleCtrlEvent").expect("it is there") as usize;
        assert_ne!(called, real, "it would jump to itself");
        // mov rax, …; jmp rax
        let send: Send = send;
        let mut jump = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
        jump[2..10].copy_from_slice(&(send as usize as u64).to_le_bytes());
        let (place, mut before) = (called as *mut u8, 0);
        let changed =
            unsafe { VirtualProtect(place.cast(), jump.len(), PAGE_EXECUTE_READWRITE, &mut before) };
        assert_ne!(changed, 0);
        unsafe { std::ptr::copy_nonoverlapping(jump.as_ptr(), place, jump.len()) };
    }
}

/// A group whose leader takes these steps, says `ready`, and sleeps.
fn group(steps: &[&str]) -> Command {
    let mut command = helper(steps);
    command.args(["say:1:ready", "sleep:60000"]).new_group().grace(LONG);
    command
}

/// Starts it, and waits for `ready`.
fn ready(command: &mut Command) -> Process {
    let mut process = command.spawn().expect("starts");
    assert_eq!(block_on(process.next_line()).expect("a line").text, "ready");
    process
}

/// The rest of its output, and its exit code.
fn end(process: Process) -> (String, Option<i32>) {
    let output = block_on(process.output()).expect("a value");
    (String::from_utf8(output.stdout.clone()).expect("text"), output.status.code())
}

#[test]
fn a_group_is_asked() {
    at_console("windows_break::a_group_is_asked", || {
        let start = Instant::now();
        for which in 0..3 {
            let process = ready(&mut group(&["break:7"]));
            let control = process.control();
            match which {
                0 => control.terminate(),
                1 => control.signal(Signal::INT),
                _ => control.signal(Signal::TERM),
            }
            .expect("it runs");
            assert_eq!(end(process), ("break\n".into(), Some(7)));
            assert!(matches!(control.terminate(), Err(Error::AlreadyEnded(_))));
        }
        // If the leader does not handle it, the system ends it.
        let process = ready(&mut group(&[]));
        process.control().terminate().expect("it runs");
        assert_eq!(end(process), (String::new(), Some(broken())));
        // SIGKILL asks nobody.
        let process = ready(&mut group(&["break:7"]));
        process.control().kill().expect("it runs");
        assert_eq!(end(process), (String::new(), Some(1)));
        // A child without a group is not asked.
        let mut alone = helper(&["break:7", "say:1:ready", "sleep:60000"]);
        let process = ready(alone.grace(LONG));
        process.control().terminate().expect("it runs");
        assert_eq!(end(process), (String::new(), Some(1)));
        // A child with another console is not asked either.
        let process = ready(group(&["break:7"]).no_window(true));
        process.control().terminate().expect("it runs");
        assert_eq!(end(process), (String::new(), Some(1)));
        assert!(start.elapsed() < LONG, "somebody had the whole grace");
    });
}

#[test]
fn bounds_and_drops_ask() {
    at_console("windows_break::bounds_and_drops_ask", || {
        let start = Instant::now();
        let soon = Duration::from_secs(2);
        let error = block_on(group(&["break:7"]).timeout(soon).output()).expect_err("late");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        let output = error.output().expect("it ran");
        assert_eq!((&output.stdout[..], output.status.code()), (&b"ready\nbreak\n"[..], Some(7)));

        let error = block_on(group(&["break:7"]).idle_timeout(soon).output()).expect_err("silent");
        assert_eq!(error.output().expect("it ran").status.code(), Some(7));

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("said");
        let said = |text: &str| std::fs::read_to_string(&path).is_ok_and(|said| said == text);
        let mut command = group(&["break:7"]);
        command.stdout(File::create(&path).expect("a file"));
        let promise = command.terminate_on_drop(true).run();
        let pid = promise.pid().expect("it runs");
        eventually("it is ready", || said("ready\n"));
        drop(promise);
        eventually("it is told, and gone", || said("ready\nbreak\n") && !runs(pid));
        assert!(start.elapsed() < LONG, "somebody had the whole grace");
    });
}

/// If a leader does not obey, the crate ends it after the grace, and all of its job too.
#[test]
fn the_grace_ends() {
    at_console("windows_break::the_grace_ends", || {
        let grace = Duration::from_secs(2);
        let process = ready(helper(&["deaf", "sleep:60000"]).new_group().grace(grace));
        let start = Instant::now();
        process.control().terminate().expect("it runs");
        assert_eq!(end(process), ("break\n".into(), Some(1)));
        assert!(start.elapsed() >= grace, "it had no grace");

        // A member has the grace too, even if the leader obeys at once.
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("said");
        let mut command = helper(&["break:7", "leave:60000:2:deaf", "sleep:60000"]);
        command.new_group().grace(grace).stderr(File::create(&said).expect("a file"));
        let process = ready(&mut command);
        let member = descendant(&said);
        let start = Instant::now();
        process.control().terminate().expect("they run");
        assert_eq!(end(process), ("break\nbreak\n".into(), Some(7)));
        assert!(start.elapsed() >= grace, "the member had no grace");
        eventually("the member is gone", || !runs(member));
    });
}

/// If the members obey, the call does not wait longer than they take. No process outside of the group is
/// asked.
#[test]
fn all_of_a_group_is_asked_and_nobody_else() {
    at_console("windows_break::all_of_a_group_is_asked_and_nobody_else", || {
        let start = Instant::now();
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("said");
        let mut command = family(&said, 60_000, "sleep:60000");
        let promise = command.new_group().grace(LONG).stdout(Stdio::null()).exit_code();
        let (child, member) = (promise.pid().expect("it runs"), descendant(&said));
        let other = ready(&mut group(&["break:7"]));
        let bystander = ready(&mut helper(&["break:7", "say:1:ready", "sleep:60000"]));
        promise.control().terminate().expect("they run");
        assert_eq!(block_on(promise).expect("a code"), broken());
        eventually("both are gone", || !runs(child) && !runs(member));
        for process in [other, bystander] {
            assert!(runs(process.pid().expect("it runs")));
            process.control().kill().expect("it runs");
            assert_eq!(end(process), (String::new(), Some(1)));
        }
        assert!(start.elapsed() < LONG, "somebody had the whole grace");
    });
}

/// Without a console no process can be asked: all are ended at once.
#[test]
fn without_a_console() {
    alone_at_console("windows_break::without_a_console", false, || {
        let start = Instant::now();
        let process = ready(&mut group(&["break:7"]));
        process.control().terminate().expect("it runs");
        assert_eq!(end(process), (String::new(), Some(1)));
        let error = block_on(group(&["break:7"]).timeout(Duration::from_secs(2)).output()).expect_err("late");
        assert_eq!(error.output().expect("it ran").status.code(), Some(1));
        assert!(start.elapsed() < LONG, "somebody had the whole grace");
    });
}

/// Such a child has a console that no other process shares.
#[test]
fn a_child_without_a_window() {
    at_console("windows_break::a_child_without_a_window", || {
        let at_ours = block_on(helper(&["console"]).read()).expect("a number");
        assert_ne!(at_ours, "1", "this program is there, too");
        assert_eq!(block_on(helper(&["console"]).no_window(true).read()).expect("a number"), "1");
        assert_eq!(
            block_on(helper(&["console"]).no_window(true).no_window(false).read()).expect("a number"),
            at_ours
        );
    });
}

#[test]
fn a_break_is_told_by_its_name() {
    let error = block_on(helper(&[&format!("exit:{}", BROKEN as u32)]).run()).expect_err("a failure");
    assert_eq!(error.code(), Some(BROKEN));
    assert!(error.to_string().ends_with("was ended by Ctrl-C or Ctrl-Break (code 0xC000013A)"), "{error}");
}
