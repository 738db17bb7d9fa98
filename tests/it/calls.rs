//! Every row of the table of calls, on every executor.

use futures::FutureExt;
use reaped::{Command, Error};

use super::support::everywhere;

const NONE: [&str; 0] = [];

fn sh(script: &'static str) -> [&'static str; 2] {
    ["-c", script]
}

#[test]
fn run_gives_nothing_or_failed() {
    everywhere(|| async {
        reaped::run("true", NONE).await.expect("true succeeds");
        let error = reaped::run("sh", sh("exit 3")).await.expect_err("3 is a failure");
        assert!(matches!(error, Error::Failed(_)));
        assert_eq!(error.output().expect("it ran").status.code(), Some(3));
    });
}

#[test]
fn read_gives_text_without_its_last_line_end() {
    everywhere(|| async {
        assert_eq!(reaped::read("echo", ["hi"]).await.expect("text"), "hi");
        assert_eq!(reaped::read("printf", [r"a\n\n"]).await.expect("text"), "a\n", "one line end, not all");
        assert_eq!(reaped::read("printf", [r"a\r\n"]).await.expect("text"), "a");
        assert_eq!(reaped::read("printf", [r"a\r"]).await.expect("text"), "a\r", "no line end");
        assert_eq!(reaped::read("true", NONE).await.expect("text"), "");
        assert_eq!(reaped::read("cat", NONE).await.expect("stdin is the null device"), "");
        let error = reaped::read("sh", sh("echo out; echo err >&2; exit 1")).await.expect_err("failed");
        let output = error.output().expect("it ran");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        let error = reaped::read("printf", [r"ab\377"]).await.expect_err("not UTF-8");
        assert!(matches!(error, Error::NotUtf8(_)));
        assert_eq!(error.into_output().expect("the bytes").stdout, b"ab\xff");
    });
}

#[test]
fn read_bytes_gives_every_byte() {
    everywhere(|| async {
        assert_eq!(reaped::read_bytes("printf", [r"a\0\377\n"]).await.expect("bytes"), b"a\0\xff\n");
        assert!(matches!(reaped::read_bytes("false", NONE).await, Err(Error::Failed(_))));
    });
}

#[test]
fn exit_code_is_a_value_and_a_signal_is_not() {
    everywhere(|| async {
        assert_eq!(reaped::exit_code("true", NONE).await.expect("a code"), 0);
        assert_eq!(reaped::exit_code("sh", sh("echo x; echo y >&2; exit 255")).await.expect("a code"), 255);
        let error = reaped::exit_code("sh", sh("kill -9 $$")).await.expect_err("no code");
        assert!(matches!(error, Error::Failed(_)));
        assert_eq!(error.output().expect("it ran").status.code(), None);
    });
}

#[test]
fn output_returns_everything_after_any_end() {
    everywhere(|| async {
        let output = reaped::output("sh", sh("echo out; echo err >&2; exit 4")).await.expect("a value");
        assert_eq!(output.status.code(), Some(4));
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(
            (output.fd(1), output.fd(2), output.fd(3)),
            (Some(&b"out\n"[..]), Some(&b"err\n"[..]), None)
        );
        assert!(output.elapsed() > std::time::Duration::ZERO);
        assert!(matches!(output.check(), Err(Error::Failed(_))));
        let output = reaped::output("sh", sh("kill -TERM $$")).await.expect("a value");
        assert_eq!(output.status.code(), None);
    });
}

#[test]
fn status_is_a_value() {
    everywhere(|| async {
        assert!(Command::new("true").status().await.expect("a value").success());
        assert_eq!(Command::new("sh").args(sh("exit 9")).status().await.expect("a value").code(), Some(9));
    });
}

/// `run` and `status` connect the parent's own descriptors. The test looks from outside, at a parent whose
/// stdin, stdout and stderr it chose.
#[test]
fn run_and_status_inherit_all_three() {
    const VARIABLE: &str = "REAPED_TEST_INHERIT";
    if std::env::var_os(VARIABLE).is_some() {
        let copy = || Command::new("sh").args(sh("head -c 2; echo to-err >&2")).to_owned_run();
        futures::executor::block_on(copy());
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["calls::run_and_status_inherit_all_three", "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    use std::io::Write;
    child.stdin.take().expect("piped").write_all(b"AB").expect("taken");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("AB") && said.contains("1 passed"), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("to-err"));
}

trait ToOwnedRun {
    fn to_owned_run(&mut self) -> futures::future::BoxFuture<'static, ()>;
}

impl ToOwnedRun for Command {
    fn to_owned_run(&mut self) -> futures::future::BoxFuture<'static, ()> {
        let run = self.run();
        Box::pin(async move { run.await.expect("succeeds") })
    }
}

