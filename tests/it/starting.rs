//! Starts: the error of each that fails, the child's group and terminal, a host that forks, a host with odd
//! signals or an odd environment.

use std::ffi::CString;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Waker};

use futures::executor::block_on;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use reaped::{Command, Error, PtySize, SpawnReason, Stdio};

use super::harness::skip;
use super::support::{alone, children, helper, no_children, root_needed, sh};

/// The error of a start: its reason, and its text after the program's name.
fn refused(command: &mut Command) -> (SpawnReason, String) {
    match block_on(command.run()) {
        Err(Error::Spawn { reason, details, .. }) => {
            (reason, details.to_string().split_once("`: ").expect("the command first").1.to_owned())
        }
        other => panic!("{other:?}"),
    }
}

/// On both engines: with `umask` the portable one starts the child.
fn on_both(program: &Path, check: impl Fn(&mut Command)) {
    check(&mut Command::new(program));
    check(Command::new(program).umask(0o022));
}

fn executable(path: &Path, content: impl AsRef<[u8]>) {
    // The file is written elsewhere, and another process copies it, so this process does not have it open for
    // writing.
    let draft = path.with_extension("draft");
    std::fs::write(&draft, content).expect("written");
    let copied = std::process::Command::new("cp").args([&draft, path]).status().expect("cp");
    assert!(copied.success());
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("executable");
}

#[test]
fn an_executable_fifo_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o755.into(), 0).expect("made");
    std::fs::set_permissions(&fifo, PermissionsExt::from_mode(0o755)).expect("executable");
    let told = (SpawnReason::NotExecutable, "it is not a plain file".to_owned());
    on_both(&fifo, |command| assert_eq!(refused(command), told));
    assert_eq!(refused(Command::new("fifo").env("PATH", dir.path())), told);
    // A script whose interpreter is a script.
    let script = dir.path().join("script");
    executable(&script, format!("#!{}\n", fifo.display()));
    on_both(&script, |command| {
        let (reason, text) = refused(command);
        assert_eq!(reason, SpawnReason::NotExecutable);
        assert_eq!(text, format!("its interpreter {fifo:?} cannot be executed: it is not a plain file"));
    });
}

