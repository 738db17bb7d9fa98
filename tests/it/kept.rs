//! How much of a child's output is kept, where else it goes, and where a pipe goes on to.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use futures::io::{AllowStdIo, AsyncReadExt, AsyncWriteExt};
use futures::{StreamExt, join};
use reaped::{Command, Error, Event, InvalidReason, PtySize, Stdio, cmd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::helper::pattern;
use super::support::{alone, at_last, eventually, everywhere, helper, peak, reset_peak, sh};

/// Writes 16 bytes to stdout and 16 to stderr.
fn sixteen() -> Command {
    sh("printf 0123456789abcdef; printf 0123456789abcdef >&2")
}

#[test]
fn the_first_and_the_last_bytes() {
    everywhere(|| async {
        for (first, last, kept) in
            [(3, 2, "012ef"), (0, 4, "cdef"), (4, 0, "0123"), (0, 0, ""), (8, 8, "0123456789abcdef")]
        {
            let output = sixteen().capture_ends(first, last).output().await.expect("runs");
            assert_eq!((&output.stdout[..], &output.stderr[..]), (kept.as_bytes(), kept.as_bytes()));
            let missing = 16 - kept.len() as u64;
            assert_eq!([output.omitted(1), output.omitted(2), output.omitted(3)], [missing, missing, 0]);
            let bytes = sixteen().capture_ends(first, last).read_bytes().await.expect("runs");
            assert_eq!(bytes, kept.as_bytes());
        }
        let shown = sixteen().capture_ends(3, 2).read().await.expect("text");
        assert_eq!(shown, "012\n[… 11 bytes left out …]\nef");
        let output = sixteen().capture_ends(0, 2).output().await.expect("runs");
        assert_eq!(output.stdout_lossy(), "[… 14 bytes left out …]\nef");
        assert_eq!(output.stderr_lossy(), "[… 14 bytes left out …]\nef");
        let output = sixteen().capture_ends(9, 9).output().await.expect("runs");
        assert_eq!(output.stdout_lossy(), "0123456789abcdef");

        // The output comes in many reads.
        let output = helper(&["out:300000"]).capture_ends(1000, 100_000).output().await.expect("runs");
        let all = pattern(300_000);
        assert_eq!(output.stdout, [&all[..1000], &all[200_000..]].concat());
        assert_eq!(output.omitted(1), 199_000);
    });
}

#[test]
fn no_character_is_cut_in_two() {
    let many = |first, last| {
        let mut printf = Command::new("printf");
        printf.arg("é".repeat(100)).capture_ends(first, last);
        printf
    };
    for (first, last, shown) in [
        (5, 5, "éé\n[… 192 bytes left out …]\néé"),
        (4, 4, "éé\n[… 192 bytes left out …]\néé"),
        (1, 1, "[… 200 bytes left out …]\n"),
    ] {
        let text = block_on(many(first, last).read()).expect("text");
        assert_eq!(text.trim_end(), shown.trim_end());
        assert_eq!(block_on(many(first, last).output()).expect("runs").stdout_lossy(), shown);
    }
    let bytes = block_on(many(5, 5).read_bytes()).expect("bytes");
    assert_eq!(bytes, ["éé".as_bytes(), &[0xc3, 0xa9], "éé".as_bytes()].concat());

    // The cut does not depend on the bytes before it.
    let odd = Command::new("printf").arg(r"\377a\303\251bbbbbbbbb").capture_ends(3, 3).output();
    assert_eq!(block_on(odd).expect("runs").stdout_lossy(), "\u{fffd}a\n[… 8 bytes left out …]\nbbb");

    for odd in [r"\377aaaaaaaaaaa", r"aaaaaaaaaaa\377"] {
        let error = block_on(cmd!("printf {}", odd).capture_ends(4, 4).read()).expect_err("no text");
        assert!(matches!(error, Error::NotUtf8(_)), "{error}");
        assert_eq!(error.output().expect("it ran").omitted(1), 4);
    }
}

#[test]
fn ends_beside_everything_else() {
    everywhere(|| async {
        // A limit counts every byte. The message shows the end of stderr.
        let error = sixteen().capture_ends(1, 1).limit(15).output().await.expect_err("one byte too many");
        assert!(matches!(error, Error::OutputLimit(_)), "{error}");
        let error = sh("seq 9999 >&2; echo boom >&2; exit 3").capture_ends(5, 9).read().await.expect_err("3");
        assert!(error.to_string().ends_with("exited with code 3: boom"), "{error}");

        // A copy gets every byte, and lines see every byte.
        let copy = Arc::new(Mutex::new(Vec::new()));
        let mut command = helper(&["out:300000"]);
        command.stdout(Stdio::tee(AllowStdIo::new(Shared(copy.clone())))).capture_ends(10, 10);
        let output = command.output().await.expect("runs");
        assert_eq!(*copy.lock().expect("no panic"), pattern(300_000));
        assert_eq!((output.stdout.len(), output.omitted(1)), (20, 299_980));
        let mut process = Command::new("seq").arg("30000").capture_ends(1, 1).spawn().expect("starts");
        assert_eq!(process.lines().count().await, 30_000);

        // Bytes that came as an event are gone; the kept ends come from the rest.
        let mut process = sh("echo first; read go; seq 9999").capture_ends(4, 5).spawn().expect("starts");
        let first = process.next().await;
        assert!(matches!(&first, Some(Event::Data { fd: 1, data }) if data == b"first\n"), "{first:?}");
        process.writer(0).expect("an input").write_all(b"go\n").await.expect("read");
        assert_eq!(process.output().await.expect("runs").stdout, b"1\n2\n9999\n");

        // Each member of a pipeline has its own ends.
        let mut three = sh("seq 99 >&2; seq 9999").pipe(sh("echo no >&2; cat"));
        let output = three.capture_ends(4, 5).output().await.expect("runs");
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"1\n2\n9999\n"[..], &b"1\n2\n8\n99\nno\n"[..])
        );
        assert_eq!([output.omitted(1), output.omitted(2)], [48_879, 279]);
        assert_eq!(output.stderr_lossy(), "1\n2\n[… 279 bytes left out …]\n8\n99\nno\n");
        // The last member's stdout counts for the pipeline, and each member's stderr for that member.
        assert_eq!([output.members()[1].omitted(1), output.members()[0].omitted(2)], [0, 279]);
        let mut two = sh("printf abcd >&2").pipe(sh(r"printf '\251\251' >&2"));
        let output = two.capture_ends(3, 0).output().await.expect("runs");
        assert_eq!(output.stderr_lossy(), "abc\n[… 1 bytes left out …]\n\u{fffd}\u{fffd}");
    });
}

