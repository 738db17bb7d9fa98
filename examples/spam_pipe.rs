//! Reads descriptor 3 of a worker, in pieces of at most 32 bytes, and prints when each came. The worker is this
//! program again: `cargo run --example spam_pipe`. Needs Unix.

#[cfg(not(unix))]
fn main() {
    eprintln!("needs Unix");
}

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => futures::executor::block_on(unix::parent()),
        Some("worker") => unix::worker(),
        Some(_) => {
            eprintln!("usage: spam_pipe (without arguments)");
            std::process::exit(2);
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::io::{self, Write};
    use std::time::{Duration, Instant};

    use futures::AsyncReadExt;
    use reaped::{Command, Stdio};

    pub(super) async fn parent() -> io::Result<()> {
        let start = Instant::now();
        let mut worker = Command::new(std::env::current_exe()?);
        let mut process = worker.arg("worker").fd(3, Stdio::output()).stderr(Stdio::inherit()).spawn()?;
        let mut reader = process.reader(3).expect("a pipe, not taken yet");

        let (mut buffer, mut messages) = ([0; 32], 0);
        loop {
            let count = reader.read(&mut buffer).await?;
            if count == 0 {
                break; // the worker has closed the pipe
            }
            let piece = &buffer[..count];
            println!("{:.3} s, {count:2} bytes: {}", start.elapsed().as_secs_f32(), piece.escape_ascii());
            messages += piece.iter().filter(|byte| **byte == b'\n').count();
        }
        println!("{messages} messages, then the end: {}", process.status().await?);
        Ok(())
    }

    /// The child: ten messages, each longer than one read of the parent.
    pub(super) fn worker() -> io::Result<()> {
        let mut pipe = std::fs::File::options().write(true).open("/dev/fd/3")?;
        for number in 1..=10 {
            pipe.write_all(format!("message {number}, which the worker wrote at once\n").as_bytes())?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
