//! Many children at once on Windows: no thread waits for a pipe, and nothing is left of those that were given up.
//!
//! `REAPED_TEST_CHILDREN` is the number of children, where a test says so; a thousand take a minute or more under Wine,
//! and some gigabytes.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::join_all;
use futures::io::AsyncWriteExt;
use reaped::{Output, Promise, Stdio};

use super::helper::pattern;
use super::support::{Never, alone, eventually, everywhere, helper};

/// Under Wine a child takes a while to start.
const PROMPT: Duration = Duration::from_secs(20);

fn children() -> usize {
    let number = std::env::var("REAPED_TEST_CHILDREN");
    number.map_or(24, |number| number.parse().expect("a number"))
}

/// In this process. No other test may run in it.
fn with_two_threads_to_block() {
    unsafe { std::env::set_var("BLOCKING_MAX_THREADS", "2") };
}

/// The threads of this process.
fn threads() -> usize {
    use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };
    let list = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    assert_ne!(list, INVALID_HANDLE_VALUE);
    let mut thread = THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..THREADENTRY32::default() };
    let mut count = 0;
    let mut there = unsafe { Thread32First(list, &mut thread) };
    while there != 0 {
        count += usize::from(thread.th32OwnerProcessID == std::process::id());
        there = unsafe { Thread32Next(list, &mut thread) };
    }
    unsafe { CloseHandle(list) };
    assert!(count > 0, "this thread at least");
    count
}

/// The open handles of this process. Each number is tried, because GetProcessHandleCount is always 0 under Wine.
fn handles() -> usize {
    use windows_sys::Win32::Foundation::GetHandleInformation;
    let is_open = |number: &usize| unsafe {
        GetHandleInformation(std::ptr::without_provenance_mut(*number), &mut 0) != 0
    };
    let count = (4..20_000).step_by(4).filter(is_open).count();
    assert!(count > 0, "those of the reactor at least");
    count
}