#[test]
fn the_child_starts_at_the_call() {
    let dir = tempfile::tempdir().expect("a folder");
    let mark = dir.path().join("mark");
    let promise = Command::new("touch").arg(&mark).run();
    super::support::eventually("the file of a child that nobody awaits", || mark.exists());
    futures::executor::block_on(promise).expect("touch succeeds");
}

#[test]
fn a_command_runs_again_and_again_and_at_once() {
    everywhere(|| async {
        let mut command = Command::new("cat");
        command.stdin(reaped::Stdio::bytes("again"));
        assert_eq!(command.read().await.expect("first"), "again");
        let (one, two) = (command.read(), command.read());
        let (one, two) = futures::join!(one, two);
        assert_eq!((one.expect("second").as_str(), two.expect("third").as_str()), ("again", "again"));
    });
}

#[test]
fn a_line_with_values_of_every_kind() {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};
    let (owned, path, os) = (String::from("a b"), PathBuf::from("p"), OsString::from("$x"));
    let list = vec![String::from("one"), String::new()];
    let text = reaped::cmd!(
        r#"printf "%s|" {} {} "{}" {} {} x={}{} {} {}"#,
        owned,
        &owned,
        path,
        Path::new("q"),
        os,
        "'",
        owned.as_str(),
        ..&list,
        ..list.iter().map(|word| word.to_uppercase()),
    );
    let said = futures::executor::block_on({ text }.read()).expect("text");
    assert_eq!(said, "a b|a b|p|q|$x|x='a b|one||ONE||");
    drop((owned, path, os, list));
    futures::executor::block_on(reaped::cmd!("true").run()).expect("success");
    futures::executor::block_on(reaped::cmd!("true",).run()).expect("success");
    let error = futures::executor::block_on(reaped::cmd!("{}", ..[""; 0]).run()).expect_err("no program");
    assert!(matches!(error, Error::Invalid { reason: reaped::InvalidReason::EmptyProgram, .. }));
}

#[test]
fn promises_are_send_unpin_and_static() {
    fn check<T: Send + Unpin + 'static>(_: &T) {}
    let promise = reaped::output("true", NONE);
    check(&promise);
    futures::executor::block_on(promise).expect("true succeeds");
    fn sync<T: Send + Sync + 'static>() {}
    sync::<Error>();
    sync::<Command>();
    sync::<reaped::Pipeline>();
    sync::<reaped::Promise<reaped::Output>>();
    sync::<reaped::Process>();
    sync::<reaped::Lines<'static>>();
    sync::<(reaped::Reader, reaped::Writer, reaped::Control, reaped::Event)>();
    let promise = Command::new("true").pipe(Command::new("true")).output();
    check(&promise);
    futures::executor::block_on(promise).expect("true succeeds");
    assert!(size_of::<Error>() <= 32, "{} bytes", size_of::<Error>());
}

/// The test makes a promise before any executor exists and leaves it alone. One executor polls it, and
/// another one finishes it on another thread.
#[test]
fn a_promise_moves_between_executors() {
    use std::io::Write;
    let (asks, answers) = super::support::pipe();
    let mut command = Command::new("sh");
    let mut promise =
        command.args(sh("echo early; read -r word; printf $word; seq 1 100000")).stdin(asks).output();
    std::thread::sleep(std::time::Duration::from_secs(1));
    smol::block_on(futures::future::poll_fn(|cx| {
        assert!(promise.poll_unpin(cx).is_pending(), "it waits for a word");
        std::task::Poll::Ready(())
    }));
    std::fs::File::from(answers).write_all(b"late\n").expect("it reads");
    let output = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(promise)
    });
    let output = output.join().expect("no panic").expect("a value");
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"early\nlate1\n2\n") && output.stdout.ends_with(b"\n100000\n"));
    assert_eq!(output.stdout.len(), "early\nlate".len() + 588_895);
}
