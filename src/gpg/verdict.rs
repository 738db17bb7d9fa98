//! Calls, gpg: from the status lines and the exit code to "this is the plaintext" or to the reason why not. Pure; it
//! never sees the plaintext, only its length.
//!
//! Rules: it fails closed. Success needs proof, line by line, and the absence of a complaint is no proof. Only after
//! that it looks for a reason, which may be vague but cannot make a plaintext valid. It does not read gpg's messages
//! for people, because they are translated.

use super::signature::{Signature, Validity};
use super::status::{Status, StatusLine};

/// What is known once gpg has ended.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) status: &'a Status,
    /// `None` if a signal killed gpg.
    pub(super) exit: Option<i32>,
    pub(super) plaintext: usize,
    /// By its outer form, the message is an AEAD one with a possible length.
    pub(super) is_aead: bool,
    /// By its outer form, the message begins as an encrypted one.
    pub(super) begins_encrypted: bool,
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
    /// gpg failed for a reason that its status lines do not have.
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
    if report.has("BADSIG") || report.has("TRUST_NEVER") || !whole || !report.excuses(facts) {
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
    /// From DECRYPTION_INFO.
    info: Option<Info>,
    okay: bool,
    good_mdc: bool,
}

/// How one encryption is protected against changes.
#[derive(Clone, Copy)]
struct Info {
    /// By an MDC: gpg itself compares the hash of all that was decrypted, and says BADMDC if it differs.
    mdc: bool,
    /// By an AEAD algorithm that is named here, which gpg 2.2 never does: it says 0 for OCB too.
    aead: bool,
}

