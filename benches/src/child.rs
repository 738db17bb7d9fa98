//! What this program does when a family runs it as a child: `--child out …`, `lines …`,
//! `contest …`, `talkers …`, `waiting …`, `instructions …`, `fairness …` and their children.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::Scale;
use crate::compare::{self, Contest, Contestants, Executor};

/// The arguments after `--child`.
pub fn run(arguments: &[String]) -> ExitCode {
    let number = |index: usize| arguments[index].parse().expect("a number");
    let result = match arguments[0].as_str() {
        "out" => write_bytes(number(1), number(2)),
        "lines" => write_lines(number(1)),
        "yes" => write_yes(number(1)),
        "trickle" => trickle(number(1), number(2)),
        "spread" => spread(number(1), number(2)),
        "take" => take(),
        "hog" => hog(),
        "contest" => contest(&arguments[1..]),
        "talk" => crate::talkers::talk(),
        "talkers" => crate::talkers::measure(&arguments[1], &arguments[2], number(3), number(4)),
        "instructions" => crate::instructions::play(&arguments[1], &arguments[2], number(3)),
        "waiting" => crate::waiting::measure(&arguments[1], &arguments[2], number(3)),
        "fairness" => {
            let scale = Scale::new(arguments[4] == "smoke");
            crate::fairness::measure(&arguments[1], &arguments[2], &arguments[3], scale)
        }
        _ => return ExitCode::from(2),
    };
    // If the parent stops reading, that is no failure.
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A contestant's process.
fn contest(arguments: &[String]) -> io::Result<()> {
    let [family, executor, variant, scale, name] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let contests: [(&'static str, Contestants); 7] = [
        ("fds", crate::fds::contestants),
        ("latency", crate::latency::contestants),
        ("bulk", crate::bulk::contestants),
        ("duplex", crate::duplex::contestants),
        ("lines", crate::lines::contestants),
        ("many", crate::many::contestants),
        ("pipelines", crate::pipelines::contestants),
    ];
    let known = contests.into_iter().find(|(known, _)| known == family);
    let (family, contestants) = known.ok_or(io::ErrorKind::InvalidInput)?;
    let executor = Executor::ALL.into_iter().find(|known| known.name() == executor);
    let executor = executor.ok_or(io::ErrorKind::InvalidInput)?;
    let variant = variant.parse().map_err(io::Error::other)?;
    let contest = Contest { family, executor, variant, scale: Scale::new(scale == "smoke") };
    compare::play(contest, name, contestants)
}

/// This program itself.
pub fn program() -> OsString {
    std::env::current_exe().expect("this program is a file").into_os_string()
}

/// This many bytes; they repeat every 64 KiB, but not more often.
pub fn pattern(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..BLOCK).map(|i| (i % 251) as u8 ^ (i >> 8) as u8).collect();
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(&block[..BLOCK.min(length - bytes.len())]);
    }
    bytes
}

/// Whether these are the bytes of the pattern.
pub fn is_pattern(bytes: &[u8], length: usize) -> bool {
    let block = pattern(BLOCK);
    bytes.len() == length && bytes.chunks(BLOCK).all(|chunk| chunk == &block[..chunk.len()])
}

const BLOCK: usize = 64 * 1024;

/// Writes the pattern, `piece` bytes at a time, straight from one buffer.
fn write_bytes(total: usize, piece: usize) -> io::Result<()> {
    let block = pattern(BLOCK);
    let mut stdout = unbuffered();
    let mut written = 0;
    while written < total {
        let offset = written % BLOCK;
        let count = piece.min(BLOCK - offset).min(total - written);
        stdout.write_all(&block[offset..offset + count])?;
        written += count;
    }
    Ok(())
}

/// The text of a line, without its end.
pub fn line(number: usize) -> String {
    format!("line {:03} of them", number % 1000)
}

/// Writes this many lines. A thousand are made once, and repeated.
fn write_lines(total: usize) -> io::Result<()> {
    let thousand: String = (0..1000).map(|number| line(number) + "\n").collect();
    let length = thousand.len() / 1000;
    let mut stdout = unbuffered();
    let mut written = 0;
    while written < total {
        let count = (total - written).min(1000);
        stdout.write_all(&thousand.as_bytes()[..count * length])?;
        written += count;
    }
    Ok(())
}

/// Writes this many bytes, as yes(1) does.
fn write_yes(total: usize) -> io::Result<()> {
    let block = b"y\n".repeat(8 * 1024);
    let mut stdout = unbuffered();
    let mut left = total;
    while left > 0 {
        let count = left.min(block.len());
        stdout.write_all(&block[..count])?;
        left -= count;
    }
    Ok(())
}

/// Writes a block this many times, with a pause in between.
fn trickle(count: usize, milliseconds: usize) -> io::Result<()> {
    let block = pattern(BLOCK);
    let mut stdout = unbuffered();
    for _ in 0..count {
        stdout.write_all(&block)?;
        std::thread::sleep(Duration::from_millis(milliseconds as u64));
    }
    Ok(())
}

/// Writes `each` bytes to each of the descriptors from 3 on, some to each in turn.
fn spread(descriptors: usize, each: usize) -> io::Result<()> {
    let block = pattern(BLOCK / 4);
    let open = |fd: usize| std::fs::File::options().write(true).open(format!("/proc/self/fd/{fd}"));
    let mut pipes = (3..3 + descriptors).map(open).collect::<io::Result<Vec<_>>>()?;
    let mut left = each;
    while left > 0 {
        let count = left.min(block.len());
        for pipe in &mut pipes {
            pipe.write_all(&block[..count])?;
        }
        left -= count;
    }
    Ok(())
}

/// Reads everything, and prints how much it was.
fn take() -> io::Result<()> {
    let (mut buffer, mut total) = (vec![0; BLOCK], 0);
    loop {
        match io::stdin().read(&mut buffer)? {
            0 => break,
            count => total += count,
        }
    }
    println!("{total}");
    Ok(())
}

/// Spins while its stdin is open.
fn hog() -> io::Result<()> {
    let stdin = std::thread::spawn(take);
    while !stdin.is_finished() {
        std::hint::spin_loop();
    }
    Ok(())
}

/// stdout, without the buffer that looks for line ends.
fn unbuffered() -> std::fs::File {
    use std::os::fd::AsFd;
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    stdout.expect("a descriptor to spare").into()
}
