//! gpg's report, from its bytes to the verdict.

use signature::{Signature, Validity};
use verdict::Facts;

use crate::choices::Choices;

#[allow(dead_code, reason = "a user asks more")]
#[path = "../../src/gpg/signature.rs"]
mod signature;
#[allow(dead_code, reason = "a user asks more")]
#[path = "../../src/gpg/status.rs"]
mod status;
#[allow(dead_code, reason = "a user asks more")]
#[rustfmt::skip] // It would look for the tests of that module in the wrong folder.
#[path = "../../src/gpg/verdict.rs"]
mod verdict;

const PLAINTEXT: usize = 6;
const START: &[u8] = b"[GNUPG:] ";

/// The lines that an input names by one byte.
const LINES: &[&str] = &[
    "BEGIN_DECRYPTION",
    "DECRYPTION_INFO 2 9 0",
    "DECRYPTION_INFO 0 9 2",
    "DECRYPTION_INFO 2 9",
    "PLAINTEXT 62 1795256239 m",
    "PLAINTEXT 74 0",
    "PLAINTEXT",
    "PLAINTEXT_LENGTH 6",
    "PLAINTEXT_LENGTH 7",
    "PLAINTEXT_LENGTH",
    "PLAINTEXT_LENGTH 99999999999999999999",
    "DECRYPTION_OKAY",
    "GOODMDC",
    "END_DECRYPTION",
    "BADMDC",
    "DECRYPTION_FAILED",
    "NEWSIG",
    "GOODSIG FA418B7EA2047C27 T%C3%9F <t@x>",
    "GOODSIG",
    "GOODSIG  T",
    "EXPSIG FA418B7EA2047C27 T",
    "EXPKEYSIG FA418B7EA2047C27 T",
    "REVKEYSIG FA418B7EA2047C27 T",
    "BADSIG FA418B7EA2047C27 T",
    "ERRSIG A7ACE7AA08849361 22 8 00 1 9 -",
    "VALIDSIG A66678F9E8429D8AD58D339CFA418B7EA2047C27 2026-11-21 1 0 4 0 1 10 00 A66678F9E8429D8AD58D339CFA418B7EA2047C27",
    "VALIDSIG A66678F9E8429D8AD58D339CFA418B7EA2047C27 2026-11-21 1 0 4 0 1 10 01",
    "VALIDSIG A66678F9E8429D8AD58D339CFA418B7EA2047C27 2026-11-21 1 0 4 0 1 10 10 A66678F9E8429D8AD58D339CFA418B7EA2047C27",
    "VALIDSIG 0000000000000000000000000000000000000000 2026-11-21 1 0 4 0 1 10 00 A66678F9E8429D8AD58D339CFA418B7EA2047C27",
    "VALIDSIG",
    "TRUST_NEVER 0 pgp",
    "NO_PUBKEY A7ACE7AA08849361",
    "ENC_TO B58E4D76CED32E33 1 0",
    "NO_SECKEY B58E4D76CED32E33",
    "NEED_PASSPHRASE_SYM 9 3 2",
    "MISSING_PASSPHRASE",
    "BAD_PASSPHRASE B58E4D76CED32E33",
    "ERROR pkdecrypt_failed 67108875",
    "ERROR get_passphrase 85",
    "ERROR proc_pkt.plaintext 89_BAD_DATA",
    "FAILURE gpg-exit 33554433",
    "FAILURE decrypt 4294967295",
    "NODATA 1",
    "UNEXPECTED 0",
    "BADARMOR",
    "SESSION_KEY 9:00FF",
    "KEY_CONSIDERED A66678F9E8429D8AD58D339CFA418B7EA2047C27 0",
    "VALIDSIG 19347BC9872464025F99DF3EC2E0000ED9884892E1F7B3EA4C94009159569B54 2026-11-21 1 0 5 0 1 10 00",
    "GOODSIG 19347BC987246402 T",
    "GOODSIG 4C94009159569B54 T",
    "ENC_TO 0000000000000000 1 0",
    "DECRYPTION_INFO 0 9 0",
    "DECRYPTION_KEY A66678F9E8429D8AD58D339CFA418B7EA2047C27 A66678F9E8429D8AD58D339CFA418B7EA2047C27 u",
];

/// Reports that an input starts from, by numbers in [`LINES`].
const REPORTS: [&[usize]; 4] = [&[], &SOUND, &SIGNED, &TWICE];
const SOUND: [usize; 7] = [0, 1, 4, 7, 11, 12, 13];
const SIGNED: [usize; 10] = [0, 1, 4, 7, 16, 17, 25, 11, 12, 13];
/// Encrypted twice.
const TWICE: [usize; 12] = [0, 1, 0, 1, 4, 7, 11, 12, 13, 11, 12, 13];