/// The status lines, read in their order.
struct Reading<'a> {
    lines: &'a [StatusLine],
    open: Vec<Layer>,
    /// How many layers ended with every sign of soundness.
    sound: usize,
    /// How many of the sound layers an MDC proves.
    by_mdc: usize,
    /// gpg reported an MDC for an encryption, sound or not.
    info_of_mdc: bool,
    /// How many encryptions began outside of any other.
    outermost: usize,
    /// Something that one message cannot have, such as plaintext beside the encryption.
    odd: bool,
    plaintexts: usize,
    /// Each PLAINTEXT_LENGTH that is a number.
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
            by_mdc: 0,
            info_of_mdc: false,
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
                let names = |number: usize| line.args().nth(number).is_some_and(|method| method != "0");
                // The third word is absent from old versions, which have no AEAD.
                let info = Info { mdc: names(0), aead: names(2) };
                self.info_of_mdc |= info.mdc;
                self.odd |= layer.info.replace(info).is_some();
            }
            // Said twice, it is not about one encryption.
            "DECRYPTION_OKAY" => self.odd |= std::mem::replace(&mut layer.okay, true),
            "GOODMDC" => self.odd |= std::mem::replace(&mut layer.good_mdc, true),
            "END_DECRYPTION" => {
                let sound = layer.okay && (layer.good_mdc || layer.info.is_some_and(|info| info.aead));
                let mdc = layer.good_mdc && layer.info.is_some_and(|info| info.mdc && !info.aead);
                self.sound += usize::from(sound);
                self.by_mdc += usize::from(sound && mdc);
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

    /// The key ID in the last such line that names a key.
    fn key(&self, keyword: &str) -> Option<&'a str> {
        let lines = self.lines.iter().rev().filter(|line| line.keyword() == keyword);
        lines.filter_map(|line| line.args().next()).find(|key| is_key(key))
    }

    /// Whether gpg says, without a gap, that these bytes are the content of one sound message.
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

    /// Whether the proof holds, given the exit code and the kind of encryption.
    ///
    /// An MDC is a proof by itself. With it, the code may also come from something else, if a status line names it.
    ///
    /// For an AEAD message (packet 20) gpg before 2.2.45 says DECRYPTION_OKAY and GOODMDC even after a wrong tag, and
    /// reports that only by exit code 2. No gpg reports a wrong length; see `outline`, which can see one encryption
    /// only.
    fn excuses(&self, facts: &Facts<'_>) -> bool {
        let by_mdc = self.by_mdc == self.sound;
        match facts.exit {
            Some(0) => by_mdc || (self.sound == 1 && facts.is_aead),
            Some(1 | 2) if by_mdc => {
                let remarks = || self.lines.iter().enumerate().map(|(place, line)| self.remark(place, line));
                remarks().any(|remark| remark == Remark::Beside)
                    && remarks().all(|remark| remark != Remark::Complaint)
            }
            _ => false,
        }
    }

    /// What a line says about an exit code that is not 0.
    fn remark(&self, place: usize, line: &StatusLine) -> Remark {
        let first = line.args().next();
        match line.keyword() {
            "ERRSIG" => Remark::Beside,
            // gpg tries one secret key after the other. It tells only people that one did not fit, as an error.
            "ENC_TO" if first.is_some_and(is_hidden) => Remark::Beside,
            // A session key that was not found in one place, before the one that opened the message was found in another.
            "ERROR" if first.is_some_and(is_attempt) && self.opens_after(place) => Remark::Beside,
            // Says only that the exit code is not 0.
            "FAILURE" if first == Some("gpg-exit") => Remark::Nothing,
            "ERROR" | "FAILURE" | "UNEXPECTED" | "NODATA" | "BADARMOR" => Remark::Complaint,
            _ => Remark::Nothing,
        }
    }

    /// Whether an encryption begins after this line.
    fn opens_after(&self, place: usize) -> bool {
        self.lines[place..].iter().any(|line| line.keyword() == "BEGIN_DECRYPTION")
    }

    /// The error numbers of ERROR lines from decryption, without their source (libgpg-error: the low 16
    /// bits are the code).
    fn codes(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().filter(|line| line.keyword() == "ERROR").filter_map(|line| {
            let mut args = line.args();
            let place = args.next()?;
            // "67108875" or "11_BAD_PASSPHRASE".
            let number = args.next()?.split('_').next()?.parse::<u32>().ok()?;
            is_attempt(place).then_some(number & 0xffff)
        })
    }

    /// Whether the secret key of a recipient whom the message does not name was looked for.
    fn is_hidden(&self) -> bool {
        self.lines.iter().any(|line| line.keyword() == "ENC_TO" && line.args().next().is_some_and(is_hidden))
    }

    /// The one recipient whose secret key was there, if there is one such and it has a name.
    fn tried(&self) -> Option<&'a str> {
        let keys = |keyword| {
            let lines = self.lines.iter().filter(move |line| line.keyword() == keyword);
            lines.filter_map(|line| line.args().next())
        };
        let missing: Vec<&str> = keys("NO_SECKEY").collect();
        let mut tried = keys("ENC_TO").filter(|key| !missing.contains(key));
        tried.next().filter(|key| tried.next().is_none() && is_key(key))
    }
}

/// What a status line says about an exit code that is not 0.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remark {
    Nothing,
    /// It explains the code by something beside the plaintext.
    Beside,
    Complaint,
}

/// Whether an ERROR from this place in gpg is about one of the ways to a session key.
fn is_attempt(place: &str) -> bool {
    ["pkdecrypt_failed", "get_passphrase", "symkey_decrypt.maybe_error"].contains(&place)
}

/// Whether this stands for a recipient whom the message does not name.
fn is_hidden(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|digit| digit == b'0')
}

/// Whether this is the ID of a key, to be shown to people.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_hexdigit()) && !is_hidden(key)
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

