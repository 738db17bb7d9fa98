//! The calls at a glance, with programs that every Unix has: `cargo run --example quickstart`.

use reaped::{Command, Error, Stdio};

fn main() -> Result<(), Error> {
    if std::env::args().len() > 1 {
        eprintln!("usage: quickstart (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        println!("run     echo:         (its own stdout)");
        reaped::run("echo", ["        hello from the child"]).await?;

        println!("read    uname -s:     {}", reaped::read("uname", ["-s"]).await?);
        println!("code    sh -c exit 3: {}", reaped::exit_code("sh", ["-c", "exit 3"]).await?);

        let output = reaped::output("sh", ["-c", "echo out; echo err >&2; exit 1"]).await?;
        let (stdout, stderr) =
            (output.stdout.trim_ascii().escape_ascii(), output.stderr.trim_ascii().escape_ascii());
        println!("output  sh:           {}, stdout \"{stdout}\", stderr \"{stderr}\"", output.status);

        let million = Stdio::bytes(vec![b'x'; 1_000_000]);
        println!(
            "feed    wc -c:        {}",
            Command::new("wc").arg("-c").stdin(million).read().await?.trim()
        );

        #[cfg(unix)]
        {
            let mut sh = Command::new("sh");
            sh.args(["-c", "tr a-z A-Z <&3 >&4"]).fd(3, Stdio::bytes("through two more descriptors"));
            let output = sh.fd(4, Stdio::output()).output().await?;
            println!("fds     3 and 4:      {}", output.fd(4).unwrap_or_default().escape_ascii());
        }

        match reaped::read("no-such-program", [""; 0]).await {
            Ok(text) => println!("a program of that name exists and says {text}"),
            Err(error) => println!("error   {error}"),
        }
        match reaped::read("sh", ["-c", "echo no space left >&2; exit 28"]).await {
            Ok(text) => println!("a shell that ignores `exit` says {text}"),
            Err(error) => println!("error   {error}"),
        }
        Ok(())
    })
}