/// **Invariant.** For any bytes on the status descriptor, and any end of gpg:
///
/// - A plain split finds the same lines, without a SESSION_KEY. The report is whole only if all of it is such lines.
/// - The verdict is okay if and only if the whole report is about one sound message ([`Report::is_proof`]). Every
///   layer has DECRYPTION_OKAY and an integrity check. There is no plaintext beside it, and no BADSIG, BADMDC or
///   DECRYPTION_FAILED. If a signature is required, there is a GOODSIG with its VALIDSIG.
/// - The signatures come from inside of the encryption. Each is confirmed only by a VALIDSIG of its own.
/// - If the exit code is not 0, each encryption has an MDC, and the reason is not the plaintext.
/// - A refusal is one line that is safe to print, and names no key of zeros.
pub fn gpg(data: &[u8]) {
    let mut choices = Choices::new(data);
    let exit = [Some(0), Some(0), Some(2), Some(1), None, Some(3)][choices.below(6)];
    let known = choices.byte();
    let (passphrase_given, is_aead, begins_encrypted) = (known & 1 != 0, known & 2 == 0, known & 4 != 0);
    let require_signature = choices.yes();
    let bytes = write(&mut choices);
    let report = Report::read(&bytes);

    let status = status::parse(&bytes);
    assert_eq!(status.whole, report.whole, "whole");
    assert_eq!(status.lines.len(), report.lines.len());
    for (line, expected) in status.lines.iter().zip(&report.lines) {
        assert_eq!((line.keyword(), line.text()), (&expected.keyword[..], &expected.text[..]));
        assert!(line.args().eq(expected.args()));
        if line.text().contains(char::is_control) {
            assert!(!format!("{line:?}").contains(char::is_control), "{line:?} in a terminal");
        }
    }

    let facts = Facts {
        status: &status,
        exit,
        plaintext: PLAINTEXT,
        is_aead,
        begins_encrypted,
        passphrase_given,
        require_signature,
    };
    let expected = report.signatures();
    let accepted = report.is_proof(exit, is_aead) && (!require_signature || expected.iter().any(proves));
    match verdict::judge(&facts) {
        Ok(signatures) => {
            assert!(accepted, "taken for proof");
            assert_eq!(signatures, expected);
        }
        Err(refusal) => {
            assert!(!accepted, "a sound report was refused: {refusal:?}");
            assert!(!refusal.text.is_empty() && !refusal.text.contains(char::is_control), "{refusal:?}");
            let words = || refusal.text.split([' ', ',', ';', ':']);
            let zeros = |(key, word): (&str, &str)| key == "key" && word.trim_start_matches('0').is_empty();
            assert!(!words().zip(words().skip(1)).any(zeros), "{refusal:?}");
        }
    }
}

/// A report, with some lines added, removed, moved, changed or cut.
fn write(choices: &mut Choices<'_>) -> Vec<u8> {
    let known = |number: usize| [START, LINES[number].as_bytes(), b"", b"\n"];
    let mut lines: Vec<[&[u8]; 4]> =
        REPORTS[choices.below(REPORTS.len())].iter().map(|number| known(*number)).collect();
    while !choices.is_over() {
        let (op, place) = (choices.below(8), choices.below(lines.len() + 1));
        let there = place < lines.len();
        match op {
            0..3 => lines.insert(place, known(choices.below(LINES.len()))),
            3 if there => drop(lines.remove(place)),
            4 if there => {
                let line = lines.remove(place);
                lines.insert(choices.below(lines.len() + 1), line);
            }
            5 => {
                let line = LINES[choices.below(LINES.len())];
                let keyword = line.split(' ').next().unwrap_or_default().as_bytes();
                lines.insert(place, [START, keyword, some(choices), b"\n"]);
            }
            6 => lines.insert(place, [b"", some(choices), b"", b""]),
            7 if there => lines[place][3] = b"",
            _ => {}
        }
    }
    lines.concat().concat()
}

fn some<'a>(choices: &mut Choices<'a>) -> &'a [u8] {
    let count = choices.below(24);
    choices.bytes(count)
}

struct Line {
    keyword: String,
    text: String,
    /// How many encryptions contain it. A BEGIN and its END have the same number, without their own.
    depth: usize,
}

impl Line {
    fn args(&self) -> impl Iterator<Item = &str> {
        self.text.split(' ').filter(|word| !word.is_empty())
    }

    fn is(&self, keyword: &str) -> bool {
        self.keyword == keyword
    }
}

struct Report {
    lines: Vec<Line>,
    /// Every byte belongs to a line of gpg.
    whole: bool,
    /// Each BEGIN has an END, and each END a BEGIN.
    balanced: bool,
}

