//! The scripted program of the tests. It is this test binary: if the first argument says so, it becomes the
//! helper before the tests' `main`. Each further argument is one step:
//!
//! | step | what it does |
//! | --- | --- |
//! | `out:N`, `err:N`, `fill:FD:N` | writes N bytes to stdout, stderr, FD |
//! | `room:FD:N` | has the pipe hold N bytes (Linux) |
//! | `packets:FD:N` | writes N packets of 100 bytes; each takes a read of its own: O_DIRECT, pipe(2) (Linux) |
//! | `say:FD:TEXT` | writes the text and a line end to FD |
//! | `copy:FROM:TO` | copies FD FROM to FD TO until end of file |
//! | `sum:FROM:TO` | reads FD FROM to its end, and writes the number of bytes and their checksum to FD TO, as a line |
//! | `close:FD` | closes FD |
//! | `fds` | prints its open descriptors, one on each line |
//! | `links:FD` | writes them to FD, number and name, one on each line (Linux) |
//! | `group:own`, `group:join`, `group:session` | leads a group, joins its parent's, leads a session (Linux) |
//! | `traced` | asks its parent to trace it: from now on each signal stops it (Linux) |
//! | `seize:PID` | traces that process, as a debugger does (Linux) |
//! | `attach:PID` | the same, and stops it (Linux) |
//! | `signals` | prints its blocked and ignored signals, as the kernel shows them |
//! | `chroot:DIR`, `namespace` | changes its root; becomes root of a namespace that denies setgroups(2); exits with 77 if that is not permitted (Linux) |
//! | `capable` | of root: keeps the groups 0 and 27 and the capabilities to change ids, and is nobody (Linux) |
//! | `start:HOW`, `start:HOW:ID` | starts a child of its own with `null`, `pty`, `uid` or `gid`, and prints its groups, or the error and its kind (Linux) |
//! | `priority` | prints its priority, getpriority(2) (Linux) |
//! | `sleep:MS` | sleeps |
//! | `raise:N` | sends itself a signal |
//! | `exit:N` | exits |
//! | `lines` | prints its working directory and its environment, one item on each line (Windows) |
//! | `nothing` | writes zero bytes to stdout, which a pipe on Windows reports (Windows) |
//! | `args` | as the first step: prints the other arguments, which are no steps, in brackets, one on each line |
//! | `console` | prints the number of processes at its console, 0 without one (Windows) |
//! | `break:N` | at each later Ctrl-Break it prints `break` and exits with N (Windows) |
//! | `deaf` | prints `ready`; at each later Ctrl-Break it prints `break`, and goes on (Windows) |
//! | `leave:MS`, `leave:MS:FD`, `leave:MS:FD:STEP` | starts a child that takes the step and sleeps, does not wait for it, and writes its pid to FD (Windows) |

#[cfg(unix)]
use std::os::fd::{FromRawFd, OwnedFd};

#[ctor::ctor(unsafe)]
fn become_helper() {
    let mut args = arguments().into_iter().skip(1).peekable();
    if args.next().as_deref() == Some("--helper") {
        #[cfg(windows)]
        if std::env::var_os(CTRL_C_FOR_BREAK).is_some() {
            // A new group begins with Ctrl-C turned off.
            unsafe { windows_sys::Win32::System::Console::SetConsoleCtrlHandler(None, 0) };
        }
        // The remaining arguments are no steps.
        if args.next_if(|step| step == "args").is_some() {
            args.for_each(|arg| write_all(1, format!("[{arg}]\n").as_bytes()));
            std::process::exit(0);
        }
        args.for_each(|step| take(&step));
        std::process::exit(0);
    }
}

/// musl gives a constructor no arguments, so the helper asks the kernel.
#[cfg(target_env = "musl")]
fn arguments() -> Vec<String> {
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = line.split_inclusive(|byte| *byte == 0).map(|word| word.strip_suffix(&[0]).unwrap_or(word));
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(not(target_env = "musl"))]
fn arguments() -> Vec<String> {
    std::env::args().collect()
}

/// If a container or a user may not do this, the helper exits, and the test that started it is skipped.
#[cfg(target_os = "linux")]
fn or_skip(done: i32) {
    if done != 0 {
        std::process::exit(77);
    }
}

