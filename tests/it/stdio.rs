//! Every row of the table of `Stdio`, on every executor.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use futures::io::{AsyncRead, AsyncReadExt};
use reaped::{Command, Error, InvalidReason, Stdio};

use super::helper::pattern;
use super::support::{Never, alone, everywhere, helper, sh};

fn file_with(text: &str) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file.rewind().expect("rewound");
    file
}

fn pipe() -> (File, File) {
    let (reader, writer) = super::support::pipe();
    (reader.into(), writer.into())
}

#[test]
fn null_reads_nothing_and_swallows_all() {
    everywhere(|| async {
        let output = helper(&["copy:0:1", "out:100000", "fill:5:10", "copy:5:1"])
            .stdin(Stdio::null())
            .fd(5, Stdio::null())
            .output()
            .await
            .expect("runs");
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 100_000);
        assert_eq!(output.fd(5), None, "not captured");
    });
}

#[test]
fn parent_fd_is_lent_on_any_number() {
    everywhere(|| async {
        let file = file_with("lent");
        let number = file.as_raw_fd();
        let mut command = helper(&["copy:9:1"]);
        command.fd(9, Stdio::parent_fd(&file));
        assert_eq!(command.read().await.expect("runs"), "lent");
        drop(command);
        assert!(rustix::io::fcntl_getfd(&file).is_ok(), "still open");
        assert_eq!(file.as_raw_fd(), number);
    });
}

#[test]
fn given_files_and_descriptors() {
    everywhere(|| async {
        assert_eq!(Command::new("cat").stdin(file_with("file")).read().await.expect("runs"), "file");
        let owned = OwnedFd::from(file_with("owned"));
        assert_eq!(helper(&["copy:7:1"]).fd(7, owned).read().await.expect("runs"), "owned");
        let (mut reader, writer) = pipe();
        sh("echo into the pipe").stdout(writer).run().await.expect("runs");
        let mut said = String::new();
        reader.read_to_string(&mut said).expect("the given end was closed with the command");
        assert_eq!(said, "into the pipe\n");
    });
}