impl Report {
    fn read(bytes: &[u8]) -> Self {
        let mut parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let last = parts.pop().unwrap_or_default();
        let mut report = Report { lines: Vec::new(), whole: last.is_empty(), balanced: true };
        let mut depth = 0_usize;
        for part in parts {
            let words = part.strip_prefix(START).map(|line| {
                let length =
                    line.iter().take_while(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')).count();
                line.split_at(length)
            });
            let (keyword, text) = match words {
                Some((keyword @ [_, ..], [])) => (keyword, &b""[..]),
                Some((keyword @ [_, ..], [b' ', text @ ..])) => (keyword, text),
                _ => {
                    report.whole = false;
                    continue;
                }
            };
            let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let (keyword, text) = (lossy(keyword), lossy(text));
            match &keyword[..] {
                "SESSION_KEY" => continue,
                "END_DECRYPTION" if depth == 0 => report.balanced = false,
                "END_DECRYPTION" => depth -= 1,
                _ => {}
            }
            let begins = keyword == "BEGIN_DECRYPTION";
            report.lines.push(Line { keyword, text, depth });
            depth += usize::from(begins);
        }
        report.balanced &= depth == 0;
        report
    }

    fn count(&self, keyword: &str) -> usize {
        self.lines.iter().filter(|line| line.is(keyword)).count()
    }

    /// Whether it reports that exactly one encrypted message is sound and has this many bytes, and nothing
    /// else.
    fn is_proof(&self, exit: Option<i32>, is_aead: bool) -> bool {
        let bad = ["BADSIG", "TRUST_NEVER", "BADMDC", "DECRYPTION_FAILED"];
        let messages =
            self.lines.iter().filter(|line| line.is("BEGIN_DECRYPTION") && line.depth == 0).count();
        let beside = |line: &Line| {
            let words = ["PLAINTEXT", "DECRYPTION_OKAY", "GOODMDC", "DECRYPTION_INFO"];
            line.depth == 0 && words.contains(&&line.keyword[..])
        };
        self.whole
            && self.balanced
            && self.excuses(exit, is_aead)
            && bad.iter().all(|keyword| self.count(keyword) == 0)
            && messages == 1
            && !self.lines.iter().any(beside)
            && (0..self.lines.len()).all(|n| !self.lines[n].is("BEGIN_DECRYPTION") || self.is_sound(n))
            && self.is_one_text()
    }

    /// If each encryption has an MDC, the exit code may be 1 or 2, for a reason other than the plaintext. The
    /// reasons are a signature that cannot be checked, a hidden recipient, or a way to the session key that
    /// failed before another one worked. Otherwise the code is 0, and the one encryption is as long as it can
    /// be.
    fn excuses(&self, exit: Option<i32>, is_aead: bool) -> bool {
        let begins: Vec<usize> =
            (0..self.lines.len()).filter(|n| self.lines[*n].is("BEGIN_DECRYPTION")).collect();
        let mdc = begins.iter().all(|begin| self.has_mdc(*begin));
        let ways = ["pkdecrypt_failed", "get_passphrase", "symkey_decrypt.maybe_error"];
        let (mut reasons, mut complaints) = (0, 0);
        for (place, line) in self.lines.iter().enumerate() {
            let first = line.args().next().unwrap_or_default();
            let hidden = first.starts_with('0') && first.trim_start_matches('0').is_empty();
            match &line.keyword[..] {
                "ERRSIG" => reasons += 1,
                "ENC_TO" if hidden => reasons += 1,
                "ERROR" if ways.contains(&first) && begins.last().is_some_and(|begin| place < *begin) => {
                    reasons += 1
                }
                "FAILURE" if first == "gpg-exit" => {}
                "ERROR" | "FAILURE" | "UNEXPECTED" | "NODATA" | "BADARMOR" => complaints += 1,
                _ => {}
            }
        }
        match exit {
            Some(0) => mdc || (is_aead && begins.len() == 1),
            Some(1 | 2) => mdc && reasons > 0 && complaints == 0,
            _ => false,
        }
    }

    /// Whether the report says that the encryption that begins there has a good MDC, and says nothing else
    /// about it.
    fn has_mdc(&self, begin: usize) -> bool {
        let depth = self.lines[begin].depth;
        let mut own = self.lines[begin + 1..]
            .iter()
            .take_while(|line| line.depth > depth)
            .filter(|l| l.depth == depth + 1);
        let named = |line: &Line, word: usize| line.args().nth(word).is_some_and(|method| method != "0");
        let info = own.clone().find(|line| line.is("DECRYPTION_INFO"));
        info.is_some_and(|info| named(info, 0) && !named(info, 2)) && own.any(|line| line.is("GOODMDC"))
    }

    /// Whether the encryption that begins there was decrypted, and its integrity proved, with nothing
    /// reported twice.
    fn is_sound(&self, begin: usize) -> bool {
        let depth = self.lines[begin].depth;
        let inside = self.lines[begin + 1..].iter().take_while(|line| line.depth > depth);
        let own: Vec<&Line> =
            inside.filter(|line| line.depth == depth + 1 && !line.is("BEGIN_DECRYPTION")).collect();
        let said = |keyword: &str| own.iter().filter(|line| line.is(keyword)).count();
        let aead = |line: &&&Line| line.args().nth(2).is_some_and(|algorithm| algorithm != "0");
        let info: Vec<&&Line> = own.iter().filter(|line| line.is("DECRYPTION_INFO")).collect();
        said("DECRYPTION_OKAY") == 1
            && (said("GOODMDC") == 1 || (said("GOODMDC") == 0 && info.first().is_some_and(aead)))
            && info.len() <= 1
    }

    /// Whether there is one text, shown before it was called okay, and as long as the bytes that came.
    fn is_one_text(&self) -> bool {
        let Some(place) = self.lines.iter().position(|line| line.is("PLAINTEXT")) else { return false };
        let text = &self.lines[place];
        let after = &self.lines[place + 1..];
        let okay = |line: &Line| line.is("DECRYPTION_OKAY") && line.depth == text.depth;
        let later = after.iter().take_while(|line| line.depth >= text.depth).any(okay);
        let lengths: Vec<Option<usize>> = after
            .iter()
            .filter(|line| line.is("PLAINTEXT_LENGTH") && line.depth > 0)
            .map(|line| line.args().next().and_then(|length| length.parse().ok()))
            .collect();
        let exact = text.args().next() == Some("62");
        self.count("PLAINTEXT") == 1 && later && (!exact || lengths.iter().all(|n| *n == Some(PLAINTEXT)))
    }

    fn signatures(&self) -> Vec<Signature> {
        let validity = |line: &&Line| match &line.keyword[..] {
            "GOODSIG" => Some(Validity::Good),
            "EXPSIG" => Some(Validity::Expired),
            "EXPKEYSIG" => Some(Validity::KeyExpired),
            "REVKEYSIG" => Some(Validity::KeyRevoked),
            "ERRSIG" => Some(Validity::Unchecked),
            _ => None,
        };
        let inside: Vec<&Line> = self.lines.iter().filter(|line| line.depth > 0).collect();
        let places: Vec<usize> = (0..inside.len()).filter(|n| validity(&inside[*n]).is_some()).collect();
        let mut found = Vec::new();
        for (nth, place) in places.iter().enumerate() {
            let line = inside[*place];
            let Some(validity) = validity(&line) else { continue };
            let (key, user) = line.text.split_once(' ').unwrap_or((&line.text, ""));
            let until = places.get(nth + 1).copied().unwrap_or(inside.len());
            let confirmed = inside[place + 1..until].iter().find_map(|line| confirms(line, key));
            let confirmed = confirmed.filter(|_| validity != Validity::Unchecked);
            let named = validity != Validity::Unchecked && !user.is_empty();
            found.push(Signature {
                validity,
                key_id: key.to_owned(),
                fingerprint: confirmed.as_ref().map(|names| names.0.clone()),
                primary_fingerprint: confirmed.map(|names| names.1),
                user_id: named.then(|| unescaped(user)),
            });
        }
        found
    }
}

/// Whether one signature proves the signer. Its key is named, so the fingerprint is known to be the key's.
fn proves(signature: &Signature) -> bool {
    let key = &signature.key_id;
    let named = key.len() >= 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = signature.fingerprint.as_ref().is_some_and(|fingerprint| is_of(fingerprint, key));
    signature.validity == Validity::Good && named && fits
}

/// Whether a fingerprint belongs to a key: a long one begins with its ID, and any other ends with it.
fn is_of(fingerprint: &str, key: &str) -> bool {
    match fingerprint.find(key) {
        Some(0) if fingerprint.len() == 64 => true,
        _ => fingerprint.len() != 64 && fingerprint.ends_with(key),
    }
}

/// The fingerprints of a VALIDSIG for this key, over data.
fn confirms(line: &Line, key: &str) -> Option<(String, String)> {
    let args: Vec<&str> = line.args().collect();
    let over_data = line.is("VALIDSIG") && (args.get(8) == Some(&"00") || args.get(8) == Some(&"01"));
    let first = args.first().filter(|fingerprint| over_data && is_of(fingerprint, key))?;
    Some(((*first).to_owned(), (*args.get(9).unwrap_or(first)).to_owned()))
}

/// By places, and not by the rest of the text.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        let digits = bytes.get(place + 1..place + 3).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| bytes[place] == b'%') {
            Some(byte) => {
                plain.push(byte);
                place += 3;
            }
            None => {
                plain.push(bytes[place]);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
