//! Decryption with the real gpg, and keys made on the spot.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use futures::executor::block_on;
use reaped::gpg::{Decrypt, Decrypted, Error, StatusLine};

use super::helper::pattern;
#[cfg(target_os = "linux")]
use super::support::no_children;
use super::support::{alone, everywhere};

const PASSPHRASE: &str = "corréct horse; battery 'staple'";

/// Whether there is a gpg. Without one a test says that it is skipped, or fails where one is required.
fn there_is_gpg() -> bool {
    let found =
        Command::new("gpg").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    let required = std::env::var_os("REAPED_REQUIRE_GPG").is_some_and(|value| value == "1");
    assert!(found || !required, "gpg is missing, and REAPED_REQUIRE_GPG=1 asks for it");
    if !found {
        println!("skipped: no gpg");
    }
    found
}

/// A folder of keys. Its agent ends with it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        // An agent's socket has a path of at most 107 bytes, unix(7).
        let dir = tempfile::Builder::new().prefix("g").tempdir_in("/tmp").expect("a folder");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).expect("ours");
        std::fs::write(dir.path().join("gpg-agent.conf"), "default-cache-ttl 0\nmax-cache-ttl 0\n")
            .expect("written");
        Home(dir)
    }

    /// With a key of its own, unlocked by the passphrase.
    fn with_key(name: &str) -> Self {
        let home = Home::new();
        home.gpg(
            &["--passphrase", PASSPHRASE, "--quick-gen-key", name, "future-default", "default", "never"],
            b"",
        );
        home
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Runs gpg on some input, for its output.
    fn gpg(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let file = self.0.path().join("input");
        std::fs::write(&file, input).expect("written");
        let output = Command::new("gpg")
            .env("GNUPGHOME", self.0.path())
            .args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--trust-model", "always"])
            .args(["--s2k-count", "1024", "--compress-algo", "none"])
            .args(args)
            .stdin(std::fs::File::open(&file).expect("just written"))
            .output()
            .expect("gpg runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn symmetric(&self, plaintext: &[u8]) -> Vec<u8> {
        self.gpg(&["--passphrase", PASSPHRASE, "--symmetric"], plaintext)
    }

    fn encrypt(&self, plaintext: &[u8], more: &[&str]) -> Vec<u8> {
        self.gpg(
            &[&["--passphrase", PASSPHRASE, "--recipient", "a@example.org", "--encrypt"], more].concat(),
            plaintext,
        )
    }

    fn decrypt(&self, ciphertext: impl Into<Vec<u8>>) -> Decrypt {
        let mut decrypt = Decrypt::new(ciphertext);
        decrypt.homedir(self.path());
        decrypt
    }

    fn open(&self, ciphertext: impl Into<Vec<u8>>, passphrase: &str) -> Result<Decrypted, Error> {
        block_on(self.decrypt(ciphertext).passphrase(passphrase).decrypt())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut kill = Command::new("gpgconf");
        kill.arg("--homedir").arg(self.0.path()).args(["--kill", "all"]);
        let _: std::io::Result<std::process::Output> = kill.output();
    }
}

fn said(lines: &[StatusLine], keyword: &str) -> bool {
    lines.iter().any(|line| line.keyword == keyword)
}

#[test]
fn every_size_and_form() {
    if !there_is_gpg() {
        return;
    }
    let home = Home::with_key("a@example.org");
    for size in [0, 1, 100_000, 64 << 20] {
        let plaintext = pattern(size);
        let mut messages = vec![home.symmetric(&plaintext), home.encrypt(&plaintext, &[])];
        if size <= 100_000 {
            messages.push(home.encrypt(&plaintext, &["--armor"]));
            messages.push(home.gpg(&["--armor", "--passphrase", PASSPHRASE, "--symmetric"], &plaintext));
        }
        for message in messages {
            let letter = home.open(message, PASSPHRASE).expect("decrypts");
            assert!(letter.plaintext == plaintext, "{size} bytes");
            assert!(said(&letter.status, "DECRYPTION_OKAY") && letter.signatures.is_empty());
        }
    }
}

#[test]
fn under_every_executor() {
    if !there_is_gpg() {
        return;
    }
    let home = Home::new();
    let message = home.symmetric(b"hello");
    let path = home.path();
    everywhere(move || {
        let (message, path) = (message.clone(), path.clone());
        async move {
            let mut decrypt = Decrypt::new(message);
            decrypt.homedir(path).passphrase(PASSPHRASE);
            assert_eq!(decrypt.decrypt().await.expect("decrypts").plaintext, b"hello");
            // The same once more, and another one while it runs.
            let (one, two) = futures::future::join(decrypt.decrypt(), decrypt.decrypt()).await;
            assert_eq!(one.expect("decrypts").plaintext, two.expect("decrypts").plaintext);
            let error = decrypt.passphrase("wrong").decrypt().await.expect_err("wrong");
            assert!(matches!(error, Error::WrongPassphrase { .. }), "{error}");
        }
    });
}

#[test]
fn the_one_line() {
    if !there_is_gpg() {
        return;
    }
    alone("gpg::the_one_line", || {
        let home = Home::new();
        let message = home.symmetric(b"hello");
        // In a process of its own, so that the variable is no other test's.
        unsafe { std::env::set_var("GNUPGHOME", home.path()) };
        assert_eq!(
            block_on(reaped::gpg::decrypt(message, PASSPHRASE)).expect("decrypts").plaintext,
            b"hello"
        );
    });
}

#[test]
fn wrong_and_missing_passphrases_and_keys() {
    if !there_is_gpg() {
        return;
    }
    let home = Home::with_key("a@example.org");
    let (symmetric, public) = (home.symmetric(b"secret text"), home.encrypt(b"secret text", &[]));
    for message in [&symmetric, &public] {
        for passphrase in ["wrong", ""] {
            let error = home.open(message.clone(), passphrase).expect_err("wrong");
            assert!(matches!(error, Error::WrongPassphrase { .. }), "{passphrase:?}: {error:?}");
            assert!(!error.status().is_empty());
        }
        let error = block_on(home.decrypt(message.clone()).decrypt()).expect_err("none given");
        assert!(matches!(error, Error::WrongPassphrase { .. }), "{error:?}");
    }
    let stranger = Home::new();
    let error = stranger.open(public, PASSPHRASE).expect_err("no key");
    assert!(matches!(error, Error::NoSecretKey { .. }), "{error:?}");
    assert_eq!(error.to_string(), "gpg: no secret key for this message");
    for bad in ["line\nend", "line\rend", "nul\0"] {
        let error = home.open(symmetric.clone(), bad).expect_err("cannot be given");
        assert!(matches!(error, Error::InvalidPassphrase), "{error:?}");
    }
}

#[test]
fn damaged_messages_give_nothing() {
    if !there_is_gpg() {
        return;
    }
    let home = Home::with_key("a@example.org");
    let plaintext = b"a text that must not be seen, for the message was changed".repeat(10);
    for message in [home.symmetric(&plaintext), home.encrypt(&plaintext, &[])] {
        let mut seen = 0;
        for cut in (1..message.len()).step_by(message.len() / 12) {
            let error = home.open(&message[..cut], PASSPHRASE).expect_err("cut off");
            assert_no_plaintext(&error, b"must not be seen");
            seen += usize::from(matches!(error, Error::Damaged { .. }));
        }
        // In its first bytes it is another thing: no message at all, or another passphrase's or key's.
        assert!(seen >= 5, "{seen} of the cuts");
        let mut seen = 0;
        for place in (0..message.len()).step_by(message.len() / 20) {
            let mut flipped = message.clone();
            flipped[place] ^= 0x10;
            match home.open(flipped, PASSPHRASE) {
                Err(error) => {
                    assert_no_plaintext(&error, b"must not be seen");
                    seen += usize::from(matches!(error, Error::Damaged { .. }));
                }
                // Not every bit of a header means something.
                Ok(letter) => assert!(letter.plaintext == plaintext, "flipped at {place}"),
            }
        }
        assert!(seen >= 10, "{seen} of the flips");
    }
    // The last byte is the check's own.
    let mut last = home.symmetric(&plaintext);
    *last.last_mut().expect("not empty") ^= 1;
    let error = home.open(last, PASSPHRASE).expect_err("changed");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert_eq!(error.to_string(), "gpg: the message is damaged");
    // A message with another text behind it.
    let mut twice = home.symmetric(b"one");
    twice.extend(home.gpg(&["--store"], b"two"));
    assert_no_plaintext(&home.open(twice, PASSPHRASE).expect_err("two texts"), b"two");
}

/// Nowhere in what an error shows or carries.
fn assert_no_plaintext(error: &Error, plaintext: &[u8]) {
    let shown = format!("{error:?} {error}");
    assert!(!shown.contains(&*String::from_utf8_lossy(plaintext)), "{shown}");
    if let Error::Process { source, .. } = error {
        assert!(source.output().is_none_or(|output| output.stdout.is_empty()), "{source:?}");
    }
}

#[test]
fn what_is_no_encrypted_message() {
    if !there_is_gpg() {
        return;
    }
    let home = Home::with_key("a@example.org");
    let signed = home.gpg(&["--passphrase", PASSPHRASE, "--sign"], b"signed, and open");
    for input in [b"".to_vec(), b"garbage".to_vec(), signed, home.gpg(&["--store"], b"open")] {
        let error = home.open(input, PASSPHRASE).expect_err("not encrypted");
        assert!(matches!(error, Error::NotEncrypted { .. }), "{error:?}");
        assert_no_plaintext(&error, b"open");
    }
}

#[test]
fn signatures() {
    if !there_is_gpg() {
        return;
    }
    let home = Home::with_key("a@example.org");
    let signed = home.encrypt(b"signed", &["--sign"]);
    let letter = home.open(signed.clone(), PASSPHRASE).expect("decrypts");
    assert_eq!((&letter.plaintext[..], letter.signatures.len()), (&b"signed"[..], 1));
    assert!(letter.signatures[0].good);
    let listed = home.gpg(&["--list-keys", "--with-colons"], b"");
    assert!(String::from_utf8_lossy(&listed).contains(&letter.signatures[0].primary));
    let letter = block_on(home.decrypt(signed).passphrase(PASSPHRASE).require_signature(true).decrypt());
    assert_eq!(letter.expect("decrypts").plaintext, b"signed");

    let error = block_on(
        home.decrypt(home.encrypt(b"not signed", &[]))
            .passphrase(PASSPHRASE)
            .require_signature(true)
            .decrypt(),
    );
    let error = error.expect_err("no signature");
    assert!(matches!(error, Error::SignatureMissing { .. }), "{error:?}");
    assert_no_plaintext(&error, b"not signed");

    // A signature of somebody else's, whose key is not here.
    let stranger = Home::with_key("b@example.org");
    let key = home.gpg(&["--export", "a@example.org"], b"");
    stranger.gpg(&["--import"], &key);
    let unknown = stranger.encrypt(b"from a stranger", &["--sign", "--local-user", "b@example.org"]);
    let letter = home.open(unknown.clone(), PASSPHRASE).expect("decrypts all the same");
    assert_eq!((&letter.plaintext[..], letter.signatures.len()), (&b"from a stranger"[..], 0));
    assert!(said(&letter.status, "ERRSIG"));
    let error = block_on(home.decrypt(unknown).passphrase(PASSPHRASE).require_signature(true).decrypt());
    let error = error.expect_err("nobody known");
    assert!(matches!(error, Error::SignatureMissing { .. }), "{error:?}");

    // A bad signature inside an encryption that is intact: what was signed is changed, then encrypted as it is.
    let mut forged = home.gpg(&["--passphrase", PASSPHRASE, "--sign"], b"pay 1 coin");
    let place = forged.windows(10).position(|bytes| bytes == b"pay 1 coin").expect("not compressed");
    forged[place + 4] = b'9';
    let forged = home.encrypt(&forged, &["--no-literal"]);
    for require in [false, true] {
        let result = block_on(
            home.decrypt(forged.clone()).passphrase(PASSPHRASE).require_signature(require).decrypt(),
        );
        let error = result.expect_err("a bad signature");
        assert!(matches!(error, Error::BadSignature { .. }), "{error:?}");
        assert_no_plaintext(&error, b"pay 9 coin");
    }
}

#[test]
fn no_gpg_at_the_path() {
    let error =
        block_on(Decrypt::new("x").program("/nowhere/gpg").passphrase("p").decrypt()).expect_err("missing");
    assert!(matches!(error, Error::GpgMissing { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "gpg is missing: cannot start `/nowhere/gpg --batch --no-tty --status-fd 4 --no-auto-key-retrieve --no-symkey-cache --pinentry-mode loopback --passphrase-fd 3 --decrypt`: program not found"
    );
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
}

/// A program in gpg's place that tells what it was given: all the passphrase is in is its descriptor.
#[test]
fn the_passphrase_is_nowhere_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let spy = dir.path().join("spy");
    let script = "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/cmdline >&2; tr '\\0' '\\n' </proc/$$/environ >&2\n\
                  echo plaintext; echo \"[GNUPG:] PASSPHRASE $(cat <&3)\" | sed 's/hunter2/*/' >&4; exit 9\n";
    std::fs::write(&spy, script).expect("written");
    std::fs::set_permissions(&spy, PermissionsExt::from_mode(0o755)).expect("ours");
    let mut decrypt = Decrypt::new("the message");
    decrypt.program(&spy).passphrase("hunter2");
    let running = decrypt.decrypt();
    let shown = format!("{decrypt:?} {running:?}");
    let error = block_on(running).expect_err("no gpg");
    assert!(matches!(error, Error::Process { .. }));
    assert!(said(error.status(), "PASSPHRASE") && error.status()[0].args == "*", "it came: {error:?}");
    let Error::Process { source, .. } = &error else { unreachable!() };
    let output = source.output().expect("it ran");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--passphrase-fd"), "the command line was told");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for text in [shown, told, format!("{error:?} {error}")] {
        assert!(!text.contains("hunter2") && !text.contains("the message"), "{text}");
        assert!(!text.contains("echo plaintext") && !text.contains("\"plaintext"), "{text}");
    }
    assert!(output.stdout.is_empty(), "what it wrote is no plaintext that anyone vouches for");
}

/// Whatever is said, a success needs all of it; and a gpg that was killed has said nothing.
#[test]
fn a_killed_gpg_gives_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let fake = dir.path().join("gpg");
    let script = "#!/bin/sh\necho plaintext\nfor l in BEGIN_DECRYPTION DECRYPTION_OKAY GOODMDC END_DECRYPTION; do \
                  echo \"[GNUPG:] $l\" >&4; done\nkill -9 $$\n";
    std::fs::write(&fake, script).expect("written");
    std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o755)).expect("ours");
    let error = block_on(Decrypt::new("x").program(&fake).decrypt()).expect_err("killed");
    assert!(matches!(error, Error::Process { .. }), "{error:?}");
    assert_no_plaintext(&error, b"plaintext");
    assert!(error.to_string().contains("SIGKILL"), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn dropping_it_kills_gpg() {
    alone("gpg::dropping_it_kills_gpg", || {
        let mut decrypt = Decrypt::new(vec![0; 1 << 20]);
        drop(decrypt.program("yes").decrypt());
        let running = decrypt.program("cat").passphrase("p").decrypt();
        drop(running);
        no_children();
    });
}