/// Output that the result does not contain takes no memory.
#[test]
fn much_output_takes_no_memory() {
    alone("kept::much_output_takes_no_memory", || {
        const MUCH: &str = "out:200000000";
        let sink = || Stdio::tee(futures::io::sink());
        let before = reset_peak();
        block_on(async {
            let output = helper(&[MUCH]).capture_ends(1 << 16, 1 << 20).output().await.expect("runs");
            assert_eq!(output.stdout.len(), (1 << 16) + (1 << 20));
            helper(&[MUCH]).stdout(sink()).run().await.expect("runs");
            assert!(helper(&[MUCH]).stdout(sink()).status().await.expect("runs").success());
            assert_eq!(helper(&[MUCH]).stdout(sink()).exit_code().await.expect("runs"), 0);
            helper(&[]).pipe(helper(&[MUCH]).stdout(sink()).clone()).run().await.expect("runs");
            let output =
                helper(&[MUCH]).stdout(Stdio::writer(futures::io::sink())).output().await.expect("runs");
            assert_eq!(output.stdout, b"");
            let mut flood = sh("seq 20000000 >&2; echo boom >&2; exit 3");
            flood.stderr(Stdio::output());
            for error in [flood.run().await, flood.clone().pipe(sh("cat")).run().await] {
                let error = error.expect_err("3");
                assert!(error.to_string().ends_with("20000000; boom"), "{error}");
                assert!(error.output().expect("it ran").stderr.len() < 2000);
            }
            // Every run is fed from the same memory.
            let shared: Arc<[u8]> = pattern(20_000_000).into();
            let count = || {
                let mut wc = Command::new("wc");
                wc.arg("-c").stdin(Stdio::shared(shared.clone())).read()
            };
            let (one, two, three, four) = join!(count(), count(), count(), count());
            for said in [one, two, three, four] {
                assert_eq!(said.expect("runs").trim(), "20000000");
            }
            assert_eq!(Arc::strong_count(&shared), 1, "nobody has it any more");
        });
        let grown = peak() - before;
        assert!(grown < 80 << 20, "{} MiB more", grown >> 20);
    });
}

