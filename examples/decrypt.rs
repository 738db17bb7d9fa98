//! Makes a key in a folder of its own, encrypts a message to it, and decrypts the message in one line.
//!
//! `cargo run --example decrypt`, or with a message: `cargo run --example decrypt -- "some words"`

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let message = match &args[..] {
        [] => "attack at dawn",
        [message] if !message.starts_with('-') => message,
        _ => {
            eprintln!("usage: decrypt [MESSAGE]");
            return ExitCode::from(2);
        }
    };
    match futures::executor::block_on(demo::run(message)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decrypt: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
mod demo {
    use std::error::Error;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use reaped::{Command, SpawnReason, Stdio, gpg};

    const PASSPHRASE: &str = "correct horse battery staple";

    pub(crate) async fn run(message: &str) -> Result<(), Box<dyn Error>> {
        match reaped::read("gpg", ["--version"]).await {
            Ok(version) => println!("{}", version.lines().next().unwrap_or_default()),
            Err(reaped::Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }) => {
                return Err("there is no gpg on this machine; please install GnuPG".into());
            }
            Err(error) => return Err(error.into()),
        }
        // A short path, because the agent's socket is in it. The folder is removed when the function ends.
        let mut home = tempfile::Builder::new();
        let home = home.prefix("gpg").permissions(PermissionsExt::from_mode(0o700)).tempdir_in("/tmp")?;
        let result = encrypt_and_decrypt(home.path(), message).await;
        // gpg has left an agent running for this folder.
        reaped::output(
            "gpgconf",
            ["--homedir".as_ref(), home.path(), "--kill".as_ref(), "gpg-agent".as_ref()],
        )
        .await?;
        result
    }

    async fn encrypt_and_decrypt(home: &Path, message: &str) -> Result<(), Box<dyn Error>> {
        let make = ["--quick-gen-key", "Alice <alice@example.org>", "future-default", "default", "never"];
        gpg(home, "").args(make).run().await?;
        println!("made a key for Alice");
        let encrypt = ["--trust-model", "always", "--recipient", "alice@example.org", "--sign", "--encrypt"];
        let ciphertext = gpg(home, message).args(encrypt).read_bytes().await?;
        println!("{} bytes became {} encrypted ones", message.len(), ciphertext.len());

        let decrypted = gpg::Decrypt::new(ciphertext).homedir(home).passphrase(PASSPHRASE).decrypt().await?;

        println!("decrypted: {}", String::from_utf8_lossy(&decrypted.plaintext));
        for signature in &decrypted.signatures {
            let by = signature.user_id.as_deref().unwrap_or("somebody unknown");
            println!("signed by: {by} ({:?})", signature.validity);
        }
        Ok(())
    }

    /// Runs gpg for tasks that this crate has no call for.
    fn gpg(home: &Path, input: &str) -> Command {
        let mut command = Command::new("gpg");
        command.args([
            "--batch",
            "--quiet",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase-fd",
            "3",
        ]);
        command.arg("--homedir").arg(home).fd(3, Stdio::secret(PASSPHRASE)).stdin(Stdio::bytes(input));
        // It prints each file that it makes.
        command.stderr(Stdio::output());
        command
    }
}

#[cfg(not(unix))]
mod demo {
    pub(crate) async fn run(_message: &str) -> Result<(), Box<dyn std::error::Error>> {
        Err("gpg's descriptors are a matter of Unix".into())
    }
}
