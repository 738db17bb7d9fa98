//! What a run of gpg amounts to: from its status lines and its exit code to a verdict. Knows no process
//! and no plaintext.
//!
//! Rule: it fails closed. There is a plaintext only where gpg said that the decryption succeeded *and* that
//! the integrity check passed, nothing it said speaks against that, and its exit code is explained.

use super::Signature;
use super::status::StatusLine;

/// Why there is no plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    WrongPassphrase,
    NoSecretKey,
    Damaged,
    NotEncrypted,
    BadSignature,
    SignatureMissing,
    /// gpg failed for a reason that its status lines do not tell.
    Unexplained,
}

/// The low bits of an error code, as libgpg-error numbers them.
mod code {
    pub(super) const BAD_PASSPHRASE: u32 = 11;
    pub(super) const NO_PASSPHRASE: u32 = 177;
    pub(super) const NO_PIN_ENTRY: u32 = 85;
    pub(super) const CANCELED: u32 = 99;
}

pub(super) fn verdict(
    lines: &[StatusLine],
    exit_code: Option<i32>,
    require_signature: bool,
) -> Result<Vec<Signature>, Fault> {
    let said = |keyword: &str| lines.iter().any(|line| line.keyword == keyword);
    let signatures = signatures(lines);
    let bad_signature = said("BADSIG");
    // Without a code it was killed, by whomever and wherever it stood.
    let Some(exit_code) = exit_code else { return Err(Fault::Unexplained) };
    if said("BADMDC") {
        return Err(Fault::Damaged);
    }
    if !said("BEGIN_DECRYPTION") && !said("DECRYPTION_FAILED") {
        let begun = said("ENC_TO") || said("NEED_PASSPHRASE_SYM");
        let other = said("NODATA") || said("PLAINTEXT") || said("UNEXPECTED") || said("NEWSIG");
        return Err(match (begun, other) {
            (true, _) => Fault::Damaged,
            (false, true) => Fault::NotEncrypted,
            (false, false) => Fault::Unexplained,
        });
    }
    if said("DECRYPTION_FAILED") {
        return Err(failure(lines));
    }
    if bad_signature {
        return Err(Fault::BadSignature);
    }
    let checked = said("GOODMDC") || lines.iter().any(is_aead);
    if !said("DECRYPTION_OKAY") || !said("END_DECRYPTION") || !checked {
        return Err(if exit_code == 0 { Fault::Damaged } else { failure(lines) });
    }
    // Something was put before or behind the encrypted part, and gpg has written that too.
    if lines.iter().filter(|line| line.keyword == "PLAINTEXT").count() > 1 || said("UNEXPECTED") {
        return Err(Fault::Damaged);
    }
    let unchecked = said("ERRSIG");
    // gpg fails where it could not check a signature; that alone is no fault of the message.
    if exit_code != 0 && !unchecked {
        return Err(Fault::Unexplained);
    }
    if require_signature && !signatures.iter().any(|signature| signature.good) {
        return Err(Fault::SignatureMissing);
    }
    Ok(signatures)
}

/// Of a decryption that failed, or never said that it succeeded.
fn failure(lines: &[StatusLine]) -> Fault {
    let said = |keyword: &str| lines.iter().any(|line| line.keyword == keyword);
    let wrong = [code::BAD_PASSPHRASE, code::NO_PASSPHRASE, code::NO_PIN_ENTRY, code::CANCELED];
    let refused = lines.iter().filter(|line| line.keyword == "ERROR").filter_map(error_code);
    if said("BAD_PASSPHRASE") || said("MISSING_PASSPHRASE") || refused.into_iter().any(|c| wrong.contains(&c))
    {
        Fault::WrongPassphrase
    } else if said("NO_SECKEY") && !said("DECRYPTION_KEY") && !said("DECRYPTION_INFO") {
        Fault::NoSecretKey
    } else {
        Fault::Damaged
    }
}

/// `ERROR <location> <code>`, where the code is a number that may have a name behind it; its upper half
/// names the part of GnuPG that failed.
fn error_code(line: &StatusLine) -> Option<u32> {
    let word = line.words().nth(1)?;
    let digits = word.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(digits.parse::<u32>().ok()? & 0xffff)
}

/// `DECRYPTION_INFO <mdc_method> <sym_algo> [<aead_algo>]`: with AEAD the check is part of the
/// decryption, and no GOODMDC is said by every version.
fn is_aead(line: &StatusLine) -> bool {
    line.keyword == "DECRYPTION_INFO"
        && line.words().nth(2).is_some_and(|algorithm| !matches!(algorithm, "" | "0"))
}

