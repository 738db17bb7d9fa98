//! Every call, every kind of descriptor, every ending and every error of Windows, with real programs.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use reaped::{Command, Error, Event, InvalidReason, Output, Promise, SpawnReason, Stdio};

use super::helper::pattern;
use super::support::{Never, alone, eventually, everywhere, helper};

const MIB: usize = 1 << 20;

fn spawn_reason(command: &mut Command) -> (SpawnReason, String) {
    match block_on(command.run()) {
        Err(Error::Spawn { reason, details, .. }) => (reason, format!("{details}")),
        other => panic!("{other:?}"),
    }
}

fn invalid_reason(command: &mut Command) -> InvalidReason {
    match block_on(command.run()) {
        Err(Error::Invalid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_call() {
    everywhere(|| async {
        helper(&["exit:0"]).run().await.expect("success");
        let error = helper(&["exit:3"]).run().await.expect_err("a failure");
        assert!(matches!(error, Error::Failed(_)));
        assert!(error.to_string().ends_with("exited with code 3"), "{error}");
        assert_eq!(helper(&["say:1:hi"]).read().await.expect("text"), "hi");
        assert_eq!(helper(&["copy:0:1"]).read().await.expect("stdin is the null device"), "");
        let bytes = helper(&["out:1000", "err:10"]).read_bytes().await.expect("bytes");
        assert_eq!(bytes, pattern(1000));
        for code in [0, 1, 255, 256] {
            let step = format!("exit:{code}");
            assert_eq!(helper(&["say:1:x", "say:2:y", &step]).exit_code().await.expect("a code"), code);
            assert_eq!(helper(&[&step]).status().await.expect("a status").code(), Some(code));
        }
        let output = helper(&["say:1:out", "say:2:err", "exit:4"]).output().await.expect("a value");
        assert_eq!(output.status.code(), Some(4));
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!((output.fd(1), output.fd(3)), (Some(&b"out\n"[..]), None));
        assert!(matches!(output.check(), Err(Error::Failed(_))));
    });
}

#[test]
fn a_pipeline() {
    everywhere(|| async {
        let copy = || helper(&["copy:0:1"]);
        let bytes = helper(&["out:1000000"]).pipe(copy()).pipe(copy()).read_bytes().await.expect("bytes");
        assert!(bytes == pattern(1_000_000));
        let error = helper(&["exit:3"]).pipe(copy()).read().await.expect_err("a failure");
        assert!(error.to_string().ends_with("exited with code 3"), "{error}");
        let error = helper(&["sleep:60000"]).pipe(copy()).timeout(Duration::from_millis(200)).run().await;
        assert!(matches!(error, Err(Error::TimedOut(_))), "{error:?}");
        let error = helper(&["sleep:60000"]).pipe(Command::new("no-such-program")).run().await;
        assert!(matches!(error, Err(Error::Spawn { reason: SpawnReason::ProgramNotFound, .. })), "{error:?}");
    });
}

#[test]
fn a_program_of_the_system() {
    assert_eq!(block_on(reaped::read("cmd", ["/c", "echo hi"])).expect("text").trim(), "hi");
    assert_eq!(block_on(reaped::exit_code("cmd.exe", ["/c", "exit 7"])).expect("a code"), 7);
}

#[test]
fn arguments_arrive_as_they_are() {
    for text in ["", "a b", "\"", "a\\", "a\\\\\"b", "%PATH%", "ü€", "*"] {
        let said = block_on(helper(&[&format!("say:1:{text}")]).read());
        assert_eq!(said.expect("text"), text);
    }
}

#[test]
fn what_is_fed_arrives_whole() {
    everywhere(|| async {
        let text = b"one\r\ntwo\n\x1a three\0\xff\r";
        let mut copy = helper(&["copy:0:1"]);
        assert_eq!(copy.stdin(Stdio::bytes(&text[..])).read_bytes().await.expect("bytes"), text);
        assert_eq!(copy.read_bytes().await.expect("a second run"), text);
        copy.stdin(Stdio::secret(String::from("hunter2")));
        assert!(!format!("{copy:?}").contains("hunter2"));
        assert_eq!(copy.read().await.expect("text"), "hunter2");
        copy.stdin(Stdio::reader(futures::io::repeat(b'y').take(200_000)));
        assert_eq!(copy.read_bytes().await.expect("bytes"), vec![b'y'; 200_000]);
        let invalid = copy.read().await;
        assert!(matches!(invalid, Err(Error::Invalid { reason: InvalidReason::ReaderUsed, .. })));
        for stdio in [Stdio::null(), Stdio::piped(), Stdio::bytes("")] {
            assert_eq!(copy.stdin(stdio).read().await.expect("an end of file"), "");
        }
    });
}

#[test]
fn sizes_that_would_deadlock() {
    everywhere(|| async {
        let data = pattern(MIB + 1);
        let mut copy = helper(&["copy:0:1"]);
        assert!(copy.stdin(Stdio::bytes(data.clone())).read_bytes().await.expect("bytes") == data);
        let mut both = helper(&["err:1048576", "copy:0:1", "err:1048576"]);
        let output = both.stdin(Stdio::bytes(data.clone())).output().await.expect("a value");
        assert!(output.stdout == data);
        assert_eq!(output.stderr.len(), 2 * MIB);
    });
    let data = pattern(32 * MIB);
    let mut copy = helper(&["copy:0:1"]);
    assert!(block_on(copy.stdin(Stdio::bytes(data.clone())).read_bytes()).expect("bytes") == data);
}

#[test]
fn a_child_that_never_reads_its_input_succeeds() {
    everywhere(|| async {
        let mut command = helper(&["say:1:on"]);
        let output = command.stdin(Stdio::bytes(vec![0; 4 * MIB])).output().await.expect("no error");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"on\n"[..]));
        // The same with a source that never has anything.
        let output = command.stdin(Stdio::reader(Never)).output().await.expect("no error");
        assert_eq!(output.stdout, b"on\n");
    });
}

/// Fails once a file has some content.
struct Failing(PathBuf, smol::Timer);

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        while Pin::new(&mut self.1).poll(cx).is_ready() {
            if std::fs::metadata(&self.0).is_ok_and(|file| file.len() > 0) {
                return Poll::Ready(Err(io::Error::other("the source is gone")));
            }
            self.1 = smol::Timer::after(Duration::from_millis(10));
        }
        Poll::Pending
    }
}

