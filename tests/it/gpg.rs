//! Decryption with the real gpg, in homes of its own: what must work.

mod aead;
mod attempts;
mod processes;
mod refusals;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use reaped::gpg::{self, Decrypt, Decrypted, Error};
use reaped::{Command, Stdio};

use super::harness::skip;
use super::support::everywhere;

const PASSPHRASE: &str = "pässword ünd more";
/// The passphrase of messages that have no other key.
const SECRET: &str = "s3cr3t wörds";

/// If the agent remembered a passphrase, it would open what a wrong one must not open. A passphrase need not
/// be expensive to try.
const AGENT: &str = "default-cache-ttl 0\nmax-cache-ttl 0\ns2k-count 65536\n";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Skips the test if there is no gpg.
pub fn needed() {
    static FOUND: OnceLock<bool> = OnceLock::new();
    if !FOUND.get_or_init(|| block_on(reaped::read("gpg", ["--version"])).is_ok()) {
        assert!(
            std::env::var_os("REAPED_REQUIRE_GPG").is_none(),
            "REAPED_REQUIRE_GPG is set, and gpg is missing"
        );
        skip("gpg is missing");
    }
}

/// A folder for gpg. When it is dropped, nothing is left of its agent.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn empty() -> Home {
        // A short path, because the path of the agent's socket has 108 bytes at most.
        let mut dir = tempfile::Builder::new();
        let dir = dir.prefix("gpg").permissions(PermissionsExt::from_mode(0o700)).tempdir_in("/tmp");
        let dir = dir.expect("a folder");
        let home = Home(dir);
        std::fs::write(home.path().join("gpg-agent.conf"), AGENT).expect("written");
        home
    }

    /// With the secret keys of alice (`PASSPHRASE` opens it) and bob (without a passphrase), and the public
    /// key of victor, which has expired.
    fn with_keys() -> Home {
        // The keys are made once and kept as files, because a home in a static would never be dropped.
        static KEYS: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
        needed();
        let keys = KEYS.get_or_init(|| {
            let home = Home::empty();
            home.make_key("alice@x", PASSPHRASE, &[]);
            home.make_key("bob@x", "", &[]);
            let past = Home::empty();
            past.make_key("victor@x", "", &["--faked-system-time", "20200101T000000"]);
            home.gpg(&["--import"], past.gpg(&["--export", "victor@x"], ""));
            let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
            while let Some(folder) = folders.pop() {
                for entry in home.path().join(&folder).read_dir().expect("a folder").flatten() {
                    let (name, kind) = (folder.join(entry.file_name()), entry.file_type().expect("a type"));
                    if kind.is_dir() {
                        folders.push(name);
                    } else if kind.is_file() && !name.ends_with("random_seed") {
                        files.push((name, std::fs::read(entry.path()).expect("readable")));
                    }
                }
            }
            files
        });
        let home = Home::empty();
        for (name, bytes) in keys {
            let path = home.path().join(name);
            let folder = path.parent().expect("a folder");
            std::fs::create_dir_all(folder).expect("made");
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).expect("closed");
            std::fs::write(path, bytes).expect("written");
        }
        home
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_key(&self, name: &str, passphrase: &str, more: &[&str]) {
        let expiry = if more.is_empty() { "never" } else { "1d" };
        let args = ["--passphrase", passphrase, "--quick-gen-key", name, "future-default", "default", expiry];
        self.gpg(&[more, &args].concat(), "");
    }

    /// gpg's output for this input. gpg never asks, and must succeed.
    fn gpg(&self, args: &[&str], input: impl Into<Vec<u8>>) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--no-tty", "--yes", "--pinentry-mode", "loopback"]);
        command.args(["--trust-model", "always", "--s2k-count", "65536", "--no-symkey-cache", "--homedir"]);
        command.arg(self.path()).args(args).stdin(Stdio::bytes(input));
        block_on(command.read_bytes()).expect("gpg works")
    }

    /// Encrypted with `SECRET`.
    fn symmetric(&self, args: &[&str], text: impl Into<Vec<u8>>) -> Vec<u8> {
        self.gpg(&[&["--passphrase", SECRET], args, &["--symmetric"]].concat(), text)
    }

    fn public(&self, args: &[&str], text: impl Into<Vec<u8>>) -> Vec<u8> {
        self.gpg(&[&["-r", "alice@x"], args, &["--encrypt"]].concat(), text)
    }

    /// Signed, and neither encrypted nor compressed.
    fn signed(&self, by: &str, text: &str) -> Vec<u8> {
        self.gpg(&["--passphrase", PASSPHRASE, "-z", "0", "-u", by, "--sign"], text)
    }

    /// Encrypts OpenPGP packets as they are.
    fn seal(&self, packets: impl Into<Vec<u8>>) -> Vec<u8> {
        self.symmetric(&["--no-literal", "-z", "0"], packets)
    }

    fn decrypt(&self, message: impl Into<Vec<u8>>) -> Decrypt {
        let mut decrypt = Decrypt::new(message);
        decrypt.homedir(self.path());
        decrypt
    }

    fn open(&self, message: impl Into<Vec<u8>>, passphrase: &str) -> Result<Decrypted, Error> {
        block_on(self.decrypt(message).passphrase(passphrase).decrypt())
    }

    fn refusal(&self, message: impl Into<Vec<u8>>, passphrase: &str) -> Error {
        self.open(message, passphrase).expect_err("no plaintext")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut kill = std::process::Command::new("gpgconf");
        let _ = kill.arg("--homedir").arg(self.path()).args(["--kill", "gpg-agent"]).output();
    }
}