#[test]
fn ends_of_stds_own_children() {
    everywhere(|| async {
        let mut echo = std::process::Command::new("sh")
            .args(["-c", "echo from std; echo err >&2"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = echo.stdout.take().expect("piped");
        let stderr = echo.stderr.take().expect("piped");
        assert_eq!(Command::new("cat").stdin(stdout).read().await.expect("runs"), "from std");
        assert_eq!(Command::new("cat").stdin(stderr).read().await.expect("runs"), "err");
        echo.wait().expect("reaped");
        let mut cat = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let stdin = cat.stdin.take().expect("piped");
        sh("echo to std").stdout(stdin).run().await.expect("runs");
        let output = cat.wait_with_output().expect("its input was closed");
        assert_eq!(output.stdout, b"to std\n");
    });
}

#[test]
fn output_on_many_numbers() {
    everywhere(|| async {
        let output = helper(&["say:3:three", "say:200:two hundred", "say:0:zero"])
            .stdin(Stdio::output())
            .fd(3, Stdio::output())
            .fd(200, Stdio::output())
            .fd(4, Stdio::output())
            .output()
            .await
            .expect("runs");
        assert_eq!(output.fd(0), Some(&b"zero\n"[..]));
        assert_eq!(output.fd(3), Some(&b"three\n"[..]));
        assert_eq!(output.fd(4), Some(&b""[..]), "captured, and nothing said");
        assert_eq!(output.into_fd(200), Some(b"two hundred\n".to_vec()));
    });
}

#[test]
fn bytes_and_secret_on_any_number() {
    everywhere(|| async {
        let mut command = helper(&["copy:0:1", "copy:3:1", "copy:12:1", "copy:5:1"]);
        command
            .stdin(Stdio::bytes("zero,"))
            .fd(3, Stdio::secret("three,"))
            .fd(12, Stdio::bytes(vec![b'x'; 3]))
            .fd(5, Stdio::bytes(""));
        let shown = format!("{command:?}");
        assert!(!shown.contains("three") && !shown.contains("zero,"), "{shown}");
        assert_eq!(command.read().await.expect("runs"), "zero,three,xxx");
        assert_eq!(command.read().await.expect("runs again"), "zero,three,xxx");
    });
}

#[test]
fn piped_is_captured_and_an_empty_stdin() {
    everywhere(|| async {
        let output = sh("cat; echo out; echo err >&2; echo three >&3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .fd(3, Stdio::piped())
            .run()
            .await;
        output.expect("succeeds");
        let output = sh("cat; echo three >&3").stdin(Stdio::piped()).fd(3, Stdio::piped()).output().await;
        assert_eq!(output.expect("runs").fd(3), Some(&b"three\n"[..]));
    });
}

#[test]
fn same_as_keeps_the_order_of_writes() {
    everywhere(|| async {
        let output = helper(&["say:1:a", "say:2:b", "say:9:c", "say:1:d"])
            .stderr(Stdio::same_as(1))
            .fd(9, Stdio::same_as(2))
            .output()
            .await
            .expect("runs");
        assert_eq!(output.stdout, b"a\nb\nc\nd\n");
        assert_eq!((output.fd(2), output.fd(9)), (None, None));
        // The other way round, to a descriptor that is set later, and to a fed descriptor.
        let output = helper(&["say:1:a", "say:2:b", "copy:4:2"])
            .stdout(Stdio::same_as(2))
            .fd(4, Stdio::same_as(0))
            .stdin(Stdio::bytes("fed"))
            .output()
            .await
            .expect("runs");
        assert_eq!(output.stderr, b"a\nb\nfed");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let lent = Stdio::parent_fd(file.as_file());
        helper(&["say:1:a", "say:2:b"]).stdout(lent).stderr(Stdio::same_as(1)).run().await.expect("runs");
        assert_eq!(std::fs::read_to_string(file.path()).expect("text"), "a\nb\n");
    });
}

#[test]
fn closed_is_closed() {
    everywhere(|| async {
        let output =
            helper(&["fds"]).stdin(Stdio::closed()).stderr(Stdio::closed()).output().await.expect("runs");
        assert_eq!(output.stdout, b"1\n");
    });
}

/// If 0 to 2 are closed, Rust's start-up opens them. So only a child whose parent closed them later shows
/// that they are missing.
#[test]
fn inherit_takes_the_same_number() {
    alone("stdio::inherit_takes_the_same_number", || {
        let file = file_with("inherited");
        // SAFETY: in a process of its own, in which nothing else has the number.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), 77) }, 77);
        unsafe { libc::fcntl(77, libc::F_SETFD, libc::FD_CLOEXEC) };
        futures::executor::block_on(async {
            let mut command = helper(&["copy:77:1", "fds"]);
            command.fd(77, Stdio::inherit());
            assert_eq!(command.read().await.expect("runs"), "inherited0\n1\n2\n77");
            let error = helper(&[]).fd(78, Stdio::inherit()).run().await.expect_err("not open");
            assert!(matches!(error, Error::Invalid { reason: InvalidReason::Descriptor, .. }), "{error}");
            unsafe { libc::close(0) };
            assert_eq!(helper(&["fds"]).stdin(Stdio::inherit()).read().await.expect("runs"), "1\n2");
        });
    });
}

#[test]
fn inherit_fds_gives_what_is_not_close_on_exec() {
    alone("stdio::inherit_fds_gives_what_is_not_close_on_exec", || {
        let open = file_with("open");
        // The descriptors that this test inherited.
        for number in 3..1000 {
            if number != open.as_raw_fd() {
                unsafe { libc::close(number) };
            }
        }
        for number in [50, 51] {
            assert_eq!(unsafe { libc::dup2(open.as_raw_fd(), number) }, number);
        }
        futures::executor::block_on(async {
            assert_eq!(helper(&["fds"]).read().await.expect("runs"), "0\n1\n2");
            let mut command = helper(&["fds"]);
            command.inherit_fds(true);
            assert_eq!(command.read().await.expect("runs"), "0\n1\n2\n50\n51");
            command.fd(51, Stdio::closed()).fd(3, Stdio::bytes("x")).fd(50, Stdio::output());
            let output = command.output().await.expect("runs");
            assert_eq!(output.stdout, b"0\n1\n2\n3\n50\n");
            assert_eq!(output.fd(50), Some(&b""[..]), "the pipe, not the file");
        });
    });
}

/// A reader that is pending every other time, and gives pieces of odd sizes.
struct Stutter {
    left: Vec<u8>,
    ready: bool,
}

impl AsyncRead for Stutter {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        let count = self.left.len().min(buffer.len()).min(7919);
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        std::task::Poll::Ready(Ok(count))
    }
}

#[test]
fn reader_is_streamed_on_any_number() {
    everywhere(|| async {
        let data = pattern(300_000);
        for number in [0, 6] {
            let reader = Stutter { left: data.clone(), ready: false };
            let read =
                helper(&[&format!("copy:{number}:1")]).fd(number, Stdio::reader(reader)).read_bytes().await;
            assert!(read.expect("runs") == data, "through descriptor {number}");
        }
    });
}

#[test]
fn a_reader_serves_one_run() {
    everywhere(|| async {
        let mut command = Command::new("cat");
        command.stdin(Stdio::reader(futures::io::Cursor::new("once")));
        assert_eq!(command.read().await.expect("first"), "once");
        let error = command.read().await.expect_err("second");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::ReaderUsed, .. }), "{error}");
    });
}