/// Output from before the kill is kept, although a grandchild holds the pipe open.
#[test]
fn a_failing_reader_kills_the_child_and_keeps_its_output() {
    everywhere(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("said");
        let mut command = helper(&["out:100000", "leave:10000", "say:1:done", "err:1", "sleep:100000"]);
        command.stderr(File::create(&said).expect("a file"));
        let start = Instant::now();
        let failing = Failing(said, smol::Timer::after(Duration::ZERO));
        let error = command.stdin(Stdio::reader(failing)).output().await.expect_err("it fails");
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("the source is gone"), "{error}");
        let stdout = error.into_output().expect("it ran").stdout;
        assert!(stdout.ends_with(b"done\n"), "{} bytes", stdout.len());
        assert_eq!(stdout.len(), 100_005);
        assert!(start.elapsed() < Duration::from_secs(8), "it waited for the descendant");
    });
}

#[test]
fn a_write_of_no_bytes_is_no_end_of_file() {
    everywhere(|| async {
        let steps = ["say:1:a", "nothing", "say:1:b", "sleep:50", "nothing", "sleep:50", "say:1:c"];
        assert_eq!(helper(&steps).read().await.expect("text"), "a\nb\nc");
    });
}

#[test]
fn the_same_keeps_the_order() {
    everywhere(|| async {
        let steps = ["say:1:one", "say:2:two", "say:1:three", "say:2:four"];
        let mut command = helper(&steps);
        assert_eq!(command.stderr(Stdio::same_as(1)).read().await.expect("text"), "one\ntwo\nthree\nfour");
        let output = command.stderr(Stdio::output()).stdout(Stdio::same_as(2)).output().await;
        let output = output.expect("a value");
        assert_eq!((output.fd(1), output.fd(2)), (None, Some(&b"one\ntwo\nthree\nfour\n"[..])));
        for kind in [Stdio::null(), Stdio::inherit()] {
            command.stdout(kind).stderr(Stdio::same_as(1)).run().await.expect("runs");
        }
    });
    for (stdout, stderr) in [(2, 1), (1, 2), (7, 1), (-1, 1)] {
        let mut command = helper(&[]);
        command.stdout(Stdio::same_as(stdout)).stderr(Stdio::same_as(stderr));
        assert_eq!(invalid_reason(&mut command), InvalidReason::Conflict);
    }
    let mut command = helper(&[]);
    command.stdout(Stdio::closed()).stderr(Stdio::same_as(1));
    assert_eq!(invalid_reason(&mut command), InvalidReason::Conflict);
}

