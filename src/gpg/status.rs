//! Calls, gpg: the lines that gpg writes to its status descriptor. A pure parser: it knows the form of a line, and
//! not what a keyword means.
//!
//! Rules: any bytes may come, and nothing panics. Text that is no whole status line is never taken for one. The
//! parser reports it, because half a report proves nothing.

use std::fmt;

/// One line of gpg's machine-readable report: a keyword and its arguments.
///
/// `DETAILS`, in gpg's documentation, describes the keywords. Bytes that are not UTF-8 (in an old user ID or a file
/// name) are replaced by U+FFFD. A `SESSION_KEY` line is dropped, because it would open the message. gpg writes it
/// only if its configuration says so.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::gpg;
/// let message = "-----BEGIN PGP MESSAGE-----
///
/// jA0ECQMCpjt6vtB5eEz/0j8Btt4Iyso/gYcbTxvMjqRqixSIubOaDZEcUtohfOaM
/// Dxj4JSdgA7xuU0QL3OWpsdPysZapj5wQo14uknzAXNw=
/// =chaB
/// -----END PGP MESSAGE-----";
/// # // If there is no gpg, the call says so.
/// # if let Err(gpg::Error::GpgMissing { .. }) = gpg::decrypt(message, "secret").await { return Ok(()) }
/// let decrypted = gpg::decrypt(message, "secret").await?;
/// let algorithm = decrypted
///     .status
///     .iter()
///     .find(|line| line.keyword() == "DECRYPTION_INFO")
///     .expect("one of these");
/// assert_eq!(algorithm.args().nth(1), Some("9")); // AES256
/// assert!(algorithm.text().contains(" 9"));
/// # Ok::<(), gpg::Error>(()) }).unwrap();
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StatusLine {
    /// Never empty: capitals, digits and `_`.
    keyword: String,
    /// All after the keyword's space; no line end.
    text: String,
}

impl StatusLine {
    /// The first word, such as `DECRYPTION_OKAY`; see [`StatusLine`].
    pub fn keyword(&self) -> &str {
        &self.keyword
    }

    /// The words after the keyword, percent-escaped as gpg wrote them; see [`StatusLine`].
    pub fn args(&self) -> impl Iterator<Item = &str> {
        self.text.split(' ').filter(|word| !word.is_empty())
    }

    /// The text after the keyword, as gpg wrote it; for a keyword whose last argument has spaces. See [`StatusLine`].
    pub fn text(&self) -> &str {
        &self.text
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_prefix(b"[GNUPG:] ")?;
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let keyword = std::str::from_utf8(&line[..end]).ok()?;
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if keyword.is_empty() || !keyword.bytes().all(plain) {
            return None;
        }
        let text = line.get(end + 1..).unwrap_or_default();
        Some(StatusLine { keyword: keyword.to_owned(), text: String::from_utf8_lossy(text).into_owned() })
    }
}

/// As gpg wrote it.
impl fmt::Debug for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.text.is_empty() { "" } else { " " };
        write!(f, "{:?}", format_args!("{}{space}{}", self.keyword, self.text).to_string())
    }
}

/// All that came over the status descriptor.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) lines: Vec<StatusLine>,
    /// Every byte was part of a status line, and the last line had its end.
    pub(super) whole: bool,
}

pub(super) fn parse(bytes: &[u8]) -> Status {
    let mut status = Status { lines: Vec::new(), whole: true };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // No more than was copied.
        if session_key(line).is_some() && line.ends_with(b"\n") {
            continue;
        }
        match line.strip_suffix(b"\n").and_then(StatusLine::parse) {
            Some(line) => status.lines.push(line),
            None => status.whole = false,
        }
    }
    status
}

/// The session keys in the report, each as gpg also shows it to people.
pub(super) fn session_keys(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter_map(session_key).filter(|key| !key.is_empty())
}

fn session_key(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"[GNUPG:] SESSION_KEY")?;
    let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b" ") }
}

