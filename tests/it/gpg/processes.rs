//! gpg as a process: missing, replaced, misconfigured, killed; and where a secret could show.

use std::io;
use std::path::{Path, PathBuf};

use reaped::gpg::{Decrypt, Decrypted, Error};

use super::refusals::check_error;
use super::{Home, SECRET, block_on};
use crate::support::eventually;

/// A program that takes gpg's place.
fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("false-gpg");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    path
}

/// gpg's report if all is well, without a length.
const FINE: &str = "printf '[GNUPG:] %s\\n' BEGIN_DECRYPTION 'DECRYPTION_INFO 2 9 0' 'PLAINTEXT 62 0' \
                    DECRYPTION_OKAY GOODMDC END_DECRYPTION >&4";

#[test]
fn a_gpg_conf_changes_nothing() {
    let home = Home::with_keys();
    let file = home.path().join("plain.txt");
    let message = home.symmetric(&[], "x");
    let unprotected = home.symmetric(&["--rfc2440", "--cipher-algo", "3DES"], "x");
    let mut bad = message.clone();
    *bad.last_mut().expect("some") ^= 1;
    let settings =
        format!("output {}\nignore-mdc-error\nauto-key-retrieve\nshow-session-key\nquiet\n", file.display());
    std::fs::write(home.path().join("gpg.conf"), settings).expect("written");
    let open = home.open(message.clone(), SECRET).expect("decrypted");
    assert_eq!(open.plaintext, b"x");
    assert!(!file.exists() && !format!("{open:?}").contains("SESSION_KEY"));
    for message in [unprotected, bad] {
        let error = home.refusal(message, SECRET);
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }
    // If gpg does not check the signature, the result has none.
    std::fs::write(home.path().join("gpg.conf"), "skip-verify\n").expect("written");
    let signed = home.seal(home.signed("bob@x", "x"));
    let unseen = block_on(home.decrypt(signed).passphrase(SECRET).require_signature(true).decrypt());
    assert!(matches!(unseen, Err(Error::SignatureMissing(_))), "{unseen:?}");
    std::fs::write(home.path().join("gpg.conf"), "cipher-algo NONE\n").expect("written");
    let error = home.refusal(message, SECRET);
    assert!(matches!(error, Error::Process { .. }), "{error:?}");
    assert!(error.to_string().contains("exited with code 2: "), "{error}");
}

