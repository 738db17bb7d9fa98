//! std's `Child` over a `Process`, for code that is written for it: `cargo run --example child`. Needs Unix.

use std::io;
use std::process::{ExitStatus, Output};

use futures::{AsyncReadExt, AsyncWriteExt};
use reaped::{Command, Error, Process, Reader, Writer};

/// As with std's, dropping it leaves the child running. Unlike std's, the child is reaped when it ends.
struct Child {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    id: u32,
    process: Process,
}

impl Child {
    /// Each of the three is `None` if the command connects it elsewhere.
    fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut process = command.kill_on_drop(false).spawn()?;
        let id = process.pid().expect("not reaped yet");
        let (stdin, stdout, stderr) = (process.writer(0), process.reader(1), process.reader(2));
        Ok(Child { stdin, stdout, stderr, id, process })
    }

    fn id(&self) -> u32 {
        self.id
    }

    /// As in std, it is no error if the child has ended.
    fn kill(&mut self) -> io::Result<()> {
        match self.process.control().kill() {
            Err(error) if !matches!(error, Error::AlreadyEnded(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        Ok(self.process.wait().await?)
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    async fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) =
            futures::try_join!(read_to_end(self.stdout.take()), read_to_end(self.stderr.take()))?;
        Ok(Output { status: self.process.wait().await?, stdout, stderr })
    }
}

async fn read_to_end(reader: Option<Reader>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(mut reader) = reader {
        reader.read_to_end(&mut all).await?;
    }
    Ok(all)
}

fn main() -> io::Result<()> {
    if std::env::args().len() > 1 {
        eprintln!("usage: child (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        let mut cat = Child::spawn(&mut Command::new("cat"))?;
        println!("child {} runs: {:?}", cat.id(), cat.try_wait()?);
        cat.stdin.as_mut().expect("a pipe").write_all(b"hello").await?;
        let output = cat.wait_with_output().await?;
        println!("cat said {:?} ({})", String::from_utf8_lossy(&output.stdout), output.status);

        let mut sleep = Child::spawn(Command::new("sleep").arg("1000"))?;
        sleep.kill()?;
        println!("killed: {}", sleep.wait().await?);
        sleep.kill()?; // it has ended, and that is no error

        let mut sh = Child::spawn(Command::new("sh").args(["-c", "exit 3"]))?;
        println!("asked three times: {}, {}, {:?}", sh.wait().await?, sh.wait().await?, sh.try_wait()?);
        Ok(())
    })
}