#[test]
fn what_is_wrong_with_an_interpreter() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let script = |name: &str, line: &str| executable(&at(name), format!("{line}\necho ran\n"));
    script("crlf", "#!/bin/sh\r");
    script("missing", "#!/no/such/interpreter -x");
    script("nested", &format!("#! {} x", at("missing").display()));
    script("folder", "#!/tmp");
    script("empty", "#!");
    script("plain", &format!("#!{}", at("data").display()));
    std::fs::write(at("data"), "no program").expect("written");
    executable(&at("text"), "no program");
    script("of-text", &format!("#!{}", at("text").display()));
    let mut elf = std::fs::read("/bin/true").expect("a program");
    let name = elf.windows(4).position(|bytes| bytes == b"/ld-").expect("it names its loader");
    elf[name + 1..name + 3].copy_from_slice(b"no");
    executable(&at("elf"), &elf);
    script("of-elf", &format!("#!{}", at("elf").display()));

    let missing = SpawnReason::InterpreterMissing;
    let unusable = SpawnReason::NotExecutable;
    for (name, reason, text) in [
        (
            "crlf",
            missing,
            r#"its interpreter "/bin/sh\r" is missing: the line that names it ends in a carriage return"#
                .into(),
        ),
        ("missing", missing, r#"its interpreter "/no/such/interpreter" is missing"#.into()),
        (
            "nested",
            missing,
            format!(
                r#"its interpreter {:?} is there, but its interpreter "/no/such/interpreter" is missing"#,
                at("missing")
            ),
        ),
        ("folder", unusable, r#"its interpreter "/tmp" cannot be executed: it is a directory"#.into()),
        (
            "plain",
            unusable,
            format!("its interpreter {:?} cannot be executed: no permission to execute it", at("data")),
        ),
        ("empty", unusable, "its first line names no interpreter".into()),
        ("text", unusable, "not in a format that this system runs".into()),
        (
            "of-text",
            unusable,
            format!("its interpreter {:?} is not in a format that this system runs", at("text")),
        ),
    ] {
        on_both(&at(name), |command| assert_eq!(refused(command), (reason, text.clone()), "{name}"));
    }
    for name in ["elf", "of-elf"] {
        on_both(&at(name), |command| {
            let (reason, text) = refused(command);
            assert_eq!(reason, missing);
            assert!(text.contains("its loader \"/") && text.ends_with("is missing"), "{text}");
        });
    }
}

/// The error is about the file in `PATH` that caused it.
#[test]
fn the_error_is_about_the_candidate_that_caused_it() {
    let dir = tempfile::tempdir().expect("a folder");
    for folder in ["one", "two"] {
        std::fs::create_dir(dir.path().join(folder)).expect("made");
    }
    executable(&dir.path().join("one/tool"), "#!/no/such/interpreter\n");
    executable(&dir.path().join("two/tool"), "no program");
    let path = std::env::join_paths(["one", "two"].map(|name| dir.path().join(name))).expect("a path");
    let told = (SpawnReason::NotExecutable, "not in a format that this system runs".to_owned());
    assert_eq!(refused(Command::new("tool").env("PATH", &path)), told);
    assert_eq!(refused(Command::new("tool").env("PATH", &path).umask(0o022)), told);
}

/// The output of the helper's steps. If the system does not permit them, the test is skipped.
fn told(steps: &[&str]) -> String {
    let output = block_on(helper(steps).output()).expect("it starts");
    if output.status.code() == Some(77) {
        skip(format!("not permitted here: {steps:?}"));
    }
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_the_system_lacks_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let chroot = format!("chroot:{}", dir.path().display());
    for (start, file) in [("start:null", "/dev/null"), ("start:pty", "/dev/ptmx")] {
        let text = told(&[&chroot, start]);
        let (message, kind) = text.rsplit_once('\n').expect("two lines");
        assert!(message.contains(&format!("cannot open {file}: No such file")), "{message}");
        assert_eq!(kind, "Other");
    }
}

#[test]
fn capabilities_without_root_drop_the_groups() {
    root_needed();
    // The helper must be readable for every user, but only until it is nobody.
    for start in ["start:uid:1", "start:gid:1"] {
        let text = told(&["capable", start]);
        assert_eq!(text.trim(), "Groups:", "{start}");
    }
}

#[test]
fn where_setgroups_is_denied() {
    for start in ["start:uid:0", "start:gid:0"] {
        let text = told(&["namespace", start]);
        assert!(text.starts_with("Groups:"), "{text}");
    }
    // If the group would change, the call refuses it.
    let text = told(&["namespace", "start:gid:1"]);
    assert!(text.contains("cannot become the group"), "{text}");
}

#[test]
fn a_terminal_is_its_users() {
    root_needed();
    let script = "test -O /dev/fd/0 && : >\"$(readlink /proc/self/fd/0)\" && echo mine";
    let mut command = sh(script);
    command.pty(PtySize::default()).uid(65534).gid(65534).current_dir("/");
    assert_eq!(block_on(command.read()).expect("it is the user's").trim_end(), "mine");
}

/// Runs the body in a forked copy of this process. The body must return true.
fn in_a_copy(body: impl FnOnce() -> bool) {
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // Ends the copy if it hangs.
        unsafe { libc::alarm(20) };
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
        unsafe { libc::_exit(if found { 0 } else { 1 }) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "14 is SIGALRM: it hung");
}

#[test]
fn a_call_in_a_forked_copy_is_refused() {
    alone("starting::a_call_in_a_forked_copy_is_refused", || {
        // Before the first start, a copy works like any other process.
        in_a_copy(|| block_on(sh("exit 0").run()).is_ok() && block_on(sh("exit 0").umask(0).run()).is_ok());
        block_on(sh("exit 0").run()).expect("success");
        in_a_copy(|| {
            let is_forked = |result: Result<(), Error>| {
                let error = result.expect_err("refused");
                assert!(error.to_string().contains("is a forked copy of process"), "{error}");
                matches!(error, Error::Spawn { reason: SpawnReason::Forked, .. })
            };
            let second = std::time::Duration::from_secs(1);
            is_forked(block_on(sh("exit 0").run()))
                && is_forked(block_on(sh("exit 0").umask(0).timeout(second).run()))
                && is_forked(block_on(sh("exit 0").pipe(sh("exit 0")).run()))
                && is_forked(sh("exit 0").spawn().map(drop))
        });
        block_on(sh("exit 0").run()).expect("the host goes on");
    });
}

/// Another thread may hold a lock at the fork. In the copy nobody releases it.
#[test]
fn a_copy_does_not_wait_for_a_thread_of_the_host() {
    alone("starting::a_copy_does_not_wait_for_a_thread_of_the_host", || {
        let calls: [fn(reaped::Process) -> bool; 3] = [
            |process| process.pid().is_none_or(|pid| pid > 0),
            |process| process.control().kill().is_err(),
            |process| {
                drop(process);
                true
            },
        ];
        for round in 0..60 {
            // The thread is busy with the feed of descriptor 3, and works on the state all the time.
            let mut command = sh("cat <&3 >/dev/null & cat");
            command.fd(3, Stdio::reader(futures::io::repeat(7))).new_group();
            let mut process = command.spawn().expect("starts");
            let mut reader = process.reader(1).expect("a pipe");
            let thread = std::thread::spawn(move || block_on(reader.read(&mut [0])));
            std::thread::sleep(std::time::Duration::from_micros(200 * (round % 10)));
            let mut process = Some(process);
            in_a_copy(|| process.take().is_some_and(calls[round as usize % calls.len()]));
            drop(process);
            let _: std::io::Result<usize> = thread.join().expect("no panic");
        }
    });
}

#[test]
fn a_forked_copy_does_nothing_to_the_hosts_children() {
    /// Polls the promise, so it waits in the reactor.
    fn wait<T>(promise: &mut reaped::Promise<T>) {
        let pending = Pin::new(promise).poll(&mut Context::from_waker(Waker::noop()));
        assert!(pending.is_pending());
    }
    alone("starting::a_forked_copy_does_nothing_to_the_hosts_children", || {
        for settings in [
            (|c: &mut Command| c.new_group()) as fn(&mut Command) -> &mut Command,
            |c| c.umask(0o022),
            |c| c.kill_on_drop(true),
        ] {
            for way in 0..4 {
                let mut command = sh("sleep 0.3; echo out; sleep 0.2; echo more");
                let mut promise = settings(&mut command).output();
                wait(&mut promise);
                let control = promise.control();
                let mut promise = Some(promise);
                in_a_copy(|| {
                    let promise = promise.take().expect("there");
                    match way {
                        0 => drop(promise),
                        1 => {
                            for sent in [control.kill(), control.terminate()] {
                                assert!(matches!(sent, Err(Error::AlreadyEnded(_))), "{sent:?}");
                            }
                        }
                        2 => promise.detach().expect("nothing to tell"),
                        _ => {
                            let end = block_on(promise);
                            assert!(matches!(end, Err(Error::StatusLost(_))), "{end:?}");
                        }
                    }
                    true
                });
                let output = block_on(promise.expect("there")).expect("a value");
                assert!(output.status.success(), "way {way}: {output:?}");
                assert_eq!(output.stdout, b"out\nmore\n");
            }
        }
        for terminal in [false, true] {
            let mut command = sh("read line; echo got $line");
            if terminal {
                command.pty(PtySize::default());
            }
            let mut process = command.spawn().expect("starts");
            let mut writer = process.writer(0).expect("a pipe");
            let mut both = Some((process, writer));
            in_a_copy(|| {
                let (mut process, mut writer) = both.take().expect("there");
                let written = block_on(async {
                    writer.write_all(b"stray\n").await?;
                    writer.flush().await
                });
                assert!(written.is_err());
                drop(writer);
                if terminal {
                    let resized = process.resize(PtySize { rows: 1, columns: 1 });
                    assert!(matches!(resized, Err(Error::AlreadyEnded(_))), "{resized:?}");
                }
                process.close_all();
                true
            });
            let mut process;
            (process, writer) = both.expect("there");
            block_on(writer.write_all(b"word\n")).expect("the child reads");
            block_on(writer.flush()).expect("the child reads");
            let line = block_on(async {
                loop {
                    let line = process.next_line().await.expect("a line").text;
                    // A terminal echoes the typed text.
                    if line.starts_with("got") {
                        return line;
                    }
                }
            });
            assert_eq!(line.trim_end(), "got word");
            drop(writer);
            assert!(block_on(process.status()).expect("a value").success());
        }
        no_children();
    });
}

fn limit_descriptors(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn the_highest_number() {
    alone("starting::the_highest_number", || {
        limit_descriptors(128);
        for inherits in [false, true] {
            for umask in [false, true] {
                let mut command = sh("echo hi >/dev/fd/127");
                command.fd(127, Stdio::output()).inherit_fds(inherits);
                if umask {
                    command.umask(0o022);
                }
                let output = block_on(command.output()).expect("a value");
                assert_eq!(output.fd(127), Some(&b"hi\n"[..]), "inherits {inherits} umask {umask}");
            }
        }
    });
}

#[test]
fn no_number_left() {
    alone("starting::no_number_left", || {
        limit_descriptors(64);
        for inherits in [false, true] {
            let mut command = sh("exit 0");
            // The portable engine needs one descriptor more.
            command.umask(0o022).inherit_fds(inherits);
            for n in 3..64 {
                command.fd(n, Stdio::same_as(1));
            }
            let (reason, text) = refused(&mut command);
            assert_eq!(reason, SpawnReason::OutOfDescriptors, "{text}");
        }
    });
}

#[test]
fn a_failed_start_leaves_no_process() {
    alone("starting::a_failed_start_leaves_no_process", || {
        block_on(sh("exit 0").umask(0o022).run()).expect("success");
        for _ in 0..200 {
            let (reason, _) = refused(Command::new("/no/such/program").umask(0o022));
            assert_eq!(reason, SpawnReason::ProgramNotFound);
            let left = children();
            assert!(left.is_empty(), "{left:?}");
        }
    });
}

/// Also the signals that the C library reserves, and that `sigfillset` leaves out.
#[test]
fn no_signal_stays_ignored() {
    alone("starting::no_signal_stays_ignored", || {
        #[repr(C, align(8))]
        struct Ignore([usize; 32]);
        let mut ignore = Ignore([0; 32]);
        ignore.0[if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 1 } else { 0 }] = libc::SIG_IGN;
        let size = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16_usize } else { 8 };
        for signal in
            (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(signal))
        {
            let before = std::ptr::null_mut::<u8>();
            let done = unsafe {
                libc::syscall(libc::SYS_rt_sigaction, signal, std::ptr::from_ref(&ignore), before, size)
            };
            assert_eq!(done, 0, "{signal}");
        }
        let own = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = own.lines().find(|line| line.starts_with("SigIgn")).expect("a line");
        assert!(line.ends_with("fffafeff"), "they are ignored here: {line}");
        for umask in [false, true] {
            let mut command = helper(&["signals"]);
            if umask {
                command.umask(0o022);
            }
            let said = block_on(command.read()).expect("runs");
            let ignored = said.lines().find(|line| line.starts_with("SigIgn")).expect("a line");
            // Rust itself ignores SIGPIPE, 13, in the helper.
            let ignored = u64::from_str_radix(ignored.split_whitespace().nth(1).expect("a number"), 16);
            assert_eq!(ignored.expect("a number") & !(1 << 12), 0, "umask {umask}: {said}");
        }
    });
}