#[test]
fn bytes_of_any_owner() {
    everywhere(|| async {
        let text: Arc<str> = "one".into();
        let bytes: Arc<[u8]> = b"two".to_vec().into();
        for (stdio, all) in [
            (Stdio::shared(text), "one"),
            (Stdio::shared(bytes), "two"),
            (Stdio::shared(Arc::new(String::from("three"))), "three"),
            (Stdio::shared(Arc::new("four")), "four"),
            (Stdio::shared(Arc::<[u8]>::default()), ""),
        ] {
            assert_eq!(format!("{stdio:?}"), format!("Bytes({} bytes)", all.len()));
            assert_eq!(Command::new("cat").stdin(stdio).read().await.expect("runs"), all);
        }
        /// Gives fewer bytes at each read.
        struct Less(std::sync::atomic::AtomicUsize);
        impl AsRef<[u8]> for Less {
            fn as_ref(&self) -> &[u8] {
                let left = self.0.fetch_sub(100_000, std::sync::atomic::Ordering::Relaxed);
                &[b'x'; 1_000_000][..left.min(1_000_000)]
            }
        }
        let odd = Stdio::shared(Arc::new(Less(1_000_000.into())));
        let count = Command::new("wc").arg("-c").stdin(odd).read().await.expect("it does not panic");
        assert!(count.trim().parse::<usize>().expect("a number") <= 1_000_000);
    });
}

#[test]
fn numbers_in_a_line() {
    let (small, large, list) = (-3_i8, u128::MAX, [1_u64, 22]);
    let words = block_on(cmd!("printf '%s|' {} {} n={} {} {}", small, &7, large, ..list, ..[5]).read());
    assert_eq!(words.expect("runs"), format!("-3|7|n={large}|1|22|5|"));
    let mixed = block_on(cmd!("printf '%s|' {} {} {}", "text", Path::new("/path"), 0).read()).expect("runs");
    assert_eq!(mixed, "text|/path|0|");
}