#[test]
fn both_kinds_under_every_executor() {
    let home = Home::with_keys();
    let symmetric = home.symmetric(&["--armor"], "with a passphrase");
    let public = home.public(&["-u", "alice@x", "--passphrase", PASSPHRASE, "--sign"], "to a key");
    let path = home.path().to_owned();
    everywhere(move || {
        let (symmetric, public, path) = (symmetric.clone(), public.clone(), path.clone());
        async move {
            let both = futures::future::join(
                Decrypt::new(symmetric).homedir(&path).passphrase(SECRET).decrypt(),
                Decrypt::new(public).homedir(&path).passphrase(PASSPHRASE).require_signature(true).decrypt(),
            );
            let (symmetric, public) = both.await;
            assert_eq!(symmetric.expect("decrypted").plaintext, b"with a passphrase");
            let public = public.expect("decrypted");
            assert_eq!(public.plaintext, b"to a key");
            assert_eq!(public.signatures[0].user_id.as_deref(), Some("alice@x"));
            assert_eq!(public.status.last().expect("some").keyword(), "END_DECRYPTION");
        }
    });
}

/// The call in one line, with the user's own home.
#[test]
fn one_line() {
    needed();
    super::support::alone("gpg::one_line", || {
        let home = Home::empty();
        // SAFETY: this process runs only this test, and no other thread of it reads the environment.
        unsafe { std::env::set_var("GNUPGHOME", home.path()) };
        let message = home.symmetric(&[], "one line");
        let decrypted = block_on(gpg::decrypt(message, SECRET)).expect("decrypted");
        assert_eq!(decrypted.plaintext, b"one line");
    });
}

#[test]
fn sizes() {
    let home = Home::with_keys();
    for size in [0, 1, 2, 65_535, 65_536, 1_000_003] {
        let text: Vec<u8> = (0..size).map(|n: u32| (n ^ (n >> 8)) as u8).collect();
        for args in [&["--armor"][..], &["-z", "0"], &[]] {
            let open = home.open(home.symmetric(args, text.clone()), SECRET).expect("decrypted");
            assert!(open.plaintext == text, "{size} bytes, {args:?}");
            let open = home.open(home.public(args, text.clone()), PASSPHRASE).expect("decrypted");
            assert!(open.plaintext == text, "{size} bytes, {args:?}, to a key");
        }
    }
}