/// A VALIDSIG follows the line that tells the state of the key: only after GOODSIG is all well.
fn signatures(lines: &[StatusLine]) -> Vec<Signature> {
    let mut state = "";
    let mut found = Vec::new();
    for line in lines {
        match &*line.keyword {
            "NEWSIG" => state = "",
            "GOODSIG" | "EXPSIG" | "EXPKEYSIG" | "REVKEYSIG" => state = &line.keyword,
            "VALIDSIG" => {
                let fingerprint = line.words().next().unwrap_or_default().to_owned();
                let primary = line.words().nth(9).unwrap_or(&fingerprint).to_owned();
                found.push(Signature { good: state == "GOODSIG", fingerprint, primary });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OKAY: &str =
        "BEGIN_DECRYPTION|DECRYPTION_INFO 2 9 0|PLAINTEXT 62 0 x|DECRYPTION_OKAY|GOODMDC|END_DECRYPTION";

    fn judge(lines: &str, exit_code: Option<i32>, require_signature: bool) -> Result<usize, Fault> {
        let text: String = lines.split('|').map(|line| format!("[GNUPG:] {line}\n")).collect();
        verdict(&StatusLine::parse(text.as_bytes()), exit_code, require_signature).map(|found| found.len())
    }

    #[test]
    fn all_is_well() {
        assert_eq!(judge(OKAY, Some(0), false), Ok(0));
        let aead = OKAY.replace("2 9 0", "0 9 2").replace("GOODMDC|", "");
        assert_eq!(judge(&aead, Some(0), false), Ok(0));
    }

    #[test]
    fn each_missing_line_fails() {
        for missing in ["BEGIN_DECRYPTION", "DECRYPTION_OKAY", "GOODMDC", "END_DECRYPTION"] {
            let lines: Vec<&str> = OKAY.split('|').filter(|line| *line != missing).collect();
            assert!(judge(&lines.join("|"), Some(0), false).is_err(), "without {missing}");
        }
        assert_eq!(judge("", Some(0), false), Err(Fault::Unexplained));
    }

    #[test]
    fn each_line_against_it_fails() {
        let with = |line: &str| judge(&format!("{OKAY}|{line}"), Some(0), false);
        assert_eq!(with("BADMDC"), Err(Fault::Damaged));
        assert_eq!(with("DECRYPTION_FAILED"), Err(Fault::Damaged));
        assert_eq!(with("BADSIG 1 x"), Err(Fault::BadSignature));
        assert_eq!(with("PLAINTEXT 62 0 y"), Err(Fault::Damaged), "a second message behind it");
        assert_eq!(with("UNEXPECTED 0"), Err(Fault::Damaged));
    }

    #[test]
    fn the_exit_must_be_explained() {
        assert_eq!(judge(OKAY, Some(2), false), Err(Fault::Unexplained));
        assert_eq!(judge(OKAY, None, false), Err(Fault::Unexplained), "killed after all was said");
        let unknown = format!("{OKAY}|ERRSIG 1 22 10 00 0 9 1|NO_PUBKEY 1");
        assert_eq!(judge(&unknown, Some(2), false), Ok(0));
        assert_eq!(judge(&unknown, Some(2), true), Err(Fault::SignatureMissing));
    }

    #[test]
    fn a_signature_counts_when_its_key_does() {
        let signed =
            |state: &str| format!("{OKAY}|NEWSIG|{state} 1 x|VALIDSIG F 2026-11-21 0 0 4 0 22 8 00 P");
        assert_eq!(judge(&signed("GOODSIG"), Some(0), true), Ok(1));
        for state in ["EXPSIG", "EXPKEYSIG", "REVKEYSIG"] {
            assert_eq!(judge(&signed(state), Some(0), true), Err(Fault::SignatureMissing), "{state}");
            assert_eq!(judge(&signed(state), Some(0), false), Ok(1), "{state}");
        }
        assert_eq!(judge(OKAY, Some(0), true), Err(Fault::SignatureMissing));
        assert_eq!(judge(&format!("{OKAY}|NEWSIG|GOODSIG 1 x"), Some(0), true), Err(Fault::SignatureMissing));
    }

    #[test]
    fn failures_are_told_apart() {
        let failed =
            |line: &str| judge(&format!("BEGIN_DECRYPTION|{line}|DECRYPTION_FAILED"), Some(2), false);
        assert_eq!(failed("ERROR pkdecrypt_failed 67108875"), Err(Fault::WrongPassphrase));
        assert_eq!(failed("ERROR symkey_decrypt.maybe_error 11_BAD_PASSPHRASE"), Err(Fault::WrongPassphrase));
        assert_eq!(failed("NO_SECKEY 1"), Err(Fault::NoSecretKey));
        assert_eq!(failed("DECRYPTION_INFO 2 9 0"), Err(Fault::Damaged));
        assert_eq!(judge("NEED_PASSPHRASE_SYM 9 3 2|NODATA 3", Some(2), false), Err(Fault::Damaged));
        assert_eq!(judge("NODATA 1", Some(2), false), Err(Fault::NotEncrypted));
        assert_eq!(judge("PLAINTEXT 62 0 x|NEWSIG|GOODSIG 1 x", Some(0), false), Err(Fault::NotEncrypted));
    }
}
