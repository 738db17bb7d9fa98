//! Descriptor plans that collide in every way: the child gets exactly the descriptors that the command set.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reaped::{Error, InvalidReason, Stdio};

use super::support::{alone, helper, pipe};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// A file that contains its name, at a given number. Only in a process of its own.
fn place(number: i32, name: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().expect("a file");
    writeln!(file, "{name}").expect("written");
    // The file itself may have got that number.
    let file = rustix::io::fcntl_dupfd_cloexec(file, 400).expect("a number");
    // SAFETY: in a process of its own, where the caller keeps track of the numbers.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Exactly these numbers are open, and each reads the name of its file.
fn check(command: &mut reaped::Command, numbers: &[i32]) {
    let mut expected: Vec<i32> = numbers.iter().copied().chain([0, 1, 2]).collect();
    expected.sort_unstable();
    expected.dedup();
    let listed = block_on(command.read()).expect("runs");
    let listed: Vec<i32> = listed.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(listed, expected);
}

fn rewind(fd: impl AsFd) {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0)).expect("a file");
}

#[test]
fn swapped_descriptors() {
    alone("plans::swapped_descriptors", || {
        let (three, four) = (place(3, "three"), place(4, "four"));
        let mut command = helper(&["copy:3:1", "copy:4:1"]);
        command.fd(3, four.try_clone().expect("a copy")).fd(4, three.try_clone().expect("a copy"));
        rewind(&three);
        rewind(&four);
        assert_eq!(block_on(command.read()).expect("runs"), "four\nthree");

        // The very numbers, without a copy at another number in between.
        let mut command = helper(&["copy:3:1", "copy:4:1"]);
        command.fd(3, four).fd(4, three);
        for number in [3, 4] {
            rewind(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) });
        }
        assert_eq!(block_on(command.read()).expect("runs"), "four\nthree");
        drop(command);
        for number in [3, 4] {
            assert_eq!(
                unsafe { libc::fcntl(number, libc::F_GETFD) },
                -1,
                "given, so closed with the command"
            );
        }
    });
}

#[test]
fn swapped_stdout_and_stderr() {
    alone("plans::swapped_stdout_and_stderr", || {
        let saved = [1, 2].map(|n| unsafe { OwnedFd::from_raw_fd(libc::dup(n)) });
        let paths = [
            tempfile::NamedTempFile::new().expect("a file"),
            tempfile::NamedTempFile::new().expect("a file"),
        ];
        for (number, file) in (1..).zip(&paths) {
            assert_eq!(unsafe { libc::dup2(file.as_file().as_raw_fd(), number) }, number);
        }
        let (out, err) = unsafe { (OwnedFd::from_raw_fd(1), OwnedFd::from_raw_fd(2)) };
        let mut command = helper(&["say:1:to one", "say:2:to two"]);
        command.stdout(err).stderr(out);
        let result = block_on(command.run());
        // The command owned 1 and 2 of this process, and closes them.
        drop(command);
        for (number, fd) in (1..).zip(&saved) {
            assert_eq!(unsafe { libc::dup2(fd.as_raw_fd(), number) }, number);
        }
        result.expect("runs");
        let read = |n: usize| std::fs::read_to_string(paths[n].path()).expect("text");
        assert_eq!((read(0).as_str(), read(1).as_str()), ("to two\n", "to one\n"));
    });
}

#[test]
fn one_descriptor_at_three_numbers() {
    alone("plans::one_descriptor_at_three_numbers", || {
        let file = place(5, "five");
        let mut command = helper(&["fds"]);
        for number in [3, 5, 9] {
            command.fd(number, Stdio::parent_fd(&file));
        }
        check(&mut command, &[3, 5, 9]);
        for number in [3, 5, 9] {
            rewind(&file);
            let mut command = helper(&[&format!("copy:{number}:1")]);
            for number in [3, 5, 9] {
                command.fd(number, Stdio::parent_fd(&file));
            }
            assert_eq!(block_on(command.read()).expect("runs"), "five");
        }
        assert!(rustix::io::fcntl_getfd(&file).is_ok(), "lent, so still open");
    });
}

#[test]
fn numbers_three_to_forty_one_above_255_and_gaps() {
    let mut command = helper(&["fds"]);
    let mut numbers: Vec<i32> = (3..=40).collect();
    numbers.extend([77, 255, 256, 300, 1000]);
    for number in &numbers {
        match number % 3 {
            0 => command.fd(*number, Stdio::null()),
            1 => command.fd(*number, Stdio::bytes("x")),
            _ => command.fd(*number, Stdio::output()),
        };
    }
    check(&mut command, &numbers);
    check(helper(&["fds"]).fd(1000, Stdio::null()), &[1000]);
}