#[test]
fn files_and_ends_of_stds_own_children() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"from a file").expect("written");
    io::Seek::rewind(&mut file).expect("rewound");
    let mut copy = helper(&["copy:0:1"]);
    assert_eq!(block_on(copy.stdin(file).read()).expect("text"), "from a file");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out");
    let file = File::create(&path).expect("a file");
    let mut command = helper(&["say:1:a", "say:2:b"]);
    block_on(command.stdout(file).stderr(Stdio::same_as(1)).run()).expect("runs");
    assert_eq!(std::fs::read(&path).expect("written"), b"a\nb\n");
    drop(command);

    let mut first = std::process::Command::new(std::env::current_exe().expect("this binary"));
    first.args(["--helper", "say:1:through"]).stdout(std::process::Stdio::piped());
    let mut first = first.spawn().expect("it starts");
    let said = block_on(copy.stdin(first.stdout.take().expect("a pipe")).read());
    assert_eq!(said.expect("text"), "through");
    first.wait().expect("it ran");
}

#[test]
fn closed_is_no_descriptor() {
    everywhere(|| async {
        let mut command = helper(&["say:1:x"]);
        command.stdin(Stdio::closed()).stderr(Stdio::closed());
        let output = command.output().await.expect("runs");
        assert_eq!((&output.stdout[..], output.fd(2)), (&b"x\n"[..], None));
    });
    // stdout is closed, so the write fails.
    assert_eq!(block_on(helper(&["say:1:x"]).stdout(Stdio::closed()).exit_code()).expect("a code"), 99);
    let mut all = helper(&[]);
    all.stdin(Stdio::closed()).stdout(Stdio::closed()).stderr(Stdio::closed());
    assert_eq!(invalid_reason(&mut all), InvalidReason::Conflict);
}

#[test]
fn the_working_directory_and_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    let lines = |command: &mut Command| {
        let text = block_on(command.read()).expect("text");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut command = helper(&["lines"]);
    command.current_dir(folder.path()).env("REAPED_TEST", "ü = 1").env_remove("cOmSpEc");
    let told = lines(&mut command);
    assert!(told[0].ends_with(&inside), "{told:?}");
    assert!(told.contains(&"REAPED_TEST=ü = 1".to_owned()));
    assert!(told.iter().any(|line| line.to_ascii_uppercase().starts_with("PATH=")), "{told:?}");
    assert!(std::env::var_os("COMSPEC").is_some(), "nothing to remove");
    assert!(!told.iter().any(|line| line.to_ascii_uppercase().starts_with("COMSPEC=")), "{told:?}");
    // A program's libraries are looked up in its PATH too.
    let path = std::env::var_os("PATH").expect("a path");
    let told = lines(command.env_clear().env("ONLY", "1").env("PATH", path));
    assert!(told.contains(&"ONLY=1".to_owned()));
    assert!(!told.iter().any(|line| line.starts_with("PATHEXT=")), "{told:?}");
}

