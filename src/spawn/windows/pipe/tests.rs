//! Both ends of a pipe, in one process: what the parent waits for, and what is left when it gives up.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Counts how often it was woken. An operation holds one for as long as the system may write to it.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone())
    }

    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The limit is only there so that a failure ends.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn nothing_is_left(woken: &Arc<Woken>) {
    eventually("no operation is left", || Arc::strong_count(woken) == 1);
}

/// Not a multiple of anything.
fn bytes(count: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new((0..count).map(|place| (place % 251) as u8).collect())
}

fn out() -> (Pipe, File, Arc<Woken>) {
    let (pipe, childs) = Pipe::out_of_child().expect("a pipe");
    (pipe, childs.into(), Arc::default())
}

fn into() -> (Pipe, File, Arc<Woken>) {
    let (pipe, childs) = Pipe::into_child().expect("a pipe");
    (pipe, childs.into(), Arc::default())
}

/// Longer than the system takes to finish what it is going to finish.
fn a_while() {
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_wait_ends_when_something_comes_and_takes_nothing() {
    let (mut pipe, mut childs, woken) = out();
    let wait = pipe.wait(woken.waker()).expect("it starts");
    a_while();
    assert!(!wait.is_finished() && woken.times() == 0);
    assert_eq!(pipe.available().expect("open"), Some(0), "a question does not wait");
    childs.write_all(b"some").expect("open");
    eventually("it is woken", || woken.times() == 1);
    assert_eq!(wait.outcome().expect("finished").expect("no error"), 0);
    let mut all = b"and ".to_vec();
    assert_eq!((pipe.available().expect("open"), pipe.read(3, &mut all).expect("open")), (Some(4), 3));
    assert_eq!((pipe.read(100, &mut all).expect("open"), &all[..]), (1, &b"and some"[..]));

    // What is there ends a new wait, too.
    childs.write_all(b"more").expect("open");
    let wait = pipe.wait(woken.waker()).expect("it starts");
    eventually("it is finished", || wait.is_finished());
    // The end of file does so after the last bytes.
    drop(childs);
    assert_eq!(pipe.read(100, &mut all).expect("bytes"), 4);
    assert_eq!((pipe.available().expect("closed"), pipe.read(100, &mut all).expect("closed")), (None, 0));
    let late = pipe.wait(woken.waker());
    assert!(late.is_err_and(|error| is_broken(&error)));
}

#[test]
fn a_wait_ends_with_the_pipe() {
    let (pipe, childs, woken) = out();
    let wait = pipe.wait(woken.waker()).expect("it starts");
    drop(childs);
    eventually("it is woken", || woken.times() == 1);
    assert!(wait.outcome().expect("finished").is_err_and(|error| is_broken(&error)));
    assert_eq!(pipe.available().expect("closed"), None);
}

/// Windows reports no hang-up of a pipe that is only written to.
#[test]
fn the_end_that_writes_learns_that_no_process_reads() {
    let (pipe, childs, woken) = into();
    let wait = pipe.wait(woken.waker()).expect("it starts");
    let write = pipe.write(bytes(300_000), woken.waker()).expect("it starts");
    a_while();
    assert!(!wait.is_finished() && !write.is_finished());
    assert_eq!(pipe.available().expect("open"), Some(0));
    drop(childs);
    eventually("both are woken", || woken.times() == 2);
    assert_eq!(pipe.available().expect("closed"), None);
    for over in [wait, write] {
        assert!(over.outcome().expect("finished").is_err_and(|error| is_broken(&error)));
    }
    let late = pipe.write(bytes(1), woken.waker()).expect_err("no process reads");
    assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
    nothing_is_left(&woken);
}

#[test]
fn reading_waits_for_nothing() {
    let (mut pipe, mut childs, woken) = out();
    let (mut all, start) = (Vec::new(), Instant::now());
    for _ in 0..100 {
        assert_eq!(pipe.read(4096, &mut all).expect("open"), 0);
    }
    // A write of no bytes may end a wait. It must not end the next one. Wine ignores such a write.
    let wait = pipe.wait(woken.waker()).expect("it starts");
    assert_eq!(childs.write(b"").expect("open"), 0);
    a_while();
    drop(wait);
    assert_eq!((pipe.available().expect("open"), pipe.read(4096, &mut all).expect("open")), (Some(0), 0));
    let wait = pipe.wait(woken.waker()).expect("it starts");
    a_while();
    assert!(!wait.is_finished());
    childs.write_all(b"x").expect("open");
    eventually("it is finished", || wait.is_finished());
    assert_eq!(pipe.read(4096, &mut all).expect("open"), 1);
    assert!(start.elapsed() < Duration::from_secs(20), "it waited");
}

/// If an operation had an event, the system would cancel it when its thread exits.
#[test]
fn operations_outlive_the_thread_that_started_them() {
    let ((out, mut outs, woken), (into, mut ins, _)) = (out(), self::into());
    let started = thread::spawn(move || {
        let (wait, write) = (out.wait(woken.waker()), into.write(bytes(300_000), woken.waker()));
        (wait.expect("it starts"), write.expect("it starts"), out, into, woken)
    });
    let (wait, write, _out, into, woken) = started.join().expect("no panic");
    a_while();
    assert!(!wait.is_finished() && !write.is_finished());
    outs.write_all(b"x").expect("open");
    eventually("it is finished", || wait.is_finished());
    assert_eq!(wait.outcome().expect("finished").expect("not cancelled"), 0);
    let mut all = vec![0; 300_000];
    ins.read_exact(&mut all).expect("open");
    eventually("it is finished", || write.is_finished());
    assert_eq!(write.outcome().expect("finished").expect("not cancelled"), 300_000);
    assert!(all == *bytes(300_000) && woken.times() == 2);
    drop((write, into));
    assert_eq!(ins.read(&mut all).expect("an end of file"), 0);
}

#[test]
fn dropping_at_every_point_leaves_no_operation_behind() {
    for point in 0..4 {
        let (mut pipe, mut childs, woken) = out();
        let wait = pipe.wait(woken.waker()).expect("it starts");
        match point {
            0 => drop(wait),
            1 => {
                childs.write_all(b"x").expect("open");
                drop(wait);
            }
            2 => {
                childs.write_all(b"x").expect("open");
                eventually("it is finished", || wait.is_finished());
                drop(wait);
            }
            // The wait is dropped after the pipe.
            _ => {
                drop(pipe);
                drop(wait);
                nothing_is_left(&woken);
                assert!(childs.write_all(b"x").is_err(), "no process reads");
                continue;
            }
        }
        nothing_is_left(&woken);
        // No byte was lost by giving up.
        let mut all = Vec::new();
        assert_eq!(pipe.read(100, &mut all).expect("open"), usize::from(point > 0));
    }
}

/// As soon as the last byte is read, and not before.
#[test]
fn what_was_accepted_comes_before_the_end_of_file() {
    for count in [1, 60_000, 70_000, 300_000] {
        let (pipe, mut childs, woken) = into();
        let write = pipe.write(bytes(count), woken.waker()).expect("it starts");
        let wait = pipe.wait(woken.waker()).expect("it starts");
        drop((write, wait, pipe));
        let mut all = Vec::new();
        childs.read_to_end(&mut all).expect("an end of file");
        assert!(all == *bytes(count), "{} of {count} bytes", all.len());
        nothing_is_left(&woken);
        assert!(count < 100_000 || woken.times() == 0, "nobody waits any more");
    }
    // The child closes it first.
    let (pipe, childs, woken) = into();
    let write = pipe.write(bytes(300_000), woken.waker()).expect("it starts");
    drop((write, pipe));
    a_while();
    assert_eq!(Arc::strong_count(&woken), 2, "it is still being written");
    drop(childs);
    nothing_is_left(&woken);
}

/// The child's end is of the blocking kind.
#[test]
fn the_childs_end_waits() {
    let (pipe, mut childs, woken) = into();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        childs.read_to_end(&mut all).map(|_| all)
    });
    a_while();
    let write = pipe.write(bytes(5), woken.waker()).expect("it starts");
    eventually("it is finished", || write.is_finished());
    drop((write, pipe));
    assert_eq!(reader.join().expect("no panic").expect("read"), *bytes(5));

    let (mut pipe, mut childs, _) = out();
    let writer = thread::spawn(move || childs.write_all(&bytes(300_000)));
    let mut all = Vec::new();
    while let Some(count) = pipe.available().expect("open") {
        pipe.read(count.max(1), &mut all).expect("open");
    }
    writer.join().expect("no panic").expect("written");
    assert!(all == *bytes(300_000));
}