/// Gives this process another environment, as C code could.
fn environment(variables: impl Iterator<Item = String>) {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    let path = format!("PATH={}", std::env::var("PATH").unwrap_or_default());
    let variables = variables.chain([path]).map(|text| CString::new(text).expect("no NUL").into_raw());
    let list: Vec<_> = variables.chain([std::ptr::null_mut()]).collect();
    unsafe { environ = list.leak().as_mut_ptr() };
}

#[test]
fn an_inherited_duplicate_is_what_getenv_finds() {
    alone("starting::an_inherited_duplicate_is_what_getenv_finds", || {
        environment(["A=first", "B=b", "A=second", "C=1", "C=2"].map(str::to_owned).into_iter());
        assert_eq!(std::env::var("A").as_deref(), Ok("first"));
        for umask in [false, true] {
            let mut command = Command::new("env");
            command.env("C", "3").env_remove("PATH");
            if umask {
                command.umask(0o022);
            }
            assert_eq!(block_on(command.read()).expect("runs"), "A=first\nB=b\nC=3");
        }
    });
}

/// If the crate compared each inherited name with each name that is set, this would take minutes.
#[test]
fn a_large_environment() {
    alone("starting::a_large_environment", || {
        const MANY: usize = 60_000;
        let name = |n: usize| format!("V{n:05}");
        environment((0..MANY).map(|n| format!("{}=", name(n))));
        let mut command = sh("echo $V00000$V59999");
        command.envs((0..MANY).map(|n| (name(n), "x")));
        let start = std::time::Instant::now();
        assert_eq!(block_on(command.read()).expect("runs"), "xx");
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    });
}
