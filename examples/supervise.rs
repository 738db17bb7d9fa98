//! Keeps a program running until Ctrl-C: it starts the program again when it has ended, each time after a longer pause.
//! `cargo run --example supervise -- PROGRAM [ARG...]`. Without arguments it supervises a script that crashes twice,
//! and sends Ctrl-C itself. Needs Unix.

#[cfg(not(unix))]
fn main() {
    eprintln!("needs Unix");
}

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    const CRASHING: &str = "[ $STARTS -gt 2 ] || exit 70; echo '    up and running'; exec sleep 100";
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    let demo = words.is_empty();
    if demo {
        words = ["sh", "-c", CRASHING].map(Into::into).to_vec();
    }
    if words[0].as_encoded_bytes().starts_with(b"-") {
        eprintln!("usage: supervise [PROGRAM [ARG...]]");
        std::process::exit(2);
    }
    smol::block_on(unix::supervise(reaped::Command::new(&words[0]).args(&words[1..]), demo))
}

#[cfg(unix)]
mod unix {
    use std::{io, time::Duration};

    use async_signal::{Signal, Signals};
    use futures::StreamExt;
    use futures::future::{Either, select};
    use reaped::{Command, Error, Promise, Stdio};

    const LONGEST: Duration = Duration::from_secs(30);

    pub(super) async fn supervise(command: &mut Command, demo: bool) -> io::Result<()> {
        let mut signals = Signals::new([Signal::Int])?;
        // In a group of its own it does not get Ctrl-C. This program does, and ends the whole group.
        command.new_group().stdin(Stdio::null());
        let mut pause = Duration::from_millis(100);
        for start in 1.. {
            println!("start {start}");
            let promise = command.env("STARTS", start.to_string()).status();
            let (control, _ctrl_c) = (promise.control(), (demo && start == 3).then(press_ctrl_c));
            let status = match select(promise, signals.next()).await {
                Either::Left((status, _)) => status?,
                Either::Right((_, promise)) => match control.terminate() {
                    Ok(()) | Err(Error::AlreadyEnded(_)) => {
                        println!("asked to stop; the child ended: {}", promise.await?);
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            println!("it ended ({status}); the next start is in {pause:?}");
            if let Either::Right(_) = select(smol::Timer::after(pause), signals.next()).await {
                println!("asked to stop; no child runs");
                return Ok(());
            }
            pause = LONGEST.min(pause * 2);
        }
        Ok(())
    }

    fn press_ctrl_c() -> Promise<()> {
        let me = std::process::id().to_string();
        reaped::run("sh", ["-c", "sleep 0.5; echo '    ^C'; kill -INT $0", &me])
    }
}
