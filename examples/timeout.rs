//! Runs a program for a limited time, like timeout(1): `cargo run --example timeout -- SECONDS PROGRAM [ARG...]`.
//! Without arguments it shows what happens to a script with children of its own. Needs Unix.

#[cfg(not(unix))]
fn main() {
    eprintln!("needs Unix");
}

#[cfg(unix)]
fn main() -> std::io::Result<std::process::ExitCode> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.is_empty() {
        futures::executor::block_on(unix::demonstrate())?;
        return Ok(0.into());
    }
    let seconds = words[0].to_str().and_then(|word| word.parse().ok());
    let most = seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    let (Some(most), [_, program, args @ ..]) = (most, &words[..]) else {
        eprintln!("usage: timeout [SECONDS PROGRAM [ARG...]]");
        return Ok(2.into());
    };
    Ok(futures::executor::block_on(unix::bounded(most, program, args)).into())
}

#[cfg(unix)]
mod unix {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    use futures::AsyncReadExt;
    use reaped::{Command, Error, SpawnReason, Stdio};

    /// In this program's process group, so Ctrl-C reaches the program too. This is `timeout --foreground`, which leaves
    /// the program's children alone. The exit codes are the same as in timeout(1).
    pub(super) async fn bounded(most: Duration, program: &OsStr, args: &[OsString]) -> u8 {
        let error = match Command::new(program).args(args).timeout(most).status().await {
            Ok(status) => {
                let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
                return u8::try_from(code).unwrap_or(u8::MAX);
            }
            Err(error) => error,
        };
        eprintln!("{error}");
        match error {
            Error::TimedOut(_) => 124,
            Error::Spawn { reason: SpawnReason::ProgramNotFound, .. } => 127,
            Error::Spawn { .. } => 126,
            _ => 125,
        }
    }

    pub(super) async fn demonstrate() -> std::io::Result<()> {
        let mut script = Command::new("sh");
        script.args(["-c", "echo half; sleep 100 & sleep 100"]).stdin(Stdio::null());
        script.new_group().timeout(Duration::from_millis(300));
        // A pipe that the shell and both sleeps inherit, and that nobody writes. It ends with the last of them.
        let mut process = script.fd(3, Stdio::output()).spawn()?;
        let mut witness = process.reader(3).expect("a pipe, not taken yet");

        let Err(error) = process.output().await else { return Err(std::io::Error::other("it ended")) };
        println!("{error}");
        let output = error.into_output().expect("it was started");
        println!("it wrote: {}", output.stdout.trim_ascii().escape_ascii());
        witness.read_to_end(&mut Vec::new()).await?;
        println!("nothing of it is left");
        Ok(())
    }
}