fn poll_once<T>(promise: &mut Promise<T>) -> Poll<Result<T, reaped::Error>>
where
    Promise<T>: Future<Output = Result<T, reaped::Error>> + Unpin,
{
    pin!(promise).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn one_child_is_fed_and_captured_with_two_threads_to_block() {
    alone("windows_many::one_child_is_fed_and_captured_with_two_threads_to_block", || {
        with_two_threads_to_block();
        everywhere(|| async {
            let mut copy = helper(&["err:200000", "copy:0:1", "err:200000"]);
            let output = copy.stdin(Stdio::bytes(pattern(1_000_000))).output().await.expect("a value");
            assert!(output.stdout == pattern(1_000_000));
            assert_eq!(output.stderr.len(), 400_000);
        });
    });
}

/// Each waits in three pipes. A new call, and other code that blocks, do not wait for them.
#[test]
fn silent_children_hold_no_thread() {
    alone("windows_many::silent_children_hold_no_thread", || {
        with_two_threads_to_block();
        let hello = || block_on(helper(&["say:1:hello"]).read()).expect("text");
        // What is started once is there after this.
        assert_eq!(hello(), "hello");
        let before = threads();
        let mut silent: Vec<Promise<Output>> =
            (0..children()).map(|_| helper(&["sleep:600000"]).stdin(Stdio::reader(Never)).output()).collect();
        for promise in &mut silent {
            assert!(poll_once(promise).is_pending());
        }
        let with_children = threads();
        println!("threads: {before}, and {with_children} with {} children", silent.len());
        assert!(with_children < before + silent.len() / 2, "{with_children}");

        let start = Instant::now();
        assert_eq!(hello(), "hello");
        assert!(block_on(smol::unblock(|| true)));
        println!("a new child took {:?}", start.elapsed());
        assert!(start.elapsed() < PROMPT, "it waited for the silent ones");
        for promise in &mut silent {
            assert!(poll_once(promise).is_pending(), "it was silent for ten minutes");
        }
    });
}

/// Writes do not queue up behind reads.
#[test]
fn many_children_are_fed_and_captured_at_once() {
    alone("windows_many::many_children_are_fed_and_captured_at_once", || {
        with_two_threads_to_block();
        let (fed, start) = (pattern(100_000), Instant::now());
        let all = join_all((0..children()).map(|_| {
            let mut copy = helper(&["copy:0:1"]);
            copy.stdin(Stdio::bytes(fed.clone())).read_bytes()
        }));
        for copied in block_on(all) {
            assert!(copied.expect("bytes") == fed);
        }
        println!("{} children, {} threads, {:?}", children(), threads(), start.elapsed());
    });
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The system cancels what a thread has left undone, unless it is told otherwise.
#[test]
fn each_poll_may_come_from_a_thread_that_ends() {
    let mut copy = helper(&["sleep:100", "copy:0:1"]);
    let mut promise = copy.stdin(Stdio::bytes(pattern(1_000_000))).output();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let output = loop {
        let waker = waker.clone();
        let polled = thread::spawn(move || {
            let polled = pin!(&mut promise).poll(&mut Context::from_waker(&waker));
            (polled, promise)
        });
        let (polled, back) = polled.join().expect("no panic");
        promise = back;
        match polled {
            Poll::Ready(output) => break output.expect("a value"),
            Poll::Pending => thread::park_timeout(PROMPT),
        }
    };
    assert!(output.stdout == pattern(1_000_000));
}

/// The second chunk does not fit into the pipe when its writer is dropped.
#[test]
fn accepted_bytes_come_before_the_end_of_file() {
    everywhere(|| async {
        let mut process = helper(&["sleep:200", "copy:0:1"]).spawn().expect("starts");
        let mut writer = process.writer(0).expect("an input");
        let (sent, mut accepted) = (pattern(200_000), 0);
        for _ in 0..2 {
            accepted += writer.write(&sent[accepted..]).await.expect("it is read");
        }
        drop(writer);
        assert!(accepted > 64 * 1024, "{accepted}");
        assert!(process.output().await.expect("a value").stdout == sent[..accepted]);

        let secret = String::from_utf8(vec![b's'; 200_000]).expect("UTF-8");
        let mut command = helper(&["sleep:200", "copy:0:1"]);
        assert_eq!(command.stdin(Stdio::secret(secret.clone())).read().await.expect("text"), secret);
    });
}

/// At any moment, whatever the pipes wait for.
#[test]
fn what_is_dropped_leaves_no_handle_and_no_thread() {
    alone("windows_many::what_is_dropped_leaves_no_handle_and_no_thread", || {
        let drop_all = || {
            for steps in [&["sleep:600000"][..], &["out:1000000"], &["copy:0:1"], &["exit:0"]] {
                for polls in 0..4 {
                    let mut promise = helper(steps).stdin(Stdio::bytes(pattern(1_000_000))).output();
                    for _ in 0..polls {
                        if poll_once(&mut promise).is_ready() {
                            break;
                        }
                        thread::sleep(Duration::from_millis(20));
                    }
                }
                let mut process = helper(steps).stdin(Stdio::piped()).spawn().expect("starts");
                let (writer, reader) = (process.writer(0), process.reader(1));
                drop((process, writer, reader));
            }
        };
        // What is made once is there after this.
        drop_all();
        let settled = || {
            let mut last = 0;
            eventually("it is quiet", || {
                thread::sleep(Duration::from_millis(300));
                std::mem::replace(&mut last, handles()) == handles()
            });
            (handles(), threads())
        };
        let before = settled();
        let running = helper(&["sleep:600000"]).output();
        assert!(handles() > before.0, "what a child has is not counted");
        drop(running);
        drop_all();
        println!("handles and threads: {before:?}, and then {:?}", settled());
        // A thread of the system's pool may have been started, and has some handles.
        eventually("nothing is left", || handles() < before.0 + 10 && threads() < before.1 + 3);
    });
}
