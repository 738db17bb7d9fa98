//! Each failure has its own type and its own message, and leaves nothing behind.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use reaped::{Command, Error, InvalidReason, SpawnReason, Stdio};

#[cfg(target_os = "linux")]
use super::support::{alone, children, descriptors, no_children, warm_up};
use super::support::{eventually, helper, sh};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

fn spawn_reason(command: &mut Command) -> SpawnReason {
    match block_on(command.output()) {
        Err(Error::Spawn { reason, .. }) => reason,
        other => panic!("not a refusal to start: {other:?}"),
    }
}

fn invalid_reason(command: &mut Command) -> InvalidReason {
    match block_on(command.output()) {
        Err(Error::Invalid { reason, .. }) => reason,
        other => panic!("not an invalid command: {other:?}"),
    }
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode set");
    path
}

/// std keeps its exec report on a low number. If a program maps descriptors itself, the report can be
/// overwritten.
#[test]
fn a_missing_program_with_extra_descriptors() {
    for highest in 3..=20 {
        let mut command = Command::new("/no/such/program");
        for number in 3..=highest {
            command.fd(number, if number % 2 == 0 { Stdio::output() } else { Stdio::bytes("x") });
        }
        assert_eq!(spawn_reason(&mut command), SpawnReason::ProgramNotFound, "3 to {highest}");
        let mut command = Command::new("/no/such/program");
        command.fd(highest, Stdio::output());
        assert_eq!(spawn_reason(&mut command), SpawnReason::ProgramNotFound, "{highest} alone");
        assert_eq!(
            spawn_reason(command.inherit_fds(true)),
            SpawnReason::ProgramNotFound,
            "{highest}, others too"
        );
    }
}

#[test]
fn each_reason_is_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = dir.path().join("missing");
    assert_eq!(spawn_reason(&mut Command::new("no-such-program")), SpawnReason::ProgramNotFound);
    assert_eq!(spawn_reason(&mut Command::new(&missing)), SpawnReason::ProgramNotFound);
    assert_eq!(spawn_reason(&mut Command::new("/etc/passwd/x")), SpawnReason::ProgramNotFound);
    assert_eq!(spawn_reason(sh("true").current_dir(&missing)), SpawnReason::WorkingDirectory);
    assert_eq!(spawn_reason(sh("true").current_dir("/etc/passwd")), SpawnReason::WorkingDirectory);
    assert_eq!(spawn_reason(sh("true").current_dir("")), SpawnReason::WorkingDirectory);
    assert_eq!(spawn_reason(Command::new(&missing).current_dir(&missing)), SpawnReason::WorkingDirectory);
    let script = file(&dir, "script", "#!/no/such/interpreter -x\n", 0o755);
    assert_eq!(spawn_reason(&mut Command::new(&script)), SpawnReason::InterpreterMissing);
    let found = Command::new("script").env("PATH", dir.path()).output();
    assert!(matches!(block_on(found), Err(Error::Spawn { reason: SpawnReason::InterpreterMissing, .. })));
    assert_eq!(spawn_reason(&mut Command::new(dir.path())), SpawnReason::NotExecutable);
    let plain = file(&dir, "plain", "#!/bin/sh\n", 0o644);
    assert_eq!(spawn_reason(&mut Command::new(&plain)), SpawnReason::NotExecutable);
    let unknown = file(&dir, "unknown", "echo a shell would run this\n", 0o755);
    assert_eq!(spawn_reason(&mut Command::new(&unknown)), SpawnReason::NotExecutable);
    let loops = dir.path().join("loop");
    std::os::unix::fs::symlink(&loops, &loops).expect("a link");
    assert_eq!(spawn_reason(&mut Command::new(&loops)), SpawnReason::ProgramNotFound);
    let long = "x".repeat(4 << 20);
    assert_eq!(spawn_reason(Command::new("true").arg(&long)), SpawnReason::ArgumentsTooLong);
    assert_eq!(spawn_reason(Command::new("true").args(vec!["x"; 2 << 20])), SpawnReason::ArgumentsTooLong);
    assert_eq!(spawn_reason(Command::new("true").env("LONG", &long)), SpawnReason::ArgumentsTooLong);
}