/// A relative path counts from the child's working directory, and a name is looked up in its `PATH`.
#[test]
fn which_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "reaped-test-program";
    std::fs::create_dir(folder.path().join("sub")).expect("a folder");
    let path = folder.path().join("sub").join(format!("{name}.exe"));
    std::fs::copy(std::env::current_exe().expect("this binary"), path).expect("a copy");
    for relative in [format!("sub\\{name}.exe"), format!("sub/{name}"), format!(".\\sub\\{name}")] {
        let mut command = Command::new(&relative);
        command.args(["--helper", "say:1:here"]).current_dir(folder.path());
        assert_eq!(block_on(command.read()).expect("text"), "here", "{relative}");
    }
    let mut command = Command::new(name);
    let folders = std::env::var_os("PATH").expect("a path");
    let folders = [folder.path().join("sub")].into_iter().chain(std::env::split_paths(&folders));
    command.args(["--helper", "say:1:here"]).env("PATH", std::env::join_paths(folders).expect("no quotes"));
    assert_eq!(block_on(command.read()).expect("text"), "here");
}

/// A stranger may write to a folder of the parent's `PATH` and put a program there. It must not run instead
/// of the system's program of that name, unless the command itself sets a `PATH`. std chooses in the same
/// way.
#[test]
fn a_planted_program_does_not_hide_the_systems() {
    alone("windows::a_planted_program_does_not_hide_the_systems", || {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["hostname.exe", "reaped-planted.exe"] {
            std::fs::copy(std::env::current_exe().expect("this binary"), folder.path().join(name))
                .expect("a copy");
        }
        let path = std::env::var_os("PATH").expect("a path");
        let folders = [folder.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).expect("no quotes");
        // No other test runs in this process.
        unsafe { std::env::set_var("PATH", &path) };
        type Set<'a> = Box<dyn Fn(&mut Command, &mut std::process::Command) + 'a>;
        let cases: [(&str, bool, Set<'_>); 7] = [
            ("nothing", false, Box::new(|_, _| {})),
            (
                "another variable",
                false,
                Box::new(|ours, std| {
                    ours.env("REAPED_TEST", "1");
                    std.env("REAPED_TEST", "1");
                }),
            ),
            (
                "another removed",
                false,
                Box::new(|ours, std| {
                    ours.env_remove("REAPED_TEST");
                    std.env_remove("REAPED_TEST");
                }),
            ),
            (
                "PATH removed",
                false,
                Box::new(|ours, std| {
                    ours.env_remove("Path");
                    std.env_remove("Path");
                }),
            ),
            (
                "PATH set and removed",
                false,
                Box::new(|ours, std| {
                    ours.env("PATH", &path).env_remove("path");
                    std.env("PATH", &path).env_remove("path");
                }),
            ),
            (
                "a clear one",
                false,
                Box::new(|ours, std| {
                    let root = std::env::var_os("SystemRoot").expect("set");
                    ours.env_clear().env("SystemRoot", &root);
                    std.env_clear().env("SystemRoot", &root);
                }),
            ),
            (
                "PATH",
                true,
                Box::new(|ours, std| {
                    ours.env("pAtH", &path);
                    std.env("pAtH", &path);
                }),
            ),
        ];
        for (case, planted, set) in cases {
            let mut ours = Command::new("hostname");
            let mut std = std::process::Command::new("hostname");
            set(ours.args(["--helper", "say:1:planted"]), std.args(["--helper", "say:1:planted"]));
            let was_planted = |said: &[u8]| said == b"planted\n";
            let std = std.output().unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(was_planted(&std.stdout), planted, "std, {case}");
            let ours = block_on(ours.output()).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(was_planted(&ours.stdout), planted, "{case}");
        }
        // A program that only the parent's PATH has is found there, so a file in that folder could have run.
        let said = block_on(reaped::read("reaped-planted", ["--helper", "say:1:planted"]));
        assert_eq!(said.expect("text"), "planted");
    });
}

/// For Windows, names that differ only in case are one name, by a table of its own: the last setting of any
/// counts.
#[test]
fn the_last_setting_of_a_variable_wins() {
    // The tests' own variables are inherited (REAPED_REQUIRE_GPG), so the test looks only at the two names
    // below.
    let told = |command: &mut Command| {
        let text = block_on(command.arg("lines").read()).expect("text");
        let lines = text.lines().map(str::to_lowercase);
        let ours = |line: &String| line.starts_with("reaped_foo=") || line.starts_with("ärger=");
        lines.filter(ours).collect::<Vec<_>>()
    };
    for (one, other) in [("reaped_foo", "REAPED_FOO"), ("REAPED_FOO", "Reaped_Foo"), ("ärger", "ÄRGER")] {
        let name = one.to_lowercase();
        let is = |value: &str| vec![format!("{name}={value}")];
        assert_eq!(told(helper(&[]).env(one, "a").env(other, "b")), is("b"));
        assert_eq!(told(helper(&[]).env(other, "a").env(one, "b")), is("b"));
        assert_eq!(told(helper(&[]).env(one, "a").env(other, "b").env(one, "c")), is("c"));
        assert_eq!(told(helper(&[]).env(one, "a").env_remove(other)), Vec::<String>::new());
        assert_eq!(told(helper(&[]).env_remove(other).env(one, "a")), is("a"));
        assert_eq!(told(helper(&[]).env(one, "a").env_remove(other).env(other, "b")), is("b"));
        let path = std::env::var_os("PATH").expect("a path");
        let mut cleared = helper(&[]);
        cleared.env(one, "a").env_clear().env("PATH", path);
        assert_eq!(told(&mut cleared.clone()), Vec::<String>::new());
        assert_eq!(told(cleared.env(other, "b").env(one, "c")), is("c"));
        // As std shows it: the first name, with the last value.
        let mut command = Command::new("program");
        command.env(one, "a").env(other, "b").env_remove("reaped_other").env(one, "c").env(other, "d");
        let mut std = std::process::Command::new("program");
        std.env(one, "a").env(other, "b").env_remove("reaped_other").env(one, "c").env(other, "d");
        assert!(command.get_envs().eq(std.get_envs()), "{command:?}, {std:?}");
        assert!(command.get_envs().any(|set| set == (one.as_ref(), Some("d".as_ref()))), "{command:?}");
    }
}

/// The parent's own variable is removed; the case of the name does not matter.
#[test]
fn an_inherited_variable_is_removed_in_any_case() {
    alone("windows::an_inherited_variable_is_removed_in_any_case", || {
        // No other test runs in this process.
        unsafe { std::env::set_var("Reaped_Ä", "inherited") };
        let told = |command: &mut Command| {
            let text = block_on(command.read()).expect("text").to_lowercase();
            text.lines().find_map(|line| line.strip_prefix("reaped_ä=").map(str::to_owned))
        };
        assert_eq!(told(&mut helper(&["lines"])), Some("inherited".into()));
        assert_eq!(told(helper(&["lines"]).env_remove("rEAPED_ä")), None);
        assert_eq!(told(helper(&["lines"]).env("REAPED_ä", "b")), Some("b".into()));
        assert_eq!(told(helper(&["lines"]).env("REAPED_ä", "b").env_remove("reaped_Ä")), None);
    });
}

#[test]
fn each_reason_is_reported() {
    let is = |command: &mut Command, reason, words: &str| {
        let (told, text) = spawn_reason(command);
        assert_eq!(told, reason, "{text}");
        assert!(text.contains(words), "{text}");
    };
    is(&mut Command::new("no-such-program"), SpawnReason::ProgramNotFound, "program not found in PATH");
    is(&mut Command::new("C:\\no\\such\\program.exe"), SpawnReason::ProgramNotFound, "program not found");
    is(&mut Command::new(".\\no-such-program"), SpawnReason::ProgramNotFound, "program not found");
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    is(helper(&[]).current_dir(&missing), SpawnReason::WorkingDirectory, "does not exist");
    let file = folder.path().join("file.exe");
    std::fs::write(&file, "no program").expect("written");
    is(helper(&[]).current_dir(&file), SpawnReason::WorkingDirectory, "is not a directory");
    is(&mut Command::new(&file), SpawnReason::NotExecutable, "format");
    let directory = folder.path().join("directory.exe");
    std::fs::create_dir(&directory).expect("a folder");
    let (reason, text) = spawn_reason(&mut Command::new(&directory));
    assert_eq!(reason, SpawnReason::NotExecutable, "{text}");
    let error = block_on(Command::new("no-such-program").run()).expect_err("missing");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
}

#[test]
fn each_invalid_command_is_reported() {
    assert_eq!(invalid_reason(&mut Command::new("")), InvalidReason::EmptyProgram);
    assert_eq!(invalid_reason(&mut Command::new("a\0b")), InvalidReason::Nul);
    assert_eq!(invalid_reason(helper(&[]).arg("a\0b")), InvalidReason::Nul);
    assert_eq!(invalid_reason(helper(&[]).env("A", "a\0b")), InvalidReason::Nul);
    assert_eq!(invalid_reason(helper(&[]).current_dir("a\0b")), InvalidReason::Nul);
    assert_eq!(invalid_reason(helper(&[]).env("A=B", "x")), InvalidReason::EnvironmentName);
    assert_eq!(invalid_reason(helper(&[]).env("", "x")), InvalidReason::EnvironmentName);
}

/// A promise whose child has reported that it runs, and then sleeps without reading its input.
fn sleeping(said: &Path) -> Promise<Output> {
    let mut command = helper(&["say:1:x", "sleep:30000"]);
    command.stdout(File::create(said).expect("a file")).stdin(Stdio::bytes(vec![0; MIB]));
    let promise = command.output();
    eventually("it runs", || std::fs::read(said).is_ok_and(|said| said == b"x\n"));
    promise
}

#[test]
fn dropping_a_promise_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    for polled in [false, true] {
        let mut promise = sleeping(&folder.path().join(format!("said{polled}")));
        let pid = promise.pid().expect("it runs");
        if polled {
            assert!(Pin::new(&mut promise).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(runs(pid));
        drop(promise);
        eventually("it is gone", || !runs(pid));
    }
}

/// Whether a process of that number exists and has not exited.
pub fn runs(pid: u32) -> bool {
    use windows_sys::Win32::Foundation::{CloseHandle, WAIT_TIMEOUT};
    use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_SYNCHRONIZE, WaitForSingleObject};
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, 0, pid) };
    if process.is_null() {
        return false;
    }
    let waited = unsafe { WaitForSingleObject(process, 0) };
    unsafe { CloseHandle(process) };
    waited == WAIT_TIMEOUT
}