/// Runs twice: one process of this test shows its output to another.
#[test]
fn shown_and_kept() {
    const SCRIPT: &str = "echo to out; echo to err >&2";
    const VARIABLE: &str = "REAPED_TEST_SHOWN";
    if let Some(done) = std::env::var_os(VARIABLE) {
        // Output may be lost here, so a file reports the result.
        if Path::new(&done).ends_with("gone") {
            eventually("nobody reads it", || {
                let stdout = std::io::stdout();
                let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
                poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("a poll");
                asked[0].revents().contains(PollFlags::ERR)
            });
        }
        everywhere(|| async {
            let mut command = sh(SCRIPT);
            command.stdout(Stdio::tee_inherit()).stderr(Stdio::tee_inherit());
            for _ in 0..2 {
                let output = command.output().await.expect("runs");
                assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"to out\n"[..], &b"to err\n"[..]));
            }
            // More than a pipe holds, and more than the thread gets at once.
            let much = helper(&["out:300000"]).stdout(Stdio::tee_inherit()).output().await.expect("runs");
            assert_eq!(much.stdout, pattern(300_000));
        });
        // This process's own descriptors are still blocking.
        for fd in [std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
            let flags = rustix::fs::fcntl_getfl(fd).expect("open");
            assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        }
        std::fs::write(done, "done").expect("a file");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let again = |how: &str| {
        let done = folder.path().join(how);
        let mut again = sh(match how {
            // It has read the harness's first lines, which could not be written otherwise.
            "gone" => "\"$0\" \"$@\" 2>&1 | { read line; read line; }",
            "closed" => "exec \"$0\" \"$@\" >&- 2>&-",
            _ => "exec \"$0\" \"$@\"",
        });
        again.arg(std::env::current_exe().expect("this binary"));
        again.args(["kept::shown_and_kept", "--exact", "--nocapture", "--quiet"]).env(VARIABLE, &done);
        (again, done)
    };
    let is_done = |done: &Path| std::fs::read(done).is_ok_and(|said| said == b"done");
    let count =
        |all: &[u8], what: &str| all.windows(what.len()).filter(|part| *part == what.as_bytes()).count();
    let much = pattern(300_000);

    let (mut command, done) = again("pipe");
    let output = block_on(command.output()).expect("runs");
    assert!(is_done(&done), "{output:?}");
    assert_eq!([count(&output.stdout, "to out\n"), count(&output.stderr, "to err\n")], [10, 10]);
    assert!(output.stdout.windows(much.len()).any(|part| part == much));

    let (mut command, done) = again("file");
    let mut file = tempfile::tempfile().expect("a file");
    command.stdout(file.try_clone().expect("a copy")).stderr(Stdio::same_as(1));
    block_on(command.run()).expect("runs");
    assert!(is_done(&done));
    let mut all = Vec::new();
    std::io::Seek::rewind(&mut file).expect("a file");
    file.read_to_end(&mut all).expect("a file");
    assert_eq!([count(&all, "to out\n"), count(&all, "to err\n")], [10, 10]);

    let (mut command, done) = again("terminal");
    let output = block_on(command.pty(PtySize::default()).output()).expect("runs");
    assert!(is_done(&done), "{output:?}");
    assert_eq!([count(&output.stdout, "to out\r\n"), count(&output.stdout, "to err\r\n")], [10, 10]);

    for how in ["gone", "closed"] {
        let (mut command, done) = again(how);
        // Nobody there reads the harness's own output.
        let output = block_on(command.output()).expect("runs");
        assert!(is_done(&done), "{how}: {output:?}");
    }
}