#[test]
fn large() {
    let home = Home::with_keys();
    let text: Vec<u8> = (0..64 << 20_u32).map(|n: u32| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let message = home.symmetric(&["--compress-algo", "none", "-z", "0"], text.clone());
    let open = home.open(message, SECRET).expect("decrypted");
    assert!(open.plaintext == text);
}

/// Text that looks like a report goes to stdout, and stdout is never read as a report.
#[test]
fn a_plaintext_that_lies() {
    let home = Home::with_keys();
    let text = "[GNUPG:] BADMDC\n[GNUPG:] DECRYPTION_FAILED\n[GNUPG:] BADSIG FA T\n";
    assert_eq!(home.open(home.symmetric(&[], text), SECRET).expect("decrypted").plaintext, text.as_bytes());
}

#[test]
fn a_builder_runs_again() {
    let home = Home::with_keys();
    let mut decrypt = home.decrypt(home.symmetric(&[], "again"));
    let runs: Vec<_> = (0..4).map(|_| decrypt.passphrase(SECRET).decrypt()).collect();
    for run in runs {
        assert_eq!(block_on(run).expect("decrypted").plaintext, b"again");
    }
    let wrong = block_on(decrypt.passphrase("wrong").decrypt());
    assert!(matches!(wrong, Err(Error::WrongPassphrase(_))), "{wrong:?}");
    let run = decrypt.passphrase(SECRET).decrypt();
    drop(decrypt);
    assert_eq!(block_on(run).expect("decrypted").plaintext, b"again");
}

#[test]
fn passphrases_of_any_bytes() {
    let home = Home::with_keys();
    let long = "x".repeat(300);
    for passphrase in ["\r", " ", "a\tb ", "пароль 密码 🔑", "\u{1b}[2J", "'\"$(id)%s\\", &long] {
        let message = home.gpg(&["--passphrase", passphrase, "--symmetric"], "x");
        assert!(home.open(message, passphrase).is_ok(), "{passphrase:?}");
    }
    let odd = [0xff, 0xfe, b'x', 0x80];
    let mut encrypt = Command::new("gpg");
    encrypt.args([
        "--batch",
        "--pinentry-mode",
        "loopback",
        "--passphrase-fd",
        "3",
        "--symmetric",
        "--homedir",
    ]);
    encrypt.arg(home.path()).fd(3, Stdio::secret(odd)).stdin(Stdio::bytes("x"));
    let message = block_on(encrypt.read_bytes()).expect("encrypted");
    block_on(home.decrypt(message).passphrase(odd).decrypt()).expect("decrypted");
}

#[test]
fn a_key_without_a_passphrase() {
    let home = Home::with_keys();
    let message = home.gpg(&["-r", "bob@x", "--encrypt"], "for bob");
    assert_eq!(block_on(home.decrypt(message.clone()).decrypt()).expect("open").plaintext, b"for bob");
    assert!(home.open(message.clone(), "").is_ok());
    assert!(home.open(message, "not needed").is_ok());
    // For alice, bob and a passphrase: each of them opens it.
    let recipients = ["-r", "alice@x", "-r", "bob@x", "--encrypt", "--passphrase", SECRET, "--symmetric"];
    let message = home.gpg(&recipients, "for all");
    for passphrase in [PASSPHRASE, "whatever"] {
        assert_eq!(home.open(message.clone(), passphrase).expect("open").plaintext, b"for all");
    }
    let stranger = Home::empty();
    assert_eq!(stranger.open(message.clone(), SECRET).expect("open").plaintext, b"for all");
    assert!(matches!(stranger.refusal(message, "wrong"), Error::WrongPassphrase(_)));
}

/// An agent that remembers passphrases must not open a message without its passphrase.
#[test]
fn no_passphrase_is_remembered_for_a_message() {
    let home = Home::with_keys();
    std::fs::remove_file(home.path().join("gpg-agent.conf")).expect("there");
    let message = home.symmetric(&[], "x");
    assert!(home.open(message.clone(), SECRET).is_ok());
    assert!(matches!(home.refusal(message.clone(), "wrong"), Error::WrongPassphrase(_)));
    assert!(block_on(home.decrypt(message).decrypt()).is_err());
}
