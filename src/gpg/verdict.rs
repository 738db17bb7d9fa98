//! Calls, gpg: from the status lines and the exit code to "this is the plaintext" or to why not. Pure;
//! never sees the plaintext, only its length.
//!
//! Rules: it fails closed. Success is proved by what gpg said, line by line, and never by the
//! absence of a complaint; only then is a reason looked for, which may be vague but cannot make a
//! plaintext valid. gpg's messages for people are translated, so they are not read.

use super::signature::{Signature, Validity};
use super::status::{Status, StatusLine};

/// What is known once gpg has ended.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) status: &'a Status,
    /// `None` for a death by signal.
    pub(super) exit: Option<i32>,
    pub(super) plaintext: usize,
    pub(super) passphrase_given: bool,
    pub(super) require_signature: bool,
}

/// Why there is no plaintext.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: Cause,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    WrongPassphrase,
    PassphraseMissing,
    InvalidPassphrase,
    NoSecretKey,
    Damaged,
    NotEncrypted,
    BadSignature,
    SignatureMissing,
    /// gpg failed for a reason that is not in the status lines.
    Unexplained,
}

fn refuse<T>(cause: Cause, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { cause, text: text.into() })
}

/// The signatures, if the plaintext may be shown.
pub(super) fn judge(facts: &Facts<'_>) -> Result<Vec<Signature>, Refusal> {
    let report = Reading::read(&facts.status.lines);
    if facts.exit.is_none() || !facts.status.whole {
        return refuse(Cause::Unexplained, "its report is not complete");
    }
    let whole = report.proves(facts.plaintext);
    if report.has("BADSIG") || report.has("TRUST_NEVER") || !whole || !report.excuses(facts.exit) {
        return explain(facts, &report);
    }
    if facts.require_signature && !report.signatures.iter().any(Signature::is_proof) {
        return refuse(Cause::SignatureMissing, missing(&report.signatures));
    }
    Ok(report.signatures)
}

/// One encryption: from BEGIN_DECRYPTION to END_DECRYPTION. Messages can be encrypted twice.
#[derive(Default)]
struct Layer {
    /// Whether DECRYPTION_INFO named an AEAD algorithm, which checks each chunk itself.
    aead: Option<bool>,
    okay: bool,
    good_mdc: bool,
}

/// The status lines, read in their order.
struct Reading<'a> {
    lines: &'a [StatusLine],
    open: Vec<Layer>,
    /// Layers that ended, each with everything that makes it sound.
    sound: usize,
    /// How many encryptions began outside of any other.
    outermost: usize,
    /// What one message cannot have, such as plaintext beside the encryption.
    odd: bool,
    plaintexts: usize,
    /// Each PLAINTEXT_LENGTH of the plaintext, as far as it is a number.
    lengths: Vec<Option<usize>>,
    /// Only those inside of the encryption.
    signatures: Vec<Signature>,
}

impl<'a> Reading<'a> {
    fn read(lines: &'a [StatusLine]) -> Self {
        let mut report = Reading {
            lines,
            open: Vec::new(),
            sound: 0,
            outermost: 0,
            odd: false,
            plaintexts: 0,
            lengths: Vec::new(),
            signatures: Vec::new(),
        };
        for line in lines {
            report.line(line);
        }
        report
    }

    fn line(&mut self, line: &StatusLine) {
        let keyword = line.keyword();
        if keyword == "BEGIN_DECRYPTION" {
            self.outermost += usize::from(self.open.is_empty());
            return self.open.push(Layer::default());
        }
        let Some(layer) = self.open.last_mut() else {
            // gpg also shows a plaintext that stands before or after the encrypted part, where anybody
            // can put it.
            let inside = ["PLAINTEXT", "DECRYPTION_OKAY", "GOODMDC", "DECRYPTION_INFO", "END_DECRYPTION"];
            self.odd |= inside.contains(&keyword);
            return;
        };
        match keyword {
            "DECRYPTION_INFO" => {
                // Absent from old versions, which have no AEAD.
                let aead = line.args().nth(2).is_some_and(|algorithm| algorithm != "0");
                self.odd |= layer.aead.replace(aead).is_some();
            }
            // Said twice, it is not about one encryption.
            "DECRYPTION_OKAY" => self.odd |= std::mem::replace(&mut layer.okay, true),
            "GOODMDC" => self.odd |= std::mem::replace(&mut layer.good_mdc, true),
            "END_DECRYPTION" => {
                let sound = layer.okay && (layer.good_mdc || layer.aead == Some(true));
                self.sound += usize::from(sound);
                self.odd |= !sound;
                self.open.pop();
            }
            "PLAINTEXT" => {
                self.plaintexts += 1;
                self.odd |= layer.okay;
                self.lengths.clear();
            }
            "PLAINTEXT_LENGTH" => self.lengths.push(line.args().next().and_then(|n| n.parse().ok())),
            _ => Signature::collect(&mut self.signatures, line),
        }
    }