#[test]
fn kill_on_drop_can_be_turned_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("said");
    let mut command = helper(&["sleep:300", "say:1:on"]);
    command.stdout(File::create(&path).expect("a file")).kill_on_drop(false);
    drop(command.run());
    eventually("it runs to its end", || std::fs::read(&path).is_ok_and(|said| said == b"on\n"));
}

/// A dropped promise leaves no thread in its pipes, although a grandchild holds them open. The pool has two
/// threads, so two that stay would block it.
#[test]
fn no_thread_stays_for_a_dropped_promise() {
    alone("windows::no_thread_stays_for_a_dropped_promise", || {
        // No other test runs in this process, and its pool of threads was not used yet.
        unsafe { std::env::set_var("BLOCKING_MAX_THREADS", "2") };
        let start = Instant::now();
        let folder = tempfile::tempdir().expect("a folder");
        for round in 0..5 {
            let said = folder.path().join(format!("{round}"));
            // The grandchild must exist before its parent is killed: Wine does not end a process that is
            // being made at that moment.
            let mut command = helper(&["leave:20000", "err:10", "sleep:20000"]);
            command.stderr(File::create(&said).expect("a file"));
            let mut promise = command.output();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut promise).poll(&mut cx).is_pending());
            eventually("it runs", || std::fs::metadata(&said).is_ok_and(|file| file.len() == 10));
            assert!(Pin::new(&mut promise).poll(&mut cx).is_pending());
        }
        let output = block_on(helper(&["out:100000", "err:100000"]).output()).expect("a value");
        assert_eq!(output.stdout.len() + output.stderr.len(), 200_000);
        assert!(start.elapsed() < Duration::from_secs(15), "it waited for the descendants");
    });
}