#[test]
fn each_invalid_command_is_reported() {
    assert_eq!(invalid_reason(&mut Command::new("")), InvalidReason::EmptyProgram);
    assert_eq!(invalid_reason(&mut Command::new("tr\0ue")), InvalidReason::Nul);
    assert_eq!(invalid_reason(Command::new("true").arg("\0")), InvalidReason::Nul);
    assert_eq!(invalid_reason(Command::new("true").arg0("\0")), InvalidReason::Nul);
    assert_eq!(invalid_reason(Command::new("true").env("A", "\0")), InvalidReason::Nul);
    assert_eq!(invalid_reason(Command::new("true").env("A\0", "")), InvalidReason::Nul);
    assert_eq!(invalid_reason(Command::new("true").current_dir("\0")), InvalidReason::Nul);
    assert_eq!(invalid_reason(Command::new("true").env("", "x")), InvalidReason::EnvironmentName);
    assert_eq!(invalid_reason(Command::new("true").env("A=B", "x")), InvalidReason::EnvironmentName);
    assert_eq!(invalid_reason(Command::new("true").env_remove("A=B")), InvalidReason::EnvironmentName);
    assert_eq!(invalid_reason(Command::new("true").fd(-1, Stdio::null())), InvalidReason::Descriptor);
    // Two settings for one thing.
    let mut twice = Command::new("true");
    twice.stdin(Stdio::null()).fd(0, Stdio::bytes("x"));
    assert_eq!(invalid_reason(&mut twice), InvalidReason::Conflict);
    assert_eq!(invalid_reason(Command::new("true").stdout(Stdio::same_as(1))), InvalidReason::Conflict);
    let mut circle = Command::new("true");
    circle.fd(1, Stdio::same_as(5)).fd(5, Stdio::same_as(1));
    assert_eq!(invalid_reason(&mut circle), InvalidReason::Conflict);
    assert_eq!(invalid_reason(Command::new("true").fd(4, Stdio::same_as(9))), InvalidReason::Conflict);
    let mut closed = Command::new("true");
    closed.fd(4, Stdio::same_as(0)).fd(0, Stdio::closed());
    assert_eq!(invalid_reason(&mut closed), InvalidReason::Conflict);
    for stderr in [Stdio::null(), Stdio::same_as(1), Stdio::inherit(), Stdio::closed()] {
        assert_eq!(
            invalid_reason(Command::new("true").stderr(stderr).fail_on_stderr(true)),
            InvalidReason::Conflict
        );
    }
    // Its output is not read, so a limit or a check of it would mean nothing.
    let mut deaf = Command::new("true");
    deaf.stdout(Stdio::null()).stderr(Stdio::null()).idle_timeout(std::time::Duration::from_secs(1));
    assert_eq!(invalid_reason(&mut deaf), InvalidReason::Conflict);
    let mut both = deaf.pipe(Command::new("true"));
    both.idle_timeout(std::time::Duration::from_secs(1));
    let invalid = |error| matches!(error, Error::Invalid { reason: InvalidReason::Conflict, .. });
    assert!(invalid(block_on(both.run()).expect_err("nor of these")));
    assert!(invalid(block_on(deaf.run()).expect_err("nor so")));
    // If a setting is made twice in the same way, the last call counts, and there is no conflict.
    let said = block_on(Command::new("cat").stdin(Stdio::bytes("a")).stdin(Stdio::bytes("b")).read());
    assert_eq!(said.expect("runs"), "b");
}