/// If no process reads the terminal or pipe, everything else goes on, and the call's bounds hold.
#[test]
fn shown_to_nobody() {
    const VARIABLE: &str = "REAPED_TEST_SHOWN_TO_NOBODY";
    if let Some(done) = std::env::var_os(VARIABLE) {
        block_on(async {
            let mut stuck = helper(&["out:1000000"]);
            stuck.stdout(Stdio::tee_inherit()).timeout(Duration::from_secs(2)).grace(Duration::ZERO);
            let other = async {
                for _ in 0..20 {
                    assert_eq!(reaped::read("echo", ["hi"]).await.expect("runs"), "hi");
                }
                std::time::Instant::now()
            };
            let start = std::time::Instant::now();
            let (stuck, other) = join!(stuck.output(), other);
            let error = stuck.expect_err("it cannot go on");
            assert!(matches!(error, Error::TimedOut(_)), "{error}");
            assert!(other - start < Duration::from_secs(2) || start.elapsed() > Duration::from_secs(4));
        });
        std::fs::write(done, "done").expect("a file");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let done = folder.path().join("done");
    let mut again = Command::new(std::env::current_exe().expect("this binary"));
    again.args(["kept::shown_to_nobody", "--exact", "--nocapture", "--quiet"]).env(VARIABLE, &done);
    let mut process = again.stdout(Stdio::output()).spawn().expect("starts");
    process.pause(1);
    eventually("it has done without", || done.exists());
    process.control().kill().ok();
}

/// Another process may have made the open file non-blocking, and SIGPIPE may have its default action.
#[test]
fn shown_to_a_slow_reader() {
    const VARIABLE: &str = "REAPED_TEST_SHOWN_TO_A_SLOW_READER";
    if let Some(done) = std::env::var_os(VARIABLE) {
        rustix::io::ioctl_fionbio(std::io::stdout(), true).expect("open");
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let output = block_on(helper(&["out:1000000"]).stdout(Stdio::tee_inherit()).output()).expect("runs");
        assert_eq!(output.stdout, pattern(1_000_000));
        std::fs::write(done, "done").expect("a file");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for is_read in [true, false] {
        let done = folder.path().join(is_read.to_string());
        let mut again = Command::new(std::env::current_exe().expect("this binary"));
        again.args(["kept::shown_to_a_slow_reader", "--exact", "--nocapture"]).env(VARIABLE, &done);
        let mut process = again.spawn().expect("starts");
        let mut reader = process.reader(1).expect("an output");
        let mut first = vec![0; 10_000];
        block_on(reader.read_exact(&mut first)).expect("what comes first");
        std::thread::sleep(Duration::from_millis(300));
        if is_read {
            block_on(reader.read_to_end(&mut first)).expect("all of it");
            assert!(first.windows(1_000_000).any(|part| part == pattern(1_000_000)));
        } else {
            drop(reader);
        }
        eventually("it has captured all", || done.exists());
        // The harness has nobody to report the result to.
        block_on(process.status()).expect("it ends");
    }
}

/// That is a failure: the user could not see the output.
#[test]
fn shown_on_a_full_disk() {
    const VARIABLE: &str = "REAPED_TEST_SHOWN_ON_A_FULL_DISK";
    if let Some(done) = std::env::var_os(VARIABLE) {
        for script in ["out:10", "out:1000000"] {
            let error =
                block_on(helper(&[script]).stderr(Stdio::tee_inherit()).stdout(Stdio::same_as(2)).output());
            let error = error.expect_err("no room");
            assert!(
                matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(libc::ENOSPC)),
                "{error}"
            );
        }
        std::fs::write(done, "done").expect("a file");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let done = folder.path().join("done");
    let mut again = Command::new(std::env::current_exe().expect("this binary"));
    again.args(["kept::shown_on_a_full_disk", "--exact", "--nocapture"]).env(VARIABLE, &done);
    again.stderr(std::fs::File::options().write(true).open("/dev/full").expect("a device"));
    let output = block_on(again.output()).expect("runs");
    assert!(done.exists(), "{}", output.stdout_lossy());
}

#[test]
fn shown_on_one_and_two_only() {
    for fd in [0, 3] {
        let error = block_on(Command::new("true").fd(fd, Stdio::tee_inherit()).run()).expect_err("no");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::Descriptor, .. }), "{error}");
    }
}

#[test]
fn copied_and_not_kept() {
    everywhere(|| async {
        let copy = Arc::new(Mutex::new(Vec::new()));
        let to = |copy: &Arc<Mutex<Vec<u8>>>| Stdio::writer(AllowStdIo::new(Shared(copy.clone())));
        let mut command = helper(&["out:300000", "err:5"]);
        let output = command.stdout(to(&copy)).output().await.expect("runs");
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 5));
        assert_eq!([output.fd(1), output.fd(2)], [None, Some(&pattern(5)[..])], "not kept is not empty");
        assert_eq!(std::mem::take(&mut *copy.lock().expect("no panic")), pattern(300_000));
        assert!(matches!(
            command.output().await.expect_err("used up"),
            Error::Invalid { reason: InvalidReason::ReaderUsed, .. }
        ));
        let mut process = helper(&["out:300000"]).stdout(to(&copy)).spawn().expect("starts");
        while let Some(event) = process.next().await {
            assert!(!matches!(event, Event::Data { .. }), "it is not told either: {event:?}");
        }
        assert_eq!(*copy.lock().expect("no panic"), pattern(300_000));
        let error =
            helper(&["out:300000"]).stdout(to(&copy)).limit(1000).output().await.expect_err("too much");
        assert!(matches!(error, Error::OutputLimit(_)), "{error}");
    });
}