fn take(step: &str) {
    let mut words = step.splitn(3, ':');
    let verb = words.next().expect("a verb");
    let first = words.next().unwrap_or_default();
    let second = words.next().unwrap_or_default();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match verb {
        "out" => fill(1, number(first)),
        "err" => fill(2, number(first)),
        "fill" => fill(number(first) as i32, number(second)),
        #[cfg(target_os = "linux")]
        "room" => {
            let room =
                unsafe { libc::fcntl(number(first) as i32, libc::F_SETPIPE_SZ, number(second) as i32) };
            assert_eq!(room, number(second) as i32);
        }
        #[cfg(target_os = "linux")]
        "packets" => {
            let fd = number(first) as i32;
            assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_DIRECT | libc::O_WRONLY) }, 0);
            for _ in 0..number(second) {
                write_all(fd, &[b'x'; 100]);
            }
        }
        "say" => write_all(number(first) as i32, format!("{second}\n").as_bytes()),
        "copy" => {
            let mut buffer = vec![0; 65536];
            while let Ok(count @ 1..) = read(number(first) as i32, &mut buffer) {
                write_all(number(second) as i32, &buffer[..count]);
            }
        }
        "sum" => {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 65536]);
            while let Ok(count @ 1..) = read(number(first) as i32, &mut buffer) {
                all.extend_from_slice(&buffer[..count]);
            }
            write_all(number(second) as i32, sum(&all).as_bytes());
        }
        #[cfg(target_os = "linux")]
        "priority" => {
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        }
        #[cfg(unix)]
        "close" => drop(unsafe { OwnedFd::from_raw_fd(number(first) as i32) }),
        #[cfg(windows)]
        "close" => drop(std::mem::ManuallyDrop::into_inner(file(number(first) as i32))),
        #[cfg(unix)]
        "fds" => {
            for fd in open_descriptors() {
                write_all(1, format!("{fd}\n").as_bytes());
            }
        }
        #[cfg(target_os = "linux")]
        "links" => {
            for fd in open_descriptors() {
                let name = std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("it is open");
                write_all(number(first) as i32, format!("{fd} {}\n", name.display()).as_bytes());
            }
        }
        #[cfg(target_os = "linux")]
        "group" => {
            let done = match first {
                "own" => unsafe { libc::setpgid(0, 0) },
                "join" => unsafe { libc::setpgid(0, libc::getpgid(libc::getppid())) },
                "session" => unsafe { libc::setsid() },
                _ => panic!("no such group: {first}"),
            };
            assert_ne!(done, -1, "{}", std::io::Error::last_os_error());
        }
        #[cfg(target_os = "linux")]
        "traced" => {
            assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }, 0);
        }
        #[cfg(target_os = "linux")]
        "seize" | "attach" => {
            let request = if verb == "seize" { libc::PTRACE_SEIZE } else { libc::PTRACE_ATTACH };
            let done = unsafe { libc::ptrace(request, number(first) as libc::pid_t, 0, 0) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        }
        "signals" => {
            let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
            for line in status.lines().filter(|l| l.starts_with("SigBlk") || l.starts_with("SigIgn")) {
                write_all(1, format!("{line}\n").as_bytes());
            }
        }
        #[cfg(target_os = "linux")]
        "chroot" => {
            // An ordinary user becomes root in a namespace of its own.
            if !rustix::process::geteuid().is_root() {
                or_skip(unsafe { libc::unshare(libc::CLONE_NEWUSER) });
            }
            or_skip(std::os::unix::fs::chroot(first).map_or(-1, |()| 0));
            std::env::set_current_dir("/").expect("it is there");
        }
        #[cfg(target_os = "linux")]
        "namespace" => {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            or_skip(unsafe { libc::unshare(libc::CLONE_NEWUSER) });
            for (file, text) in [
                ("setgroups", "deny".to_owned()),
                ("uid_map", format!("0 {uid} 1")),
                ("gid_map", format!("0 {gid} 1")),
            ] {
                std::fs::write(format!("/proc/self/{file}"), text).expect("the namespace is ours");
            }
        }
        #[cfg(target_os = "linux")]
        "capable" => {
            let groups = [0, 27];
            assert_eq!(unsafe { libc::setgroups(2, groups.as_ptr()) }, 0);
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }, 0);
            assert_eq!(unsafe { libc::setresgid(65534, 65534, 65534) }, 0);
            assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
            // capset(2), version 3: CAP_SETGID and CAP_SETUID, effective and permitted.
            let header = [0x2008_0522_u32, 0];
            let data = [0xc0_u32, 0xc0, 0, 0, 0, 0];
            assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }, 0);
        }
        #[cfg(target_os = "linux")]
        "start" => {
            use reaped::{Command, PtySize, Stdio};
            let mut command = Command::new("/bin/cat");
            command.arg("/proc/self/status");
            match first {
                "null" => _ = command.stdin(Stdio::null()),
                "pty" => _ = command.pty(PtySize::default()),
                _ => {}
            }
            if let ("uid", Ok(uid)) = (first, second.parse()) {
                command.uid(uid);
            }
            if let ("gid", Ok(gid)) = (first, second.parse()) {
                command.gid(gid);
            }
            let told = match futures::executor::block_on(command.read()) {
                Ok(status) => {
                    status.lines().find(|line| line.starts_with("Groups")).expect("a line").to_owned()
                }
                Err(error) => {
                    let text = error.to_string();
                    format!("{text}\n{:?}", std::io::Error::from(error).kind())
                }
            };
            write_all(1, told.as_bytes());
        }
        "sleep" => std::thread::sleep(std::time::Duration::from_millis(number(first) as u64)),
        #[cfg(unix)]
        "raise" => {
            unsafe { libc::raise(number(first) as i32) };
        }
        #[cfg(windows)]
        "lines" => {
            let here = std::env::current_dir().expect("a folder");
            write_all(1, format!("{}\n", here.display()).as_bytes());
            for (name, value) in std::env::vars() {
                write_all(1, format!("{name}={value}\n").as_bytes());
            }
        }
        #[cfg(windows)]
        "nothing" => assert_eq!(std::io::Write::write(&mut &*file(1), b"").expect("a pipe"), 0),
        #[cfg(windows)]
        "console" => write_all(1, format!("{}\n", at_console()).as_bytes()),
        #[cfg(windows)]
        "break" => on_break(number(first) as i32),
        #[cfg(windows)]
        "deaf" => {
            on_break(-1);
            write_all(1, b"ready\n");
        }
        #[cfg(windows)]
        "leave" => {
            let (fd, step) = second.split_once(':').unwrap_or((second, "sleep:0"));
            let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"));
            #[expect(clippy::zombie_processes, reason = "it is to be left")]
            let child = child.args(["--helper", step, &format!("sleep:{first}")]).spawn().expect("it starts");
            if !fd.is_empty() {
                write_all(number(fd) as i32, format!("{}\n", child.id()).as_bytes());
            }
        }
        "exit" => std::process::exit(number(first) as i32),
        _ => panic!("no such step: {step}"),
    }
}