#[cfg(target_os = "linux")]
#[test]
fn failures_leave_nothing_behind() {
    alone("errors::failures_leave_nothing_behind", || {
        warm_up();
        let before = descriptors();
        for _ in 0..5 {
            each_reason_is_reported();
            each_invalid_command_is_reported();
            a_missing_program_with_extra_descriptors();
        }
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn out_of_descriptors() {
    alone("errors::out_of_descriptors", || {
        warm_up();
        let before = descriptors();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let free: Vec<i32> = (0..).filter(|n| before.iter().all(|(fd, _)| fd != n)).take(40).collect();
        let (mut refused, mut ran) = (0, 0);
        // Every possible number of free descriptors, from none to enough: so each allocation fails once.
        for (spare, first_refused) in free.iter().enumerate() {
            let current = Some(*first_refused as u64);
            let lower = rustix::process::Rlimit { current, ..limit };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, lower).expect("lowered");
            let mut command = sh("cat; cat <&3 >&4");
            command.stdin(Stdio::bytes("in")).fd(3, Stdio::bytes("3")).fd(4, Stdio::output());
            let result = block_on(command.output());
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("raised");
            match result {
                Ok(output) => {
                    ran += 1;
                    assert_eq!((&output.stdout[..], output.fd(4)), (&b"in"[..], Some(&b"3"[..])));
                }
                Err(Error::Spawn { reason: SpawnReason::OutOfDescriptors, .. }) => refused += 1,
                Err(Error::Invalid { reason: InvalidReason::Descriptor, .. }) if spare < 3 => refused += 1,
                Err(error) => panic!("with {spare} spare: {error}"),
            }
            no_children();
        }
        assert!(refused > 3 && ran > 3, "{refused} refused, {ran} ran");
        eventually("the descriptors are as before", || descriptors() == before);
        assert!(children().is_empty());
    });
}

/// Another process has the program open for writing, for longer than a start takes.
#[test]
fn a_busy_program_is_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let busy = dir.path().join("busy");
    std::fs::copy("/bin/true", &busy).expect("a copy");
    let writing = std::fs::OpenOptions::new().write(true).open(&busy).expect("opens");
    let error = block_on(Command::new(&busy).run()).expect_err("busy for good");
    drop(writing);
    assert!(matches!(error, Error::Spawn { reason: SpawnReason::Busy, .. }), "{error}");
    eventually("it is not busy any more", || block_on(Command::new(&busy).run()).is_ok());
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ExecutableFileBusy);
}

#[test]
fn io_errors_have_the_fitting_kind() {
    let kind = |command: &mut Command| io::Error::from(block_on(command.read()).expect_err("fails")).kind();
    assert_eq!(kind(&mut Command::new("no-such-program")), io::ErrorKind::NotFound);
    assert_eq!(kind(sh("true").current_dir("/no/such/folder")), io::ErrorKind::NotFound);
    assert_eq!(kind(&mut Command::new("/")), io::ErrorKind::PermissionDenied);
    assert_eq!(kind(Command::new("true").arg("x".repeat(4 << 20))), io::ErrorKind::ArgumentListTooLong);
    assert_eq!(kind(&mut Command::new("")), io::ErrorKind::InvalidInput);
    assert_eq!(kind(&mut sh(r"printf '\377'")), io::ErrorKind::InvalidData);
    assert_eq!(kind(&mut sh("exit 1")), io::ErrorKind::Other);
    let error = io::Error::from(block_on(sh("exit 7").run()).expect_err("fails"));
    let inner = error.into_inner().expect("kept").downcast::<Error>().expect("ours");
    assert_eq!(inner.output().expect("it ran").status.code(), Some(7));
}

