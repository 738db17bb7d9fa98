//! No descriptors, processes, memory or room for pipes left; and a host that has as many descriptors as it
//! may.

use std::os::fd::{AsRawFd, OwnedFd};

use reaped::{Command, Error, InvalidReason, SpawnReason, Stdio};
use rustix::process::{Resource, getrlimit};

#[cfg(target_env = "gnu")]
use super::NATIVE;
use super::{
    CALLS, Lowered, Traces, again_and_again, all_calls, block_on, each_alone, errno, fault, no_child,
    private_user, reason, works,
};
use crate::support::{descriptors, root_needed, sh, warm_up};

/// The free numbers, from the lowest on.
fn free_numbers() -> impl Iterator<Item = i32> {
    let open = descriptors();
    (0..).filter(move |number| open.iter().all(|(fd, _)| fd != number))
}

/// How a call ended while descriptors were scarce.
fn verdict(result: &Result<(), Error>, what: &str) -> &'static str {
    match result {
        Ok(()) => "ran",
        // The limit is the child's as well, and a shell needs descriptors of its own.
        Err(Error::Failed(_)) => "failed",
        Err(Error::Spawn { reason: SpawnReason::OutOfDescriptors, source, .. }) => {
            assert_eq!(source.raw_os_error(), Some(libc::EMFILE), "{what}");
            "refused"
        }
        // The number that the command gives the child is above the limit.
        Err(Error::Invalid { reason: InvalidReason::Descriptor, .. }) => "refused",
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// First there are too few for this process, then perhaps for the child, then always enough.
fn judge(kind: &str, verdicts: &[impl AsRef<str>]) {
    let verdicts: Vec<&str> = verdicts.iter().map(AsRef::as_ref).collect();
    let mut sorted = verdicts.clone();
    sorted.sort_unstable_by_key(|verdict| ["refused", "failed", "ran"].iter().position(|v| v == verdict));
    assert_eq!(verdicts, sorted, "{kind}");
    assert_eq!((verdicts[0], verdicts[verdicts.len() - 1]), ("refused", "ran"), "{kind}: {verdicts:?}");
}

/// Every possible number of free descriptors, from none to enough, so each allocation fails once; in calls of
/// every kind.
#[test]
fn no_descriptor_left() {
    fault("limits::no_descriptor_left", || {
        again_and_again(2, || {
            for (kind, call) in CALLS {
                let mut verdicts = Vec::new();
                for (spare, first_refused) in free_numbers().take(32).enumerate() {
                    let lowered = Lowered::new(Resource::Nofile, first_refused as u64);
                    let result = call();
                    drop(lowered);
                    verdicts.push(verdict(&result, &format!("{kind}, {spare} spare below {first_refused}")));
                    no_child();
                }
                judge(kind, &verdicts);
            }
        });
    });
}

/// The same in processes that have made no call before, so what the process needs only once is not there yet.
#[test]
fn no_descriptor_left_for_the_first_call() {
    const SPARE: usize = 28;
    each_alone(
        "limits::no_descriptor_left_for_the_first_call",
        0..CALLS.len() * SPARE,
        |case| {
            let (kind, call) = CALLS[case / SPARE];
            let first_refused = free_numbers().nth(case % SPARE).expect("a number");
            let lowered = Lowered::new(Resource::Nofile, first_refused as u64);
            let result = call();
            drop(lowered);
            let verdict = verdict(&result, &format!("{kind}, {} spare", case % SPARE));
            no_child();
            works();
            call().expect("now there are enough");
            no_child();
            let before = Traces::now();
            call().expect("now there are enough");
            works();
            before.are_all(1 << 10);
            verdict
        },
        |verdicts| {
            for (verdicts, (kind, _)) in verdicts.chunks(SPARE).zip(CALLS) {
                judge(kind, verdicts);
            }
        },
    );
}

#[test]
fn no_process_left() {
    fault("limits::no_process_left", || {
        // Root has no such limit.
        if rustix::process::geteuid().is_root() {
            private_user();
        }
        again_and_again(5, || {
            for (kind, call) in CALLS {
                let lowered = Lowered::new(Resource::Nproc, 0);
                let result = call();
                drop(lowered);
                let error = result.expect_err("there is none left");
                assert_eq!(reason(&error), SpawnReason::OutOfProcesses, "{kind}");
                assert_eq!(errno(&error), Some(libc::EAGAIN), "{kind}");
            }
        });
    });
}

/// The number of this user's tasks, threads included.
fn tasks_of_this_user() -> usize {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    let processes = std::fs::read_dir("/proc").expect("procfs").flatten();
    let owned = processes.filter(|entry| {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        is_process && entry.metadata().is_ok_and(|metadata| metadata.uid() == own)
    });
    owned.map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(0, Iterator::count)).sum()
}