/// How many processes share the console of this one; 0 if it has none.
#[cfg(windows)]
pub fn at_console() -> u32 {
    let mut pids = [0; 64];
    unsafe { windows_sys::Win32::System::Console::GetConsoleProcessList(pids.as_mut_ptr(), 64) }
}

/// With this variable a Ctrl-C stands for a Ctrl-Break; see `windows_break.rs`.
#[cfg(windows)]
pub const CTRL_C_FOR_BREAK: &str = "REAPED_TEST_CTRL_C_FOR_BREAK";

/// What a Ctrl-Break does: the helper prints a word, and exits if it has a code for it.
#[cfg(windows)]
fn on_break(code: i32) {
    use std::sync::atomic::{AtomicI32, Ordering};
    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, SetConsoleCtrlHandler};
    static CODE: AtomicI32 = AtomicI32::new(-1);
    unsafe extern "system" fn told(event: u32) -> i32 {
        if event != CTRL_BREAK_EVENT && std::env::var_os(CTRL_C_FOR_BREAK).is_none() {
            return 0;
        }
        write_all(1, b"break\n");
        match CODE.load(Ordering::SeqCst) {
            -1 => 1,
            code => std::process::exit(code),
        }
    }
    CODE.store(code, Ordering::SeqCst);
    assert_ne!(unsafe { SetConsoleCtrlHandler(Some(told), 1) }, 0);
}

/// The descriptors of this process, without the one that lists them.
#[cfg(unix)]
pub fn open_descriptors() -> Vec<i32> {
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    let listed: Vec<i32> = std::fs::read_dir(folder)
        .expect("a folder of descriptors")
        .map(|entry| {
            entry.expect("an entry").file_name().to_str().expect("a number").parse().expect("a number")
        })
        .collect();
    let open = |fd: &i32| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1;
    let mut fds: Vec<i32> = listed.into_iter().filter(open).collect();
    fds.sort_unstable();
    fds
}

/// A pattern that shows a lost, doubled or swapped byte.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

/// The result of the step `sum` for these bytes: FNV-1a, which a lost, doubled or swapped byte changes.
pub fn sum(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{} {:016x}\n", bytes.len(), bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

fn fill(to: i32, length: usize) {
    let chunk = pattern(251 * 256);
    let mut left = length;
    while left > 0 {
        let count = left.min(chunk.len());
        write_all(to, &chunk[..count]);
        left -= count;
    }
}

#[cfg(unix)]
fn write_all(to: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(fd(to), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                eprintln!("helper: descriptor {to}: {error}");
                std::process::exit(99);
            }
        }
    }
}

#[cfg(unix)]
fn read(from: i32, buffer: &mut [u8]) -> std::io::Result<usize> {
    Ok(rustix::io::read(fd(from), buffer)?)
}

#[cfg(unix)]
fn fd(number: i32) -> std::os::fd::BorrowedFd<'static> {
    unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }
}

#[cfg(windows)]
fn write_all(to: i32, bytes: &[u8]) {
    if let Err(error) = std::io::Write::write_all(&mut &*file(to), bytes) {
        eprintln!("helper: descriptor {to}: {error}");
        std::process::exit(99);
    }
}

#[cfg(windows)]
fn read(from: i32, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::io::Read::read(&mut &*file(from), buffer)
}

/// A standard handle, without std's buffers and text rules.
#[cfg(windows)]
fn file(number: i32) -> std::mem::ManuallyDrop<std::fs::File> {
    use std::os::windows::io::{AsRawHandle, FromRawHandle};
    let handle = match number {
        0 => std::io::stdin().as_raw_handle(),
        1 => std::io::stdout().as_raw_handle(),
        2 => std::io::stderr().as_raw_handle(),
        _ => panic!("descriptor {number} on Windows"),
    };
    std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_handle(handle) })
}