#[test]
fn a_pipe_goes_on_to_another_child() {
    everywhere(|| async {
        // The pipe is blocking again; otherwise cat would fail.
        let mut first = sh("sleep 0.2; echo slow; exec helper-that-is-missing 2>&-").spawn().expect("starts");
        let reader = first.reader(1).expect("an output");
        let held = rustix::io::ioctl_fionread(&reader).expect("a pipe");
        assert_eq!(held, 0, "nothing yet");
        let said = Command::new("cat").stdin(Stdio::from(reader)).read();
        let (said, status) = join!(said, first.status());
        assert_eq!((said.expect("runs"), status.expect("runs").code()), ("slow".to_owned(), Some(127)));

        let mut last = Command::new("wc").arg("-c").spawn().expect("starts");
        let writer = last.writer(0).expect("an input");
        let mut source = helper(&["out:300000"]);
        source.stdout(Stdio::from(writer)).run().await.expect("runs");
        drop(source); // The command owns the pipe too, as with std.
        assert_eq!(last.output().await.expect("runs").stdout.trim_ascii(), b"300000");

        // Bytes that were written before come first.
        let mut last = Command::new("cat").spawn().expect("starts");
        let mut writer = last.writer(0).expect("an input");
        writer.write_all(b"head ").await.expect("room");
        Command::new("echo").arg("body").stdout(Stdio::from(writer)).run().await.expect("runs");
        assert_eq!(last.output().await.expect("runs").stdout, b"head body\n");
    });
}

/// A grandchild has the pipe, so nothing else would wake the task.
#[test]
fn a_task_is_woken_if_a_pipe_is_passed_on() {
    let mut process =
        sh("exec 3<&0; sleep 3 <&3 3<&- >/dev/null 2>&1 & exec 3<&-; echo hi").spawn().expect("starts");
    let writer = process.writer(0).expect("an input");
    let handing_on = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        Stdio::from(writer)
    });
    assert_eq!(block_on(at_last(process.output())).expect("ends").stdout, b"hi\n");
    handing_on.join().expect("no panic");
}

#[test]
fn a_pipe_that_cannot_go_on() {
    let refused = |stdio: Stdio, why: &str| {
        let error = block_on(Command::new("cat").stdin(stdio).run()).expect_err("refused");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::PipeInUse, .. }), "{error}");
        assert!(error.to_string().ends_with(why), "{error}");
    };
    // Lines that the caller has not taken yet.
    let mut process = Command::new("printf").arg(r"one\ntwo\n").spawn().expect("starts");
    assert_eq!(block_on(process.lines().next()).expect("a line").text, "one");
    let reader = process.reader(1).expect("an output");
    refused(reader.into(), "bytes were read ahead from it");
    let mut process =
        Command::new("echo").arg("hi").stdout(Stdio::tee(futures::io::sink())).spawn().expect("starts");
    refused(process.reader(1).expect("an output").into(), "what it gives is copied");
    let mut process = Command::new("cat").pty(PtySize::default()).spawn().expect("starts");
    refused(process.reader(1).expect("an output").into(), "it is a terminal");
    let mut process = Command::new("cat").pty(PtySize::default()).spawn().expect("starts");
    refused(process.writer(0).expect("an input").into(), "it is a terminal");
    let mut process = Command::new("cat").spawn().expect("starts");
    let mut writer = process.writer(0).expect("an input");
    block_on(writer.close()).expect("closes");
    refused(writer.into(), "it is closed");
}

/// A place to write to.
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