/// The exact text, as a person would see it.
#[test]
fn messages() {
    let text = |command: &mut Command| block_on(command.read()).expect_err("fails").to_string();
    let dir = tempfile::Builder::new().prefix("reaped").tempdir_in("/tmp").expect("a folder");
    let script = file(&dir, "script", "#!/no/such/sh\n", 0o755);
    let plain = file(&dir, "plain", "", 0o644);
    let path = dir.path().display();
    assert_eq!(
        text(&mut Command::new("no-such-program")),
        "cannot start `no-such-program`: program not found in PATH"
    );
    assert_eq!(text(Command::new("./nope").arg("a b")), "cannot start `./nope 'a b'`: program not found");
    assert_eq!(
        text(&mut Command::new(&plain)),
        format!("cannot start `{path}/plain`: no permission to execute it")
    );
    assert_eq!(text(&mut Command::new("/")), "cannot start `/`: it is a directory");
    assert_eq!(
        text(&mut Command::new(&script)),
        format!("cannot start `{path}/script`: its interpreter \"/no/such/sh\" is missing")
    );
    assert_eq!(
        text(Command::new("ls").current_dir("/no/such")),
        "cannot start `ls`: the working directory \"/no/such\" does not exist"
    );
    assert_eq!(
        text(Command::new("echo").arg("a\0b")),
        r#"invalid command `echo "$(printf 'a\000b')"`: argument 1 contains a NUL byte"#
    );
    assert_eq!(
        text(Command::new("true").fd(-3, Stdio::null())),
        "invalid command `true`: -3 cannot be the number of a descriptor"
    );
    assert_eq!(text(&mut sh("exit 2")), "`sh -c 'exit 2'` exited with code 2");
    assert_eq!(
        text(&mut sh("echo one >&2; echo >&2; echo two >&2; exit 1")),
        "`sh -c 'echo one >&2; echo >&2; echo two >&2; exit 1'` exited with code 1: one; two"
    );
    assert_eq!(text(&mut sh("kill -9 $$")), "`sh -c 'kill -9 $$'` was killed by SIGKILL (signal 9)");
    assert_eq!(
        text(Command::new("printf").arg(r"ok\377")),
        r"`printf 'ok\377'` wrote to stdout what is not UTF-8, from byte 2 on"
    );
    assert_eq!(
        text(sh("echo hm >&2").fail_on_stderr(true)),
        "`sh -c 'echo hm >&2'` wrote to stderr and exited with code 0: hm"
    );
    assert_eq!(text(sh("exit 3").hide_args(true)), "`sh` exited with code 3");
    // If stderr goes into stdout, its text is in stdout.
    let mut merged = sh("echo bad >&2; exit 2");
    merged.hide_args(true).stderr(Stdio::same_as(1));
    assert_eq!(text(&mut merged), "`sh` exited with code 2: bad");
    let mut piped = Command::new("true").pipe(&merged);
    let said = block_on(piped.read()).expect_err("fails").to_string();
    assert_eq!(said, "`true | sh`: `sh` exited with code 2: bad");
    let mut terminal = sh("echo bad >&2; exit 2");
    terminal.hide_args(true).pty(reaped::PtySize::default());
    assert_eq!(text(&mut terminal), "`sh` exited with code 2: bad");
    // Real programs and their real messages.
    let said = text(Command::new("cat").arg("no-such-file").current_dir(dir.path()).env("LC_ALL", "C"));
    assert!(said.starts_with("`cat no-such-file` exited with code 1: cat: "), "{said}");
    assert!(said.ends_with("No such file or directory"), "{said}");
}

#[test]
fn messages_stay_short_and_on_one_line() {
    let text = |command: &mut Command| block_on(command.read()).expect_err("fails").to_string();
    let long = text(sh("exit 1").args(vec!["argument"; 1000]));
    assert!(long.chars().count() < 220 && long.contains('…'), "{long}");
    let flood = text(helper(&["err:1000000", "exit:1"]).hide_args(true));
    assert!(flood.chars().count() < 600 && !flood.contains('\n'), "{flood}");
    let control = text(&mut sh(r"printf 'a\033[2Jb\r\n' >&2; exit 1"));
    assert!(!control.contains(['\x1b', '\r', '\n']), "{control}");
    let lines = text(&mut Command::new("no\nsuch\x1b"));
    assert!(!lines.contains(['\n', '\x1b']), "{lines}");
}

#[test]
fn secrets_and_environment_stay_out_of_messages() {
    let mut command = sh("echo visible >&2; exit 1");
    command.env("TOKEN", "s3cr3t-env").stdin(Stdio::secret("s3cr3t-in")).fd(5, Stdio::bytes("s3cr3t-5"));
    let promise = command.output();
    let mut shown = format!("{command:?} {promise:?}");
    let error = block_on(async { promise.await?.check() }).expect_err("fails");
    shown += &format!("{error} {error:?}");
    assert!(shown.contains("visible") && !shown.contains("s3cr3t"), "{shown}");
    let error = block_on(command.env("BAD", "s3cr3t\0").run()).expect_err("invalid");
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
    let error = block_on(command.env("TOKEN=s3cr3t", "").run()).expect_err("invalid");
    assert!(error.to_string().contains(r#""TOKEN=…" cannot name"#), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
}