#[test]
fn no_gpg() {
    for name in ["no-such-gpg", "/no/such/gpg"] {
        let error = block_on(Decrypt::new("x").program(name).decrypt()).expect_err("missing");
        assert!(matches!(error, Error::GpgMissing { .. }), "{error:?}");
        assert!(
            error.to_string().contains(name) && error.to_string().ends_with("is GnuPG installed?"),
            "{error}"
        );
        assert!(error.status().is_empty());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
    }
    let error = block_on(Decrypt::new("x").program("/").decrypt()).expect_err("a folder");
    assert!(matches!(error, Error::Process { .. }), "{error:?}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_program_that_is_not_gpg() {
    for name in ["true", "false", "cat", "echo"] {
        let error =
            block_on(Decrypt::new("x").program(name).passphrase(SECRET).decrypt()).expect_err("no gpg");
        assert!(matches!(error, Error::Process { .. }), "{name}: {error:?}");
        check_error(&error, b"x");
    }
}

#[test]
fn a_gpg_that_says_okay_and_fails() {
    let dir = tempfile::tempdir().expect("a folder");
    let text =
        "the quick brown fox jumps over the lazy dog, and then again, until there are a hundred bytes of it";
    let run = |script: String| {
        let path = program(dir.path(), &script);
        block_on(Decrypt::new("x").program(path).passphrase(SECRET).decrypt())
    };
    assert_eq!(run(format!("printf '{text}'; {FINE}")).expect("all is well").plaintext, text.as_bytes());
    for end in ["exit 2", "exit 1", "kill -9 $$", "kill -15 $$", "printf '[GNUPG:] EN' >&4", "echo >&4"] {
        let error = run(format!("printf '{text}'; {FINE}; {end}")).expect_err("failed");
        let Error::Process { source, .. } = &error else { panic!("{end}: {error:?}") };
        assert_eq!(source.output().expect("it ran").stdout, b"", "{end}");
        assert!(!format!("{error} {error:?}").contains("quick brown"), "{error:?}");
        assert_eq!(error.status().len(), 6);
    }
}

/// The secret is in no message, and neither in gpg's arguments nor in its environment.
#[cfg(target_os = "linux")]
#[test]
fn the_passphrase_is_shown_nowhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let look = "cat /proc/$$/cmdline /proc/$$/environ | tr '\\0' '\\n'";
    let path = program(dir.path(), &format!("{look}; cat <&3; {FINE}; {look} >&2; ls /proc/self/fd >&2"));
    let mut decrypt = Decrypt::new("ciphertext");
    decrypt.program(&path).passphrase(SECRET);
    let decryption = decrypt.decrypt();
    let mut shown = format!("{decrypt:?} {decryption:?}");
    let open = block_on(decryption).expect("all is well");
    shown += &format!("{open:?}");
    let text = String::from_utf8(open.plaintext).expect("UTF-8");
    let seen = text.strip_suffix(SECRET).expect("it came through descriptor 3");
    assert!(seen.contains("--passphrase-fd\n3\n") && seen.contains("PATH="), "{seen}");
    program(dir.path(), &format!("{look} >&2; {FINE}; exit 9"));
    let decryption = decrypt.decrypt();
    let error = block_on(decryption).expect_err("exit code 9");
    shown += &format!("{error} {error:?}");
    shown += &format!("{:?}", io::Error::from(error));
    let refused = decrypt.passphrase(format!("{SECRET}\n")).decrypt();
    shown += &format!("{decrypt:?} {refused:?}");
    let error = block_on(refused).expect_err("a line end");
    shown += &format!("{error} {error:?}");
    for text in [seen, &shown] {
        assert!(!text.contains(SECRET) && !text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn real_errors_show_no_secret() {
    let home = Home::with_keys();
    let mut bad = home.symmetric(&["-z", "0"], "a plain text");
    let place = bad.len() - 2;
    bad[place] ^= 4;
    for (message, passphrase) in [(bad, SECRET), (home.public(&[], "a plain text"), "wr0ng s3cr3t")] {
        let error = home.refusal(message, passphrase);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("plain text"), "{shown}");
    }
    let open = home.open(home.symmetric(&[], "a plain text"), SECRET).expect("decrypted");
    let shown = format!("{open:?}");
    assert!(shown.contains("12 bytes") && !shown.contains("plain text"), "{shown}");
}

#[test]
fn dropping_the_future_kills_gpg() {
    let home = Home::with_keys();
    // More than all pipes hold and one poll takes, so gpg is still writing.
    let message = home.symmetric(&["-z", "0"], vec![b'x'; 32 << 20]);
    let mut decrypt = home.decrypt(message);
    for _ in 0..3 {
        let mut decryption = decrypt.passphrase(SECRET).decrypt();
        let pid = decryption.pid().expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
        let waker = futures::task::noop_waker();
        let first = std::pin::Pin::new(&mut decryption).poll(&mut std::task::Context::from_waker(&waker));
        assert!(first.is_pending());
        assert!(rustix::process::test_kill_process(pid).is_ok());
        drop(decryption);
        // A zombie would still count as there.
        eventually("gpg is gone", || rustix::process::test_kill_process(pid).is_err());
    }
}

#[test]
fn futures_and_errors_travel() {
    fn travels<T: Send + Unpin + 'static>(_: &T) {}
    fn shared<T: Send + Sync + 'static>() {}
    travels(&Decrypt::new("x").program("true").decrypt());
    shared::<Error>();
    shared::<Decrypted>();
    shared::<Decrypt>();
    assert!(size_of::<Error>() <= 48, "{}", size_of::<Error>());
}

#[test]
fn time_and_size_are_bounded() {
    let home = Home::with_keys();
    let message = home.symmetric(&[], "x".repeat(100_000));
    let mut decrypt = home.decrypt(message);
    decrypt.passphrase(SECRET);
    assert_eq!(block_on(decrypt.limit(100_000).decrypt()).expect("exactly").plaintext.len(), 100_000);
    match block_on(decrypt.limit(99_999).decrypt()) {
        Err(Error::Process { source: source @ reaped::Error::OutputLimit(_), .. }) => {
            assert!(source.output().expect("it ran").stdout.is_empty(), "nothing has vouched for it");
        }
        other => panic!("{other:?}"),
    }
    let dir = tempfile::tempdir().expect("a folder");
    let stuck = program(dir.path(), "exec sleep 100");
    let stuck = decrypt.program(stuck).limit(u64::MAX).timeout(std::time::Duration::ZERO).decrypt();
    match block_on(stuck) {
        Err(Error::Process { source: reaped::Error::TimedOut(_), .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// A message may have any number of signatures, and gpg reports each.
#[test]
fn report_and_messages_are_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    for fd in [2, 4] {
        let script = format!("while :; do echo '[GNUPG:] NEWSIG'; done >&{fd}");
        let path = program(dir.path(), &script);
        let error = block_on(Decrypt::new("x").program(path).decrypt()).expect_err("no end");
        let Error::Process { source: source @ reaped::Error::OutputLimit(_), .. } = &error else {
            panic!("{error:?}")
        };
        assert!(source.to_string().contains(&format!("1048576 bytes to descriptor {fd} ")), "{source}");
        assert!(source.output().expect("it ran").stderr.len() <= 1 << 20);
        // The bound cuts the last line off.
        assert_eq!(error.status().len(), if fd == 4 { (1 << 20) / 16 } else { 0 });
    }
    // Exactly the bound is no error of this kind.
    let path = program(dir.path(), "head -c 1048576 /dev/zero >&2; exit 7");
    let error = block_on(Decrypt::new("x").program(path).decrypt()).expect_err("no proof");
    let Error::Process { source: source @ reaped::Error::Failed(_), .. } = error else { panic!("{error:?}") };
    assert_eq!(source.into_output().expect("it ran").stderr.len(), 1 << 20);
}

/// The real gpg, with more signatures than the bound has room for.
#[test]
fn very_many_signatures() {
    let home = Home::with_keys();
    let signed = home.signed("bob@x", "x");
    // A packet that announces the signature, the text, and the signature. Each has a tag, a length of one
    // byte, and its bytes (RFC 4880, 4.2).
    let mut packets = Vec::new();
    let mut rest = &signed[..];
    while let [_, length, ..] = *rest {
        let (packet, after) = rest.split_at(2 + usize::from(length));
        packets.push(packet);
        rest = after;
    }
    let [announced, text, signature] = packets[..] else { panic!("{} packets", packets.len()) };
    let message =
        |count: usize| home.seal([&announced.repeat(count)[..], text, &signature.repeat(count)].concat());
    assert_eq!(home.open(message(100), SECRET).expect("decrypted").signatures.len(), 100);
    let error = home.refusal(message(3000), SECRET);
    assert!(matches!(error, Error::Process { source: reaped::Error::OutputLimit(_), .. }), "{error}");
}

/// Even if the plaintext is large, growing, joining and wiping it take no poll longer than one piece does.
#[test]
fn a_large_plaintext_is_joined_and_wiped_in_pieces() {
    const MIB: usize = 48;
    let dir = tempfile::tempdir().expect("a folder");
    // Armoured too, without an end, so the crate has to look at all of it.
    let line = format!("{}\n", "wwQECQAI".repeat(8));
    let message = format!("-----BEGIN PGP MESSAGE-----\n\n{}", line.repeat((4 << 20) / line.len()));
    for (end, proved) in [("exit 0", true), ("exit 2", false)] {
        let script = format!("cat >/dev/null; head -c {MIB}M /dev/zero | tr '\\0' x; {FINE}; {end}");
        let path = program(dir.path(), &script);
        let mut decryption = Decrypt::new(message.clone()).program(path).decrypt();
        let mut polls = 0;
        let ended = block_on(std::future::poll_fn(|cx| {
            // Once gpg is reaped, all of its output was collected.
            polls += usize::from(decryption.pid().is_none());
            std::pin::Pin::new(&mut decryption).poll(cx)
        }));
        match ended {
            Ok(open) => assert!(proved && open.plaintext == vec![b'x'; MIB << 20]),
            Err(error) => assert!(!proved && matches!(error, Error::Process { .. }), "{error:?}"),
        }
        let steps = if proved { MIB - 1 } else { 2 * MIB - 2 };
        assert!(polls >= steps, "{polls} polls for {MIB} MiB");
    }
}