    fn has(&self, keyword: &str) -> bool {
        self.lines.iter().any(|line| line.keyword() == keyword)
    }

    /// The first argument of the last such line, if it is a key ID.
    fn key(&self, keyword: &str) -> Option<&'a str> {
        let line = self.lines.iter().rev().find(|line| line.keyword() == keyword)?;
        line.args().next().filter(|key| key.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// Whether gpg says, without any gap, that these bytes are the content of one sound message.
    fn proves(&self, plaintext: usize) -> bool {
        let failed = ["BADMDC", "DECRYPTION_FAILED"].iter().any(|keyword| self.has(keyword));
        let binary = self.lines.iter().any(|l| l.keyword() == "PLAINTEXT" && l.args().next() == Some("62"));
        !failed
            && !self.odd
            && self.open.is_empty()
            && self.outermost == 1
            && self.sound > 0
            && self.plaintexts == 1
            // Anything else on the way to us: a shortened or doubled output. Text may have its line ends
            // converted; binary data comes as it is.
            && !(binary && self.lengths.iter().any(|length| *length != Some(plaintext)))
    }

    /// Whether the exit code is 0, or is what gpg makes of a signature that it cannot check.
    fn excuses(&self, exit: Option<i32>) -> bool {
        let complaint = |line: &StatusLine| match line.keyword() {
            "ERROR" | "UNEXPECTED" | "NODATA" | "BADARMOR" => true,
            // Says only that the exit code is not 0.
            "FAILURE" => line.args().next() != Some("gpg-exit"),
            _ => false,
        };
        match exit {
            Some(0) => true,
            Some(1 | 2) => self.has("ERRSIG") && !self.lines.iter().any(complaint),
            _ => false,
        }
    }

    /// The error numbers of ERROR lines from decryption, without their source (libgpg-error: the low 16
    /// bits are the code).
    fn codes(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().filter(|line| line.keyword() == "ERROR").filter_map(|line| {
            let mut args = line.args();
            let place = args.next()?;
            // "67108875" or "11_BAD_PASSPHRASE".
            let number = args.next()?.split('_').next()?.parse::<u32>().ok()?;
            let ours = ["pkdecrypt_failed", "get_passphrase", "symkey_decrypt.maybe_error"];
            ours.contains(&place).then_some(number & 0xffff)
        })
    }
}

/// Numbers of libgpg-error's `err-codes.h`, which never change.
mod code {
    pub(super) const BAD_PASSPHRASE: u32 = 11;
    pub(super) const NO_SECKEY: u32 = 17;
    pub(super) const NO_PINENTRY: u32 = 85;
    pub(super) const CANCELED: u32 = 99;
    pub(super) const NO_PASSPHRASE: u32 = 177;
    pub(super) const ASS_TOO_MUCH_DATA: u32 = 273;
    /// What the agent and gpg say of a session key that was changed: WRONG_SECKEY, BAD_DATA,
    /// DECRYPT_FAILED, CHECKSUM, BAD_MPI, CIPHER_ALGO, INV_VALUE, INV_DATA, TOO_SHORT.
    pub(super) const DAMAGE: &[u32] = &[18, 89, 152, 10, 30, 12, 55, 79, 66];
}

/// There is no proof; what may have been the matter?
fn explain(facts: &Facts<'_>, report: &Reading<'_>) -> Result<Vec<Signature>, Refusal> {
    let failed = report.has("BADMDC") || report.has("DECRYPTION_FAILED");
    // In batch mode gpg exits right at a bad signature, before it has looked at the integrity check.
    if !failed && (report.has("BADSIG") || report.has("TRUST_NEVER")) {
        return refuse(Cause::BadSignature, bad_signature(report));
    }
    let has_code = |wanted: u32| report.codes().any(|code| code == wanted);
    if !report.has("DECRYPTION_OKAY") {
        let no_passphrase = report.has("MISSING_PASSPHRASE") || has_code(code::NO_PASSPHRASE);
        let not_asked = has_code(code::NO_PINENTRY) || has_code(code::CANCELED);
        if !facts.passphrase_given && (no_passphrase || not_asked) {
            return refuse(Cause::PassphraseMissing, "a passphrase is needed, and none was given");
        }
        if has_code(code::ASS_TOO_MUCH_DATA) {
            return refuse(Cause::InvalidPassphrase, "the passphrase is longer than gpg-agent takes");
        }
        if report.has("BAD_PASSPHRASE") || has_code(code::BAD_PASSPHRASE) || no_passphrase {
            return refuse(Cause::WrongPassphrase, wrong_passphrase(report));
        }
        if has_code(code::NO_SECKEY) || (report.has("NO_SECKEY") && report.codes().next().is_none()) {
            let text = match report.key("NO_SECKEY").or_else(|| report.key("ENC_TO")) {
                Some(key) => format!("no secret key for it; it is encrypted to key {key}"),
                None => "no secret key for it".to_owned(),
            };
            return refuse(Cause::NoSecretKey, text);
        }
        // An agent that cannot be reached, for example.
        if report.codes().any(|code| !code::DAMAGE.contains(&code)) {
            return refuse(Cause::Unexplained, "an error of another kind");
        }
    }
    if report.has("BADMDC") {
        return refuse(Cause::Damaged, "the message is damaged: its integrity check failed");
    }
    let began =
        ["BEGIN_DECRYPTION", "ENC_TO", "NEED_PASSPHRASE_SYM"].iter().any(|keyword| report.has(keyword));
    if began {
        let beside = report.lines.iter().filter(|line| line.keyword() == "ERROR").any(|line| {
            matches!(line.args().next(), Some("proc_pkt.plaintext" | "decryption.early_plaintext"))
        });
        let okay = report.sound > 0 && report.open.is_empty() && !failed;
        if beside || (okay && !report.proves(facts.plaintext)) {
            let text = "the message is damaged: it is not one encrypted text and nothing else";
            return refuse(Cause::Damaged, text);
        }
        // A sound message, and yet gpg failed: a home that is missing, a disk that is full.
        if okay {
            return refuse(Cause::Unexplained, "an error beside the message");
        }
        if report.sound == 0 && report.has("DECRYPTION_OKAY") {
            return refuse(Cause::Damaged, "the message has no integrity protection");
        }
        return refuse(Cause::Damaged, "the message is damaged or cut off");
    }
    if report.has("PLAINTEXT") || report.has("NEWSIG") {
        return refuse(Cause::NotEncrypted, "the input is an OpenPGP message, but not an encrypted one");
    }
    if report.has("NODATA") || report.has("UNEXPECTED") {
        return refuse(Cause::NotEncrypted, "the input is not an encrypted OpenPGP message");
    }
    refuse(Cause::Unexplained, "its report says nothing of a message")
}

fn wrong_passphrase(report: &Reading<'_>) -> String {
    match report.key("ENC_TO") {
        Some(key) if !report.has("NEED_PASSPHRASE_SYM") => {
            format!("wrong passphrase for the secret key {key}")
        }
        _ => "wrong passphrase".to_owned(),
    }
}

fn bad_signature(report: &Reading<'_>) -> String {
    if !report.has("BADSIG") {
        return "a signature is by a key that is marked as never to be trusted".to_owned();
    }
    let key = report.key("BADSIG").map_or(String::new(), |key| format!(" by key {key}"));
    format!("the signature{key} does not fit: the text or the signature was changed")
}

fn missing(signatures: &[Signature]) -> String {
    let Some(signature) = signatures.last() else { return "the message is not signed".to_owned() };
    // From the wire, so not to be trusted in a person's terminal.
    let key: String = signature.key_id.chars().filter(char::is_ascii_hexdigit).take(64).collect();
    match signature.validity {
        Validity::Unchecked => {
            format!("the signature by key {key} cannot be checked; is the key in the keyring?")
        }
        Validity::Expired => format!("the signature by key {key} has expired"),
        Validity::KeyExpired => format!("the signature is by the expired key {key}"),
        Validity::KeyRevoked => format!("the signature is by the revoked key {key}"),
        Validity::Good => format!("the signature by key {key} is not one over data"),
    }
}

#[cfg(test)]
mod tests;
