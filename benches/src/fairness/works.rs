//! The works of each contestant. Each starts its child at the call, before the first poll.

use std::any::Any;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncBufReadExt, AsyncReadExt, FutureExt, StreamExt};

use crate::Scale;
use crate::child::program;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Reaped,
    AsyncProcess,
    Tokio,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Reaped => "reaped",
            Who::AsyncProcess => "async-process",
            Who::Tokio => "tokio",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        [Who::Reaped, Who::AsyncProcess, Who::Tokio].into_iter().find(|who| who.name() == name)
    }
}

/// The source, and what the parent does with it. `zero` writes 64 KiB at a time, and `yes` writes as yes(1)
/// does.
pub const WORKS: [&str; 13] = [
    "zero-output",
    "zero-status",
    "zero-events",
    "zero-reader",
    "yes-output",
    "yes-events",
    "yes-lines",
    "yes-reader",
    "trickle",
    "descriptors",
    "children",
    "tee",
    "source",
];

/// Whether the contestant can do the work. If a peer has no events and cannot discard output, it reads in a
/// loop.
pub fn can(who: Who, work: &str) -> bool {
    who == Who::Reaped || work != "descriptors"
}

/// The result of a work. It is dropped after the measurement.
pub struct Seen {
    counted: usize,
    expected: usize,
    _kept: Box<dyn Any + Send>,
}

impl Seen {
    pub fn nothing() -> Self {
        seen(0, 0, ())
    }

    pub fn check(self) {
        assert_eq!(self.counted, self.expected, "bytes");
    }
}

fn seen(counted: usize, expected: usize, kept: impl Any + Send) -> Seen {
    Seen { counted, expected, _kept: Box::new(kept) }
}

const BUFFER: usize = 64 * 1024;
const DESCRIPTORS: usize = 200;
fn arguments(words: &[&str], numbers: &[usize]) -> Vec<OsString> {
    let words = ["--child"].iter().chain(words).map(OsString::from);
    words.chain(numbers.iter().map(|number| number.to_string().into())).collect()
}

pub fn start(work: &str, who: Who, scale: Scale) -> Vec<BoxFuture<'static, Seen>> {
    let much = scale.pick(16 << 20, 300_001);
    // async-process takes seconds to collect as much as the others.
    let collected = if who == Who::AsyncProcess { much } else { scale.pick(192 << 20, much) };
    let zero = |total| (arguments(&["out"], &[total, BUFFER]), total);
    let yes = |total| (arguments(&["yes"], &[total]), total);
    let one = match work {
        "zero-output" => output(who, zero(collected)),
        "yes-output" => output(who, yes(collected)),
        "zero-status" if who == Who::Reaped => status(zero(much)),
        "zero-events" if who == Who::Reaped => events(zero(much)),
        "yes-events" if who == Who::Reaped => events(yes(much)),
        "zero-status" | "zero-events" | "zero-reader" => read(who, zero(much)),
        "yes-events" | "yes-reader" => read(who, yes(much)),
        "yes-lines" => lines(who, yes(scale.pick(4 << 20, 20_002))),
        "trickle" => {
            let count = scale.pick(50, 3);
            output(who, (arguments(&["trickle"], &[count, 2]), count * BUFFER))
        }
        "descriptors" => descriptors(scale.pick(384 * 1024, 100_000)),
        "children" => {
            let (count, total) = (scale.pick(60, 5), scale.pick(256 * 1024, 100_000));
            return (0..count).map(|_| output(who, zero(total))).collect();
        }
        "tee" => tee(who, zero(scale.pick(768 << 10, 100_001))),
        "source" => source(who, scale.pick(16 << 20, 300_001)),
        unknown => panic!("there is no work of the name {unknown}"),
    };
    vec![one]
}

type Source = (Vec<OsString>, usize);

fn reaped(arguments: Vec<OsString>) -> reaped::Command {
    let mut command = reaped::Command::new(program());
    command.args(arguments).stdin(reaped::Stdio::null());
    command
}