#[test]
fn a_reader_or_a_tee_serves_one_descriptor() {
    everywhere(|| async {
        let reader = Stdio::reader(futures::io::Cursor::new("once"));
        let tee = Stdio::tee(futures::io::sink());
        let mut fed = Command::new("cat");
        fed.stdin(reader.clone()).fd(3, reader);
        let mut copied = Command::new("true");
        copied.stdout(tee.clone()).stderr(tee);
        for command in [&mut fed, &mut copied] {
            let error = command.output().await.expect_err("two want it");
            assert!(matches!(error, Error::Invalid { reason: InvalidReason::Conflict, .. }), "{error}");
        }
    });
}

/// std accepts these too.
#[test]
fn the_parents_own_by_name() {
    let mut command = helper(&["links:7"]);
    command.stdout(std::io::stderr()).stderr(std::io::stdout()).fd(7, Stdio::output());
    let said = futures::executor::block_on(command.output()).expect("runs");
    let said = String::from_utf8_lossy(said.fd(7).expect("captured")).into_owned();
    for (number, ours) in [(1, 2), (2, 1)] {
        let name = std::fs::read_link(format!("/dev/fd/{ours}")).expect("open");
        assert!(said.lines().any(|line| line == format!("{number} {}", name.display())), "{said}");
    }
}

#[test]
fn a_failed_start_does_not_cost_the_reader() {
    everywhere(|| async {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = dir.path().join("later");
        let mut command = Command::new("cat");
        command.stdin(Stdio::reader(futures::io::Cursor::new("kept"))).current_dir(&missing);
        command.read().await.expect_err("no such folder");
        std::fs::create_dir(&missing).expect("made");
        assert_eq!(command.read().await.expect("now it runs"), "kept");
    });
}

struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Err(std::io::Error::other("the line is dead")))
    }
}

#[test]
fn a_failing_reader_kills_the_child_and_keeps_what_it_said() {
    everywhere(|| async {
        let reader = futures::io::Cursor::new("half\n").chain(Broken);
        let error = sh("read -r line; echo got $line; cat >/dev/null; echo all; sleep 100")
            .stdin(Stdio::reader(reader))
            .output()
            .await
            .expect_err("a part is not the whole");
        assert!(matches!(error, Error::Io { .. }));
        assert!(error.to_string().ends_with("failed on descriptor 0: the line is dead"), "{error}");
        let said = &error.output().expect("it ran").stdout;
        assert!(said.is_empty() || said == b"got half\n", "{said:?}");
    });
}

/// A reader that never has anything must not delay the end of a child that does not read.
#[test]
fn an_idle_reader_does_not_outlive_the_child() {
    everywhere(|| async {
        assert_eq!(sh("echo done").stdin(Stdio::reader(Never)).read().await.expect("ends"), "done");
    });
}

#[test]
fn backpressure_a_reader_is_read_no_faster_than_the_child_takes_it() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Counting(Arc<AtomicUsize>);
    impl AsyncRead for Counting {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            self.0.fetch_add(buffer.len(), Ordering::Relaxed);
            std::task::Poll::Ready(Ok(buffer.len()))
        }
    }
    everywhere(|| async {
        let taken = Arc::new(AtomicUsize::new(0));
        // It takes one byte of an endless stream, and closes its end.
        sh("head -c 1 >/dev/null").stdin(Stdio::reader(Counting(taken.clone()))).run().await.expect("runs");
        assert!(
            taken.load(Ordering::Relaxed) < 1 << 20,
            "{} bytes were read ahead",
            taken.load(Ordering::Relaxed)
        );
    });
}