/// Each pipe carries its own number both ways. The parent's own pipes use these numbers too.
#[test]
fn every_pipe_reaches_its_own_number() {
    alone("plans::every_pipe_reaches_its_own_number", || {
        for others in 0..16 {
            let _open: Vec<std::fs::File> =
                (0..others).map(|_| std::fs::File::open("/dev/null").expect("opens")).collect();
            let mut steps = Vec::new();
            for number in 3..20 {
                steps.push(if number % 2 == 0 {
                    format!("say:{number}:{number}")
                } else {
                    format!("copy:{number}:1")
                });
            }
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let mut command = helper(&steps);
            for number in 3..20 {
                if number % 2 == 0 {
                    command.fd(number, Stdio::output());
                } else {
                    command.fd(number, Stdio::bytes(format!("{number},")));
                }
            }
            let output = block_on(command.output()).expect("runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "3,5,7,9,11,13,15,17,19,");
            for number in (4..20).step_by(2) {
                assert_eq!(
                    output.fd(number),
                    Some(format!("{number}\n").as_bytes()),
                    "with {others} others open"
                );
            }
        }
    });
}

/// Other threads open descriptors without close-on-exec all the while; the child sees none of them.
#[test]
fn descriptors_of_other_threads_stay_out() {
    alone("plans::descriptors_of_other_threads_stay_out", || {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let open: Vec<i32> = (0..8)
                            .map(|_| unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) })
                            .collect();
                        for fd in open {
                            unsafe { libc::close(fd) };
                        }
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            check(helper(&["fds"]).fd(7, Stdio::bytes("x")).fd(30, Stdio::output()), &[7, 30]);
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn impossible_numbers() {
    let too_high =
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 30) as i32;
    for number in [-1, i32::MIN, too_high, i32::MAX] {
        for stdio in [Stdio::null(), Stdio::output(), Stdio::bytes("x")] {
            let error = block_on(helper(&[]).fd(number, stdio).run()).expect_err("impossible");
            assert!(matches!(error, Error::Invalid { reason: InvalidReason::Descriptor, .. }), "{error}");
        }
    }
}

/// A lent descriptor is neither closed nor changed, whether the start succeeds or fails.
#[test]
fn lent_descriptors_are_left_as_they_are() {
    let (reader, writer) = pipe();
    let state = |fd: &OwnedFd| {
        (
            rustix::io::fcntl_getfd(fd).expect("open"),
            rustix::fs::fcntl_getfl(fd).expect("open"),
            fd.as_raw_fd(),
        )
    };
    let before = (state(&reader), state(&writer));
    let good = block_on(helper(&["say:4:x"]).fd(4, Stdio::parent_fd(&writer)).fd(5, Stdio::same_as(4)).run());
    good.expect("runs");
    let mut missing = reaped::Command::new("/no/such/program");
    missing.fd(0, Stdio::parent_fd(&reader)).fd(4, Stdio::parent_fd(&writer)).fd(5, Stdio::same_as(4));
    block_on(missing.run()).expect_err("missing");
    drop(missing);
    assert_eq!((state(&reader), state(&writer)), before);
    let mut file = std::fs::File::from(reader);
    drop(writer);
    let mut said = String::new();
    file.read_to_string(&mut said).expect("nobody else holds the writing end");
    assert_eq!(said, "x\n");
}

/// Many `cat`s, sleepers and children of std's at once. If another child had the writing end of one `cat`'s
/// stdin, that `cat` would not end before the child.
#[test]
fn no_end_leaks_into_a_sibling() {
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut sleepers = Vec::new();
                let mut own = Vec::new();
                for round in 0..10 {
                    sleepers.push(reaped::Command::new("sleep").arg("1000").run());
                    own.push(std::process::Command::new("sleep").arg("1000").spawn().expect("starts"));
                    let text = format!("{n}.{round}");
                    let mut cat = reaped::Command::new("cat");
                    // It ends only if the sleepers, which outlast this test, hold no end of its pipes.
                    assert_eq!(block_on(cat.stdin(Stdio::bytes(text.as_str())).read()).expect("ends"), text);
                }
                stop.store(true, Ordering::Relaxed);
                for mut child in own {
                    child.kill().expect("killed");
                    child.wait().expect("reaped");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}
