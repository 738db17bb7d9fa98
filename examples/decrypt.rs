//! Makes a key in a temporary folder, encrypts with it, and decrypts in one line:
//! `cargo run --example decrypt`.

use std::error::Error;

#[cfg(unix)]
fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().len() > 1 {
        eprintln!("usage: decrypt (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        // gpg wants a folder that is only ours, with a short name; tempfile makes it so.
        let home = tempfile::Builder::new().prefix("g").tempdir_in("/tmp")?;
        let result = make_and_decrypt(home.path()).await;
        reaped::Command::new("gpgconf")
            .arg("--homedir")
            .arg(home.path())
            .args(["--kill", "all"])
            .exit_code()
            .await?;
        result
    })
}

#[cfg(unix)]
async fn make_and_decrypt(home: &std::path::Path) -> Result<(), Box<dyn Error>> {
    use reaped::gpg::Decrypt;
    use reaped::{Command, Stdio};

    let gpg = |args: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(home).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        gpg.args(["--passphrase-fd", "3"]).fd(3, Stdio::secret("hunter2")).args(args);
        gpg
    };
    gpg(&["--quick-gen-key", "alice@example.org", "future-default", "default", "never"])
        .output()
        .await?
        .check()?;
    println!("made a key");

    let mut encrypt = gpg(&["--trust-model", "always", "--recipient", "alice@example.org", "--encrypt"]);
    let letter = encrypt.stdin(Stdio::bytes("attack at dawn")).read_bytes().await?;
    println!("encrypted to {} bytes", letter.len());

    let opened = Decrypt::new(letter.clone()).homedir(home).passphrase("hunter2").decrypt().await?;
    println!("decrypted: {}", String::from_utf8_lossy(&opened.plaintext));

    let mut cut = letter;
    cut.truncate(cut.len() - 10);
    match Decrypt::new(cut).homedir(home).passphrase("hunter2").decrypt().await {
        Ok(_) => Err("half a message was taken for a whole one".into()),
        Err(error) => {
            println!("cut off: {error}");
            Ok(())
        }
    }
}

#[cfg(not(unix))]
fn main() -> Result<(), Box<dyn Error>> {
    Err("this example needs Unix".into())
}