/// Turns `%XX` back into bytes. Anything else stays.
pub(super) fn unescape(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits are at most 255.
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keywords(status: &Status) -> Vec<&str> {
        status.lines.iter().map(StatusLine::keyword).collect()
    }

    #[test]
    fn lines_words_and_text() {
        let status = parse(b"[GNUPG:] GOODSIG ABCD  Jo %C3%9F <j@x>\n[GNUPG:] DECRYPTION_OKAY\n");
        assert!(status.whole);
        assert_eq!(keywords(&status), ["GOODSIG", "DECRYPTION_OKAY"]);
        let args: Vec<&str> = status.lines[0].args().collect();
        assert_eq!(args, ["ABCD", "Jo", "%C3%9F", "<j@x>"]);
        assert_eq!(status.lines[0].text(), "ABCD  Jo %C3%9F <j@x>");
        assert_eq!((status.lines[1].args().count(), status.lines[1].text()), (0, ""));
        assert_eq!(format!("{:?}", status.lines[1]), "\"DECRYPTION_OKAY\"");
    }

    #[test]
    fn nothing_is_whole_and_empty() {
        let status = parse(b"");
        assert!(status.whole && status.lines.is_empty());
    }

    #[test]
    fn a_cut_line_is_no_line() {
        let status = parse(b"[GNUPG:] GOODMDC\n[GNUPG:] DECRYPTION_OKAY");
        assert!(!status.whole);
        assert_eq!(keywords(&status), ["GOODMDC"]);
    }

    #[test]
    fn foreign_lines_are_told_and_left_out() {
        for foreign in
            ["\n", "hello\n", "[GNUPG:]\n", "[GNUPG:] \n", "[GNUPG:]  X\n", "[GNUPG:] ok\n", " [GNUPG:] A\n"]
        {
            let status = parse(format!("[GNUPG:] A\n{foreign}[GNUPG:] B\n").as_bytes());
            assert!(!status.whole, "{foreign:?}");
            assert_eq!(keywords(&status), ["A", "B"], "{foreign:?}");
        }
    }

    #[test]
    fn odd_bytes_stay_in_the_text() {
        let status = parse(b"[GNUPG:] PLAINTEXT 62 0 \xff\0\x1b\r\n[GNUPG:] \xff\n");
        assert_eq!(status.lines[0].text(), "62 0 \u{fffd}\0\u{1b}\r");
        assert_eq!((status.lines.len(), status.whole), (1, false));
        assert!(!format!("{:?}", status.lines[0]).contains(char::is_control));
    }

    #[test]
    fn a_session_key_is_left_out() {
        let report = b"[GNUPG:] SESSION_KEY 9:00FF\n[GNUPG:] SESSION_KEY\n[GNUPG:] SESSION_KEYS\n";
        let status = parse(report);
        assert!(status.whole);
        assert_eq!(keywords(&status), ["SESSION_KEYS"]);
        assert_eq!(session_keys(report).collect::<Vec<_>>(), [b"9:00FF"]);
        let cut = parse(b"[GNUPG:] SESSION_KEY 9:00");
        assert!(!cut.whole && cut.lines.is_empty());
    }

    #[test]
    fn percent_escapes() {
        for (escaped, text) in [
            ("", ""),
            ("plain", "plain"),
            ("a%20b%0A%25", "a b\n%"),
            ("%c3%9F", "ß"),
            ("%", "%"),
            ("%4", "%4"),
            ("%4g%%41", "%4g%A"),
            ("%+1", "%+1"),
            ("ß%ff", "ß\u{fffd}"),
        ] {
            assert_eq!(unescape(escaped), text, "{escaped}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let status = parse(&bytes);
            prop_assert!(status.lines.len() <= bytes.len());
        }

        #[test]
        fn nearly_right_bytes_parse(pieces in proptest::collection::vec("\\[GNUPG:\\] |[A-Z_]{1,5}|[ -~]{0,5}| |\n", 0..30)) {
            let text = pieces.concat();
            let status = parse(text.as_bytes());
            // What is whole can be written back.
            if status.whole && !text.contains("SESSION_KEY") {
                prop_assert_eq!(status.lines.len(), text.matches('\n').count());
            }
        }

        #[test]
        fn any_text_unescapes(text in any::<String>()) {
            let plain = unescape(&text);
            prop_assert!(text.contains('%') || plain == text);
        }
    }
}