/// There is no proof; this looks for the reason.
fn explain(facts: &Facts<'_>, report: &Reading<'_>) -> Result<Vec<Signature>, Refusal> {
    let failed = report.has("BADMDC") || report.has("DECRYPTION_FAILED");
    // In batch mode gpg exits right at a bad signature, before it has looked at the integrity check.
    if !failed && (report.has("BADSIG") || report.has("TRUST_NEVER")) {
        return refuse(Cause::BadSignature, bad_signature(report));
    }
    let has_code = |wanted: u32| report.codes().any(|code| code == wanted);
    // Otherwise one way to the session key led there, and what became of the others is no reason.
    let opened = ["DECRYPTION_OKAY", "DECRYPTION_KEY", "PLAINTEXT"].iter().any(|keyword| report.has(keyword));
    if !opened {
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
            return refuse(Cause::NoSecretKey, no_secret_key(facts, report));
        }
        // An agent that cannot be reached, for example.
        if report.codes().any(|code| !code::DAMAGE.contains(&code)) {
            return refuse(Cause::Unexplained, "an error of another kind");
        }
    }
    // gpg has opened no packet, and of these messages it cannot say why: only the tag of a chunk shows a wrong key.
    let symmetric = report.has("NEED_PASSPHRASE_SYM") && !report.has("DECRYPTION_KEY");
    if symmetric && report.has("DECRYPTION_INFO") && !report.info_of_mdc && !report.has("PLAINTEXT") {
        return refuse(Cause::WrongPassphrase, "wrong passphrase, or the message is damaged");
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
        // Nothing that gpg says of it is a proof.
        if okay && report.by_mdc < report.sound {
            return refuse(Cause::Damaged, unproved(facts, report));
        }
        // A sound message, and yet gpg failed: a home that is missing, a disk that is full.
        if okay {
            return refuse(Cause::Unexplained, "an error beside the message");
        }
        if report.sound == 0 && report.has("DECRYPTION_OKAY") {
            return refuse(Cause::Damaged, "the message has no integrity protection");
        }
        if !report.has("BEGIN_DECRYPTION") {
            let text =
                "the message is damaged or cut off, or has a session key of a version that gpg does not know";
            return refuse(Cause::Damaged, text);
        }
        return refuse(Cause::Damaged, "the message is damaged or cut off");
    }
    if report.has("PLAINTEXT") || report.has("NEWSIG") {
        return refuse(Cause::NotEncrypted, "the input is an OpenPGP message, but not an encrypted one");
    }
    // Session keys of a version that gpg does not know, for example.
    if facts.begins_encrypted {
        return refuse(Cause::Unexplained, "it cannot be read as an encrypted message");
    }
    if report.has("NODATA") || report.has("UNEXPECTED") {
        return refuse(Cause::NotEncrypted, "the input is not an encrypted OpenPGP message");
    }
    refuse(Cause::Unexplained, "its report says nothing of a message")
}

fn wrong_passphrase(report: &Reading<'_>) -> String {
    match report.tried() {
        Some(key) if !report.has("NEED_PASSPHRASE_SYM") => {
            format!("wrong passphrase for the secret key {key}")
        }
        _ => "wrong passphrase".to_owned(),
    }
}

fn no_secret_key(facts: &Facts<'_>, report: &Reading<'_>) -> String {
    let mut text = "no secret key for it".to_owned();
    if report.is_hidden() {
        // gpg tells nobody whether a key was there and did not open.
        text += if facts.passphrase_given {
            ", or a wrong passphrase"
        } else {
            ", or one that needs a passphrase"
        };
        text += ": a recipient is hidden";
    } else if let Some(key) = report.key("NO_SECKEY").or_else(|| report.key("ENC_TO")) {
        text += &format!("; it is encrypted to key {key}");
    }
    text
}

/// For an AEAD message that gpg calls sound.
fn unproved(facts: &Facts<'_>, report: &Reading<'_>) -> &'static str {
    match facts.exit {
        Some(0) if report.sound > 1 => {
            "gpg cannot prove that a message is whole that is encrypted twice and has no MDC"
        }
        Some(0) => {
            "the message is damaged: its length is wrong, or it is not one encrypted text and nothing else"
        }
        _ if report.has("ERRSIG") => {
            "the message may be damaged: without an MDC, gpg tells that no better than a signature that it cannot check"
        }
        _ => "the message may be damaged: without an MDC, gpg does not tell that from another error",
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
    let by = if is_key(&key) { format!("by key {key}") } else { "by a key without a name".to_owned() };
    match signature.validity {
        Validity::Unchecked => {
            format!("the signature {by} cannot be checked; is the key in the keyring?")
        }
        Validity::Expired => format!("the signature {by} has expired"),
        Validity::KeyExpired => format!("the signature {by} counts no more: the key has expired"),
        Validity::KeyRevoked => format!("the signature {by} counts no more: the key was revoked"),
        Validity::Good => format!("the signature {by} is not one over data"),
    }
}

#[cfg(test)]
mod tests;
