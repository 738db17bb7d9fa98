//! Messages and buffers. A message is one line that is safe to print. Real shells read a quoted command back. Output
//! keeps no spare memory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::join_all;
use futures::io::AsyncWriteExt;
use proptest::prelude::*;
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use reaped::{Command, Error, Event, Stdio};

use super::harness::skip;
use super::support::{Fails, alone, everywhere, helper, sh};

/// Characters that change the text around them, or that have no shape. The table is Unicode's, as in proptest's regex.
const UNSEEN: &str = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{34f}\u{3164}\u{ffa0}]";

/// Some of them by name: line ends, an escape code, C1, right-to-left marks, isolates, nothing at all.
const NASTY: &str = "\n\r\t\x1b[31m\x07\x7f\u{85}\u{9b}\u{ad}\u{200b}\u{200d}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}";

fn is_safe(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || NASTY.contains(c) && !c.is_ascii_graphic())
}

/// How a command with these words is quoted. The command never starts.
fn quoted(program: &OsStr, args: &[OsString]) -> String {
    let error =
        block_on(Command::new(program).args(args).stdin(Stdio::same_as(9)).run()).expect_err("invalid");
    error.command().to_owned()
}

/// Any word that an argument can be, and often a difficult one.
fn word() -> impl Strategy<Value = OsString> {
    let text = |regex: &str| string_regex(regex).expect("a regex").prop_map(OsString::from);
    // The quoted word must fit into the part of a command that a message shows.
    prop_oneof![
        proptest::collection::vec(1..=u8::MAX, 0..8).prop_map(OsString::from_vec),
        text(r#"[a-z \n\t\r'"\\$`!%~*?#&|;<>(){}\[\]=:^-]{0,8}"#),
        text(&format!("[a-zü]{{0,2}}{UNSEEN}[a-z\n0-9]{{0,3}}")),
        text("\\PC{0,8}"),
        text("[a-z]{0,3}\n{0,4}"),
        text("-[nveE-]{0,3}\n?\x1b?%?"),
    ]
    .prop_map(|word| OsString::from_vec(word.into_vec().into_iter().filter(|byte| *byte != 0).collect()))
}

/// The shell reads each word back as the same bytes.
fn read_back_by(shell: &str, before: &str) {
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() });
    let words = proptest::collection::vec(word(), 1..40);
    let result = runner.run(&words, |words| {
        let mut script = before.to_owned();
        let mut expected = Vec::new();
        for word in &words {
            let quoted = quoted(OsStr::new("x"), std::slice::from_ref(word));
            let quoted = quoted.strip_prefix("x ").expect("the program first");
            prop_assert!(!quoted.ends_with('…'), "too long to be tested: {quoted}");
            prop_assert!(is_safe(quoted), "{quoted:?}");
            script += &format!("printf '%s\\0' {quoted}\n");
            expected.extend_from_slice(word.as_bytes());
            expected.push(0);
        }
        // Run by std, so that a fault of this crate cannot hide another one.
        let output = std::process::Command::new(shell).args(["-c", &script]).output().expect("it runs");
        prop_assert!(
            output.stdout == expected,
            "{shell} read {}\nand not {}\nin\n{script}{}",
            output.stdout.escape_ascii(),
            expected.escape_ascii(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_quoted_argument_is_read_back_by_sh() {
    read_back_by("sh", "");
}

/// With history as at a prompt: there `!` has a meaning even within double quotes.
#[test]
fn a_quoted_argument_is_read_back_by_bash() {
    if std::process::Command::new("bash").arg("--version").output().is_err() {
        skip("bash is missing");
    }
    read_back_by("bash", "");
    read_back_by("bash", "set -o history; set -o histexpand\n");
}

/// In the first word a shell looks for keywords and assignments.
#[test]
fn a_quoted_program_is_run_by_sh() {
    let folder = tempfile::tempdir().expect("a folder");
    let names =
        ["A=b", "if", "done", "time", "a b", "it's", "x\ny\n", "-n", "!", "{", "~", "%1", "ü\u{202e}"];
    for name in names {
        // A link, because a program that was just written can be busy.
        let helper = std::env::current_exe().expect("this binary");
        std::os::unix::fs::symlink(helper, folder.path().join(name)).expect("a link");
        let line = quoted(OsStr::new(name), &["--helper".into(), "say:1:a b".into()]);
        let mut shell = std::process::Command::new("/bin/sh");
        // The shell must not take `-n` as its own option.
        let output = shell.args(["-c", &format!(":; {line}")]).env("PATH", folder.path()).output();
        let output = output.expect("sh runs");
        assert!(output.stdout == b"a b\n", "{line}: {output:?}");
    }
}

/// A foreign error that escapes nothing, not even in Debug.
struct Words(String);

impl std::error::Error for Words {}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Errors that quote this text: from the caller, from the child, from a foreign crate.
fn errors_that_quote(text: &str) -> Vec<(&'static str, Error)> {
    let words = text.to_owned();
    let error = move || io::Error::other(Words(words.clone()));
    let fails = |command: &mut Command| block_on(command.read()).expect_err("it fails");
    let mut errors = vec![
        ("a program", fails(&mut Command::new(format!("/no/such {text}")))),
        ("a name", fails(&mut Command::new(format!("no-such {text}")))),
        ("an argument", fails(Command::new("false").arg(text))),
        ("a directory", fails(Command::new("true").current_dir(format!("/no/such {text}")))),
        ("a variable", fails(Command::new("true").env(format!("{text}="), "value"))),
        ("stderr", fails(sh("printf %s \"$A\" >&2; exit 1").env("A", text))),
        ("stderr that fails", fails(sh("printf %s \"$A\" >&2").env("A", text).fail_on_stderr(true))),
        ("stderr of one that is stopped", {
            let mut talks = sh("printf %s \"$A\" >&2; echo more; exec sleep 100");
            fails(talks.env("A", text).limit_fd(1, 0))
        }),
        ("a reader", fails(Command::new("cat").stdin(Stdio::reader(Fails(error.clone()))))),
        ("a writer", fails(sh("echo x; exec sleep 100").stdout(Stdio::tee(Fails(error.clone()))))),
        (
            "a member",
            block_on(Command::new("false").arg(text).pipe(Command::new("cat")).read()).expect_err("fails"),
        ),
        ("a control", {
            let promise = Command::new("true").arg(text).run();
            let control = promise.control();
            block_on(promise).expect("it runs");
            control.kill().expect_err("ended")
        }),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    let interpreter: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    std::fs::write(&script, format!("#!/no/such/{interpreter}\n")).expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("executable");
    errors.push(("an interpreter", fails(&mut Command::new(&script))));
    errors
}

/// One line that is safe to print, for all authors of its parts, and for each way to print it.
#[test]
fn a_message_is_one_line_that_is_safe_to_print() {
    for (whose, error) in errors_that_quote(NASTY) {
        let told = error.to_string();
        assert!(is_safe(&told), "{whose}: {told:?}");
        // A directory or an interpreter is shown as by Debug, and all in ASCII.
        let escaped = [r"\u{202e}", r"\342\200\256"].iter().any(|escape| told.contains(escape));
        assert!(escaped || ["a variable", "a control"].contains(&whose), "{whose}: {told}");
        for told in [error.command().to_owned(), format!("{error:?}"), io::Error::from(error).to_string()] {
            assert!(is_safe(&told), "{whose}: {told:?}");
        }
    }
    let mut command = Command::new(format!("true{NASTY}"));
    command.arg(NASTY).env(NASTY, NASTY).current_dir(NASTY);
    assert!(is_safe(&format!("{command:?} {:?}", command.pipe(&command))));
    let promise = command.run();
    assert!(is_safe(&format!("{promise:?} {:?}", promise.control())));
    let process = Command::new("true").arg(NASTY).spawn().expect("it starts");
    assert!(is_safe(&format!("{process:?} {:?}", process.control())));
}

/// Unicode's table of characters that have no shape.
#[test]
fn no_invisible_character_is_printed() {
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() });
    let unseen = string_regex(&format!("{UNSEEN}{{1,6}}")).expect("a regex");
    let result = runner.run(&unseen, |unseen| {
        // NUL is refused, and a line end between lines is shown as `; `.
        let unseen: String = unseen.chars().filter(|c| *c != '\0').collect();
        let quoted = quoted(OsStr::new(&unseen), &[OsString::from(&unseen)]);
        let told =
            block_on(Command::new("true").current_dir(format!("/no{unseen}")).run()).expect_err("none");
        let told = format!("{quoted} {told} {told:?}");
        prop_assert!(!told.chars().any(|c| unseen.contains(c)), "{unseen:?}: {told:?}");
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Foreign text may be very long. The message stays short.
#[test]
fn a_message_stays_short_for_every_author() {
    for (whose, error) in errors_that_quote(&"long ü\u{202e} ".repeat(5000)) {
        for told in [error.to_string(), format!("{error:?}")] {
            // Debug shows the source too, which is as long as its author made it.
            let is_source = told.starts_with("Io");
            assert!(is_source || told.chars().count() < 1000, "{whose}: {} characters", told.chars().count());
        }
        if whose == "a directory" {
            assert!(error.to_string().ends_with(" cannot be entered"), "{error}");
        }
    }
}

/// The three cases of the documentation: stderr is captured and quoted, is the parent's, or is thrown away.
#[test]
fn an_error_quotes_the_stderr_that_was_captured() {
    // In its own process, because it writes to stderr.
    alone("messages::an_error_quotes_the_stderr_that_was_captured", || {
        let mut complains = sh("echo why >&2; exit 3");
        let quotes = |error: Error| {
            let captured = error.output().is_some_and(|output| output.stderr == b"why\n");
            assert_eq!(error.to_string().ends_with("exited with code 3: why"), captured, "{error}");
            captured
        };
        assert!(quotes(block_on(complains.read()).expect_err("fails")));
        assert!(quotes(block_on(complains.read_bytes()).expect_err("fails")));
        assert!(!quotes(block_on(complains.run()).expect_err("fails")));
        assert!(quotes(block_on(complains.clone().stderr(Stdio::output()).run()).expect_err("fails")));
        assert_eq!(block_on(complains.exit_code()).expect("a value"), 3);
        let error = block_on(sh("echo why >&2; kill -9 $$").exit_code()).expect_err("no code");
        assert!(error.to_string().ends_with("was killed by SIGKILL (signal 9)"), "{error}");
        assert_eq!(error.output().expect("it ran").stderr, b"");
    });
}

fn fits(what: &str, length: usize, capacity: usize) {
    assert!(capacity <= (2 * length).max(512), "{what}: {length} bytes in {capacity}");
}

fn all_fit(what: &str, mut output: reaped::Output) {
    fits(what, output.stdout.len(), output.stdout.capacity());
    fits(what, output.stderr.len(), output.stderr.capacity());
    output.stdout = Vec::new();
    if let Some(bytes) = output.into_fd(3) {
        fits(what, bytes.len(), bytes.capacity());
    }
}

/// Buffers are as large as a pipe, and one word must not keep such a buffer.
#[test]
fn nothing_handed_out_keeps_its_buffer() {
    everywhere(|| async {
        for count in [0, 1, 257, 600, 5000, 70_000] {
            let out = format!("out:{count}");
            let bytes = helper(&[&out]).read_bytes().await.expect("runs");
            assert_eq!(bytes.len(), count);
            fits("read_bytes", count, bytes.capacity());
            let text =
                sh("head -c \"$A\" /dev/zero | tr '\\0' x; echo").env("A", count.to_string()).read().await;
            let text = text.expect("runs");
            assert_eq!(text.len(), count);
            fits("read", count, text.capacity());
            let mut all = helper(&[&out, &format!("err:{count}"), &format!("fill:3:{count}"), "exit:1"]);
            all.fd(3, Stdio::output());
            all_fit("output", all.output().await.expect("runs"));
            all_fit("an error", all.read().await.expect_err("fails").into_output().expect("it ran"));
            all_fit("a tee", all.stdout(Stdio::tee(futures::io::sink())).output().await.expect("runs"));
            let whole = helper(&[&out, "err:10"])
                .pipe(helper(&["copy:0:1", "err:700"]))
                .output()
                .await
                .expect("runs");
            for member in whole.members() {
                all_fit("a member", member.clone());
            }
            all_fit("a pipeline", whole);
            let mut limited = helper(&[&out, "say:1:more", "sleep:100000"]);
            let error = limited.limit(count as u64).output().await.expect_err("too much");
            all_fit("a limited one", error.into_output().expect("it ran"));
        }
    });
}

#[test]
fn an_event_keeps_no_buffer() {
    everywhere(|| async {
        // Buffers grow for a stream; single words follow.
        const STREAM: usize = 2_000_000;
        let script = "head -c 2000000 /dev/zero; for n in 1 2 3 4 5; do read go; echo ok; done";
        let mut process = sh(script).spawn().expect("it starts");
        let mut writer = process.writer(0).expect("a pipe");
        let (mut streamed, mut words) = (0, 0);
        while let Some(event) = process.next().await {
            let Event::Data { data, .. } = event else { continue };
            fits("an event", data.len(), data.capacity());
            if streamed < STREAM {
                streamed += data.len();
            } else {
                assert_eq!(data, b"ok\n");
                words += 1;
            }
            if streamed == STREAM && words < 5 {
                writer.write_all(b"\n").await.expect("it reads");
            }
        }
        assert_eq!((streamed, words), (STREAM, 5));
    });
}

#[test]
fn a_line_keeps_no_buffer() {
    everywhere(|| async {
        let script = r"head -c 500000 /dev/zero; echo; echo ok; printf 'a\377b\n'; head -c 3000 /dev/zero | tr '\0' '\377'; echo end";
        let mut process = sh(script).spawn().expect("it starts");
        let mut count = 0;
        while let Some(line) = process.next_line().await {
            fits("a line", line.text.len(), line.text.capacity());
            count += 1;
        }
        assert_eq!(count, 4);
        // Bytes that were read and are no whole line are returned as they are.
        let mut process =
            sh("head -c 100000 /dev/zero; echo; printf rest; exec sleep 0.3").spawn().expect("it starts");
        assert_eq!(process.next_line().await.expect("a line").text.len(), 100_000);
        let output = process.output().await.expect("runs");
        assert_eq!(output.stdout, b"rest");
        all_fit("the rest", output);
    });
}

/// The time of a child does not depend on when a task polls, early, late or never.
#[test]
fn elapsed_ends_when_the_child_ended() {
    everywhere(|| async {
        let before = Instant::now();
        let mut process = sh("echo hi; read line").spawn().expect("it starts");
        process.close(0);
        while process.next().await.is_some() {}
        let most = before.elapsed();
        smol::Timer::after(Duration::from_millis(50)).await;
        let elapsed = process.output().await.expect("ended").elapsed();
        assert!(elapsed <= most, "{elapsed:?} of {most:?}");

        let before = Instant::now();
        let mut process = sh("echo one; echo two").spawn().expect("it starts");
        let mut lines = process.lines();
        while lines.next().await.is_some() {}
        let most = before.elapsed();
        smol::Timer::after(Duration::from_millis(50)).await;
        let elapsed = process.output().await.expect("ended").elapsed();
        assert!(elapsed <= most, "{elapsed:?} of {most:?}");
        assert!(elapsed > Duration::ZERO);
    });
    const LATE: Duration = Duration::from_secs(2);
    let before = Instant::now();
    let mut pipeline = sh("echo hi").pipe(Command::new("cat"));
    let promises = [sh("echo hi").output(), pipeline.output()];
    let process = sh("echo hi").spawn().expect("it starts");
    let promise = process.output();
    if !cfg!(any(target_os = "linux", windows)) {
        // There the exit is seen from the first poll on.
        return;
    }
    // No task polls.
    thread::sleep(LATE);
    for output in block_on(join_all(promises)).into_iter().chain([block_on(promise)]) {
        let output = output.expect("runs");
        assert_eq!(output.stdout, b"hi\n");
        assert!(output.elapsed() < LATE, "{:?} of {:?}", output.elapsed(), before.elapsed());
    }
}