#[test]
fn a_child_to_talk_to() {
    everywhere(|| async {
        let mut copy = helper(&["copy:0:1"]).spawn().expect("starts");
        assert!(copy.pid().is_some());
        let mut writer = copy.writer(0).expect("an input");
        assert!(copy.writer(0).is_none(), "taken");
        for text in ["one", "two\r\n", "\x1athree"] {
            writer.write_all(text.as_bytes()).await.expect("read");
            let mut said = Vec::new();
            while said.len() < text.len() {
                match copy.next().await {
                    Some(Event::Data { fd: 1, data }) => said.extend(data),
                    other => panic!("{other:?} after {said:?}"),
                }
            }
            assert_eq!(said, text.as_bytes());
        }
        drop(writer);
        let mut events = Vec::new();
        while let Some(event) = copy.next().await {
            events.push(format!("{event:?}"));
        }
        assert!(events.last().is_some_and(|event| event.starts_with("Ended")), "{events:?}");
        assert!(events.iter().any(|event| event.starts_with("Exited")), "{events:?}");
        assert_eq!(copy.pid(), None);
        assert!(matches!(copy.control().kill(), Err(Error::AlreadyEnded(_))));
    });
}

#[test]
fn lines_and_readers() {
    everywhere(|| async {
        let mut process = helper(&["say:1:a\r", "say:1:b", "say:2:c"]).spawn().expect("starts");
        let mut lines = Vec::new();
        while let Some(line) = process.next_line().await {
            lines.push((line.fd, line.text));
        }
        lines.sort();
        assert_eq!(lines, [(1, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())]);
        assert!(process.status().await.expect("a status").success());

        let mut process = helper(&["out:300000"]).spawn().expect("starts");
        // It cannot have ended, because it has so much to write.
        assert!(process.close(0));
        let mut data = Vec::new();
        process.reader(1).expect("an output").read_to_end(&mut data).await.expect("data");
        assert_eq!(data, pattern(300_000));
        assert!(process.status().await.expect("a status").success());
    });
}

#[test]
fn a_mebibyte_each_way_at_once() {
    everywhere(|| async {
        let mut copy = helper(&["copy:0:1"]).spawn().expect("starts");
        let mut writer = copy.writer(0).expect("an input");
        let sent = pattern(MIB);
        let write = async {
            writer.write_all(&sent).await.expect("read");
            drop(writer);
        };
        let (output, ()) = futures::future::join(copy.output(), write).await;
        assert_eq!(output.expect("a value").stdout, sent);
    });
}

#[test]
fn bounds() {
    everywhere(|| async {
        let soon = Duration::from_secs(2);
        let error = helper(&["say:1:half", "sleep:100000"]).timeout(soon).output().await.expect_err("late");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        assert_eq!(error.output().expect("it ran").stdout, b"half\n");
        let error = helper(&["out:100000", "sleep:100000"]).limit(1000).output().await.expect_err("too much");
        assert!(matches!(error, Error::OutputLimit(_)), "{error}");
        assert_eq!(error.output().expect("it ran").stdout, pattern(1000));
        let promise = helper(&["sleep:100000"]).output();
        promise.control().terminate().expect("runs");
        assert_eq!(promise.await.expect("a value").status.code(), Some(1));
    });
}