fn async_process(arguments: Vec<OsString>) -> async_process::Command {
    let mut command = async_process::Command::new(program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn tokio(arguments: Vec<OsString>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// For async-process and tokio, which return std's `Output`.
async fn collected(
    output: impl Future<Output = io::Result<std::process::Output>> + Send,
    expected: usize,
) -> Seen {
    let output = output.await.expect("a child");
    assert!(output.status.success());
    seen(output.stdout.len(), expected, output)
}

fn output(who: Who, (arguments, expected): Source) -> BoxFuture<'static, Seen> {
    match who {
        Who::Reaped => {
            let promise = reaped(arguments).output();
            async move {
                let output = promise.await.expect("a child");
                assert!(output.status.success());
                seen(output.stdout.len(), expected, output)
            }
            .boxed()
        }
        Who::AsyncProcess => collected(async_process(arguments).output(), expected).boxed(),
        Who::Tokio => collected(tokio(arguments).output(), expected).boxed(),
    }
}

/// A child that could write all of it exits with success.
fn status((arguments, expected): Source) -> BoxFuture<'static, Seen> {
    let promise = reaped(arguments).spawn().expect("a child").status();
    async move {
        assert!(promise.await.expect("a status").success());
        seen(expected, expected, ())
    }
    .boxed()
}

fn events((arguments, expected): Source) -> BoxFuture<'static, Seen> {
    let mut process = reaped(arguments).spawn().expect("a child");
    async move {
        let mut count = 0;
        while let Some(event) = process.next().await {
            match event {
                reaped::Event::Data { data, .. } => count += data.len(),
                reaped::Event::Ended(status) => assert!(status.success()),
                _ => {}
            }
        }
        seen(count, expected, ())
    }
    .boxed()
}

fn read(who: Who, (arguments, expected): Source) -> BoxFuture<'static, Seen> {
    let (mut buffer, mut count) = (vec![0; BUFFER], 0);
    match who {
        Who::Reaped => {
            let mut process = reaped(arguments).spawn().expect("a child");
            let mut reader = process.reader(1).expect("a pipe");
            async move {
                loop {
                    match reader.read(&mut buffer).await.expect("bytes") {
                        0 => break,
                        some => count += some,
                    }
                }
                assert!(process.status().await.expect("a status").success());
                seen(count, expected, ())
            }
            .boxed()
        }
        Who::AsyncProcess => {
            let mut child = async_process(arguments).spawn().expect("a child");
            let mut reader = child.stdout.take().expect("a pipe");
            async move {
                loop {
                    match reader.read(&mut buffer).await.expect("bytes") {
                        0 => break,
                        some => count += some,
                    }
                }
                assert!(child.status().await.expect("a status").success());
                seen(count, expected, ())
            }
            .boxed()
        }
        Who::Tokio => {
            let mut child = tokio(arguments).spawn().expect("a child");
            let mut reader = child.stdout.take().expect("a pipe");
            async move {
                loop {
                    match tokio::io::AsyncReadExt::read(&mut reader, &mut buffer).await.expect("bytes") {
                        0 => break,
                        some => count += some,
                    }
                }
                assert!(child.wait().await.expect("a status").success());
                seen(count, expected, ())
            }
            .boxed()
        }
    }
}

/// Each line comes without its end.
fn lines(who: Who, (arguments, expected): Source) -> BoxFuture<'static, Seen> {
    let mut count = 0;
    match who {
        Who::Reaped => {
            let mut process = reaped(arguments).spawn().expect("a child");
            async move {
                let mut lines = process.lines();
                while let Some(line) = lines.next().await {
                    count += line.text.len() + 1;
                }
                assert!(process.status().await.expect("a status").success());
                seen(count, expected, ())
            }
            .boxed()
        }
        Who::AsyncProcess => {
            let mut child = async_process(arguments).spawn().expect("a child");
            let mut lines = futures::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
            async move {
                while let Some(line) = lines.next().await {
                    count += line.expect("a line").len() + 1;
                }
                assert!(child.status().await.expect("a status").success());
                seen(count, expected, ())
            }
            .boxed()
        }
        Who::Tokio => {
            let mut child = tokio(arguments).spawn().expect("a child");
            let stdout = tokio::io::BufReader::new(child.stdout.take().expect("a pipe"));
            let mut lines = tokio::io::AsyncBufReadExt::lines(stdout);
            async move {
                while let Some(line) = lines.next_line().await.expect("a line") {
                    count += line.len() + 1;
                }
                assert!(child.wait().await.expect("a status").success());
                seen(count, expected, ())
            }
            .boxed()
        }
    }
}