/// In processes that have made no call before, the limit hits the threads that the process needs only once.
#[test]
fn no_process_left_for_the_first_call() {
    const SPARE: usize = 8;
    root_needed();
    each_alone(
        "limits::no_process_left_for_the_first_call",
        0..CALLS.len() * SPARE,
        |case| {
            let (kind, call) = CALLS[case / SPARE];
            private_user();
            // The last case always has enough.
            let spare = if case % SPARE == SPARE - 1 { 64 } else { case % SPARE };
            let lowered = Lowered::new(Resource::Nproc, (tasks_of_this_user() + spare) as u64);
            let result = call();
            drop(lowered);
            no_child();
            works();
            call().expect("now there are enough");
            no_child();
            match result {
                Ok(()) => "ran",
                // A shell that cannot start children of its own reports it, and fails.
                Err(Error::Failed(_)) => "failed",
                Err(error) => {
                    assert_eq!(reason(&error), SpawnReason::OutOfProcesses, "{kind}, {spare} spare: {error}");
                    "refused"
                }
            }
        },
        |verdicts| {
            for (verdicts, (kind, _)) in verdicts.chunks(SPARE).zip(CALLS) {
                assert_eq!(verdicts[0], "refused", "{kind}: {verdicts:?}");
                assert_eq!(verdicts[SPARE - 1], "ran", "{kind}: {verdicts:?}");
            }
        },
    );
}

/// The user that the child becomes has no process left. The parent's user has.
#[test]
fn no_process_left_for_the_user_of_the_child() {
    fault("limits::no_process_left_for_the_user_of_the_child", || {
        let is_root = rustix::process::geteuid().is_root();
        let user = 200_000_000 + std::process::id();
        again_and_again(5, || {
            // The kernel compares the limit with the number of processes that there were before.
            let lowered = Lowered::new(Resource::Nproc, 0);
            let mut first = sh("exec sleep 1000");
            let first = first.uid(user).gid(user).current_dir("/").spawn();
            let mut second = Command::new("true");
            let second = block_on(second.uid(user).gid(user).current_dir("/").run());
            drop(lowered);
            let error = second.expect_err("there is none left, or it is not permitted");
            if is_root {
                let _: reaped::Process = first.expect("there was one");
                assert_eq!(reason(&error), SpawnReason::OutOfProcesses, "{error}");
            } else {
                assert!(first.is_err());
            }
        });
    });
}

/// Touches memory, so that later allocations need none from the system.
#[cfg(target_env = "gnu")]
fn reserve() {
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    let pieces: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 256 << 10]).collect();
    drop(std::hint::black_box(pieces));
}

#[cfg(target_env = "gnu")]
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// The address space is full except for some pages. A new process that shares this memory needs no more.
#[cfg(target_env = "gnu")]
#[test]
fn no_memory_left() {
    fault("limits::no_memory_left", || {
        reserve();
        all_calls();
        let (mut refused, mut ran) = (0, 0);
        // The child has memory of its own, and shares one page with the parent for its answer.
        let as_oneself = || {
            let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
            block_on(Command::new("true").uid(user.as_raw()).gid(group.as_raw()).run())
        };
        let as_oneself: (&str, fn() -> Result<(), Error>) = ("as oneself", as_oneself);
        again_and_again(2, || {
            for (kind, call) in CALLS.iter().chain([&as_oneself]) {
                for pages in 0..48 {
                    let full = address_space() + (pages << 12);
                    let lowered = Lowered::new(Resource::As, full);
                    let result = call();
                    drop(lowered);
                    match result {
                        Ok(()) => ran += 1,
                        Err(error) => {
                            refused += 1;
                            assert_eq!(reason(&error), SpawnReason::Other, "{kind}, {pages} pages");
                            assert_eq!(errno(&error), Some(libc::ENOMEM), "{kind}, {pages} pages");
                        }
                    }
                }
            }
        });
        assert!(ran > 0 && (refused > 0) == NATIVE, "{refused} refused, {ran} ran");
    });
}

/// The limit is the child's too, and is too low to run the program.
#[cfg(target_env = "gnu")]
#[test]
fn no_memory_for_the_program() {
    fault("limits::no_memory_for_the_program", || {
        reserve();
        again_and_again(10, || {
            let lowered = Lowered::new(Resource::As, 1 << 20);
            let result = block_on(sh("echo said").output());
            drop(lowered);
            match result {
                Ok(output) => assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}"),
                Err(error) => {
                    assert_eq!(reason(&error), SpawnReason::Other);
                    assert_eq!(errno(&error), Some(libc::ENOMEM));
                }
            }
        });
    });
}

/// In processes that have made no call before, there is no room for the stacks of the threads that the
/// process needs once.
#[cfg(target_env = "gnu")]
#[test]
fn no_memory_left_for_the_first_call() {
    const SPARE: [u64; 5] = [0, 1 << 20, 3 << 20, 6 << 20, 1 << 30];
    each_alone(
        "limits::no_memory_left_for_the_first_call",
        0..SPARE.len(),
        |case| {
            reserve();
            let lowered = Lowered::new(Resource::As, address_space() + SPARE[case]);
            let result = block_on(Command::new("cat").stdin(Stdio::bytes("x")).read());
            drop(lowered);
            no_child();
            works();
            match result {
                Ok(said) => {
                    assert_eq!(said, "x");
                    "ran"
                }
                Err(error) => {
                    // If a thread cannot start, the system gives one of these errors, no matter what is
                    // missing.
                    let known = [Some(libc::ENOMEM), Some(libc::EAGAIN)];
                    assert!(known.contains(&errno(&error)), "{error:?}");
                    "refused"
                }
            }
        },
        |verdicts| {
            assert_eq!((&*verdicts[0], &*verdicts[SPARE.len() - 1]), ("refused", "ran"), "{verdicts:?}");
        },
    );
}

/// This user's pipes take all the room that a user may have. New ones are small, and do not grow.
#[test]
fn no_room_for_pipes() {
    fault("limits::no_room_for_pipes", || {
        private_user();
        let may = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").expect("procfs");
        let may: usize = may.trim().parse().expect("a number");
        let most = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").expect("procfs");
        let most: usize = most.trim().parse().expect("a number");
        let mut hoard = Vec::new();
        loop {
            let pipe = crate::support::pipe();
            let grown = rustix::pipe::fcntl_setpipe_size(&pipe.0, most);
            hoard.push(pipe);
            if grown.is_err() {
                break;
            }
            // If the system has no limit, nothing is reached; if it has one, it keeps it.
            assert!(hoard.len() * most / 4096 <= may + 1024 || may == 0, "the limit of {may} was passed");
            if may == 0 && hoard.len() > 64 {
                println!("this system has no limit to the pages of pipes");
                break;
            }
        }
        let smaller = |pipe: &(OwnedFd, OwnedFd)| {
            let mut room = 1 << 16;
            while room >= 4096 && rustix::pipe::fcntl_setpipe_size(&pipe.0, room).is_err() {
                room /= 2;
            }
        };
        hoard.iter().rev().take(1).for_each(smaller);
        let (reader, _writer) = crate::support::pipe();
        let room = rustix::pipe::fcntl_getpipe_size(&reader).expect("a pipe");
        assert!(room <= 8192 || may == 0, "a new pipe has room for {room} bytes");
        let bytes = crate::helper::pattern(3 << 20);
        again_and_again(3, || {
            all_calls();
            let mut command = sh("cat; exec cat <&3 >&4");
            command.stdin(Stdio::bytes(bytes.clone())).fd(3, Stdio::bytes(bytes.clone()));
            let output = block_on(command.fd(4, Stdio::output()).output()).expect("a value");
            assert!(output.stdout == bytes && output.fd(4) == Some(&bytes), "every byte");
        });
        drop(hoard);
    });
}

/// As many descriptors as a process may have: 50,000, or the system's limit.
fn hoard() -> (Lowered, Vec<OwnedFd>) {
    const MANY: u64 = 50_000;
    const SPARE: u64 = 100;
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(MANY);
    if hard < MANY {
        println!("only {hard} descriptors are permitted");
    }
    let raised = Lowered::new(Resource::Nofile, hard.min(MANY + SPARE));
    let null = std::fs::File::open("/dev/null").expect("opens");
    let hoard = (0..hard.min(MANY + SPARE) - SPARE).map_while(|number| {
        // Some that children inherit.
        let copy = rustix::io::fcntl_dupfd_cloexec(&null, 10).ok()?;
        if number % 2 == 0 {
            rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).expect("open");
        }
        Some(copy)
    });
    let hoard: Vec<OwnedFd> = hoard.collect();
    assert!(hoard.len() as u64 >= hard.min(MANY) - 2 * SPARE, "only {} are open", hoard.len());
    (raised, hoard)
}

#[test]
fn fifty_thousand_descriptors() {
    fault("limits::fifty_thousand_descriptors", || {
        let (_raised, hoard) = hoard();
        again_and_again(2, || {
            all_calls();
            let mut command = crate::support::helper(&["fds"]);
            command.fd(hoard[5].as_raw_fd(), Stdio::null()).fd(3, Stdio::null());
            let said = block_on(command.read()).expect("runs");
            assert_eq!(said, format!("0\n1\n2\n3\n{}", hoard[5].as_raw_fd()), "what was named");
            let inherited = block_on(command.inherit_fds(true).read()).expect("runs");
            let count = inherited.lines().count();
            assert!(count >= hoard.len() / 2 && count <= hoard.len() / 2 + 8, "{count} were inherited");
        });
    });
}

/// All of these are in use, and none is free.
#[test]
fn fifty_thousand_descriptors_and_no_more() {
    fault("limits::fifty_thousand_descriptors_and_no_more", || {
        let (_raised, mut hoard) = hoard();
        warm_up();
        let before = Traces::now();
        let mut rest = Vec::with_capacity(1000);
        let null = std::fs::File::open("/dev/null").expect("opens");
        while let Ok(copy) = rustix::io::fcntl_dupfd_cloexec(&null, 0) {
            rest.push(copy);
        }
        for (kind, call) in CALLS {
            let error = call().expect_err("there is none left");
            assert_eq!(reason(&error), SpawnReason::OutOfDescriptors, "{kind}");
        }
        drop((rest, null));
        for _ in 0..10 {
            hoard.pop();
        }
        works();
        no_child();
        // Ten of the hoard were closed before.
        let open = descriptors().len();
        assert_eq!(open + 10, before.descriptors.len());
    });
}