/// One child with many pipes. It writes to each in turn.
fn descriptors(each: usize) -> BoxFuture<'static, Seen> {
    let fds = 3..3 + DESCRIPTORS as i32;
    let mut command = reaped(arguments(&["spread"], &[DESCRIPTORS, each]));
    for fd in fds.clone() {
        command.fd(fd, reaped::Stdio::output());
    }
    let promise = command.output();
    async move {
        let output = promise.await.expect("a child");
        assert!(output.status.success());
        let counted = fds.map(|fd| output.fd(fd).map_or(0, <[u8]>::len)).sum();
        seen(counted, DESCRIPTORS * each, output)
    }
    .boxed()
}

/// Takes one byte at each call, and is always ready.
struct OneByte(Arc<AtomicUsize>);

impl OneByte {
    fn take(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(1);
        self.0.fetch_add(count, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }
}

impl futures::AsyncWrite for OneByte {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for OneByte {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The child's output goes through a writer that takes one byte at each call.
fn tee(who: Who, (arguments, expected): Source) -> BoxFuture<'static, Seen> {
    let taken = Arc::<AtomicUsize>::default();
    let mut writer = OneByte(taken.clone());
    match who {
        Who::Reaped => {
            let promise = reaped(arguments).stdout(reaped::Stdio::tee(writer)).output();
            async move {
                let output = promise.await.expect("a child");
                assert!(output.status.success() && output.stdout.len() == expected);
                seen(taken.load(Ordering::Relaxed), expected, output)
            }
            .boxed()
        }
        Who::AsyncProcess => {
            let mut child = async_process(arguments).spawn().expect("a child");
            let stdout = child.stdout.take().expect("a pipe");
            async move {
                futures::io::copy(stdout, &mut writer).await.expect("bytes");
                assert!(child.status().await.expect("a status").success());
                seen(taken.load(Ordering::Relaxed), expected, ())
            }
            .boxed()
        }
        Who::Tokio => {
            let mut child = tokio(arguments).spawn().expect("a child");
            let mut stdout = child.stdout.take().expect("a pipe");
            async move {
                tokio::io::copy(&mut stdout, &mut writer).await.expect("bytes");
                assert!(child.wait().await.expect("a status").success());
                seen(taken.load(Ordering::Relaxed), expected, ())
            }
            .boxed()
        }
    }
}

/// The child reads a source that always has more, and prints how much it was.
fn source(who: Who, expected: usize) -> BoxFuture<'static, Seen> {
    let arguments = arguments(&["take"], &[]);
    let number = |stdout: &[u8]| String::from_utf8_lossy(stdout).trim().parse().expect("a number");
    match who {
        Who::Reaped => {
            let bytes = futures::io::repeat(0).take(expected as u64);
            let promise = reaped(arguments).stdin(reaped::Stdio::reader(bytes)).output();
            async move { seen(number(&promise.await.expect("a child").stdout), expected, ()) }.boxed()
        }
        Who::AsyncProcess => {
            let mut child = async_process(arguments).stdin(Stdio::piped()).spawn().expect("a child");
            let mut stdin = child.stdin.take().expect("a pipe");
            let bytes = futures::io::repeat(0).take(expected as u64);
            async move {
                futures::io::copy(bytes, &mut stdin).await.expect("a child that reads");
                drop(stdin);
                seen(number(&child.output().await.expect("a child").stdout), expected, ())
            }
            .boxed()
        }
        Who::Tokio => {
            let mut child = tokio(arguments).stdin(Stdio::piped()).spawn().expect("a child");
            let mut stdin = child.stdin.take().expect("a pipe");
            let mut bytes = tokio::io::AsyncReadExt::take(tokio::io::repeat(0), expected as u64);
            async move {
                tokio::io::copy(&mut bytes, &mut stdin).await.expect("a child that reads");
                drop(stdin);
                seen(number(&child.wait_with_output().await.expect("a child").stdout), expected, ())
            }
            .boxed()
        }
    }
}
