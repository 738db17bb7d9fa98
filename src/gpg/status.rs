//! What gpg says on its status descriptor, line by line. Knows the form and not the meaning.
//!
//! The source is `doc/DETAILS` of GnuPG, "Format of the --status-fd output".

/// One line that gpg wrote to its status descriptor.
///
/// ```
/// # use reaped::gpg::StatusLine;
/// let lines = StatusLine::parse(b"[GNUPG:] BADSIG 92B6C4B23668CE2F Alice <a@example.org>\n");
/// assert_eq!(lines[0].keyword, "BADSIG");
/// assert_eq!(lines[0].args, "92B6C4B23668CE2F Alice <a@example.org>");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatusLine {
    /// The first word, for example `DECRYPTION_OKAY`.
    pub keyword: String,
    /// What follows it, as gpg wrote it: user ids are percent-escaped UTF-8. What is not UTF-8 is shown as
    /// U+FFFD.
    pub args: String,
}

impl StatusLine {
    /// The status lines among the lines of `output`; any other line is left out.
    ///
    /// ```
    /// # use reaped::gpg::StatusLine;
    /// assert!(StatusLine::parse(b"gpg: a message for people\n").is_empty());
    /// ```
    pub fn parse(output: &[u8]) -> Vec<StatusLine> {
        output.split(|byte| *byte == b'\n').filter_map(StatusLine::parse_line).collect()
    }

    fn parse_line(line: &[u8]) -> Option<StatusLine> {
        let text =
            String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"[GNUPG:] ")?);
        let (keyword, args) = text.split_once(' ').unwrap_or((&text, ""));
        let (keyword, args) = (keyword.to_owned(), args.to_owned());
        (!keyword.is_empty()).then_some(StatusLine { keyword, args })
    }

    /// The words of `args`.
    pub(super) fn words(&self) -> std::str::Split<'_, char> {
        self.args.split(' ')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(keyword: &str, args: &str) -> StatusLine {
        StatusLine { keyword: keyword.to_owned(), args: args.to_owned() }
    }

    #[test]
    fn only_status_lines_count() {
        let text = b"[GNUPG:] A\nGNUPG: B\n x[GNUPG:] C\n[GNUPG:] \n[GNUPG:]D\n[GNUPG:] E  f g\r\n[GNUPG:] \xff \xfe";
        assert_eq!(StatusLine::parse(text), [line("A", ""), line("E", " f g"), line("\u{fffd}", "\u{fffd}")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn anything_can_be_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for line in StatusLine::parse(&bytes) {
                prop_assert!(!line.keyword.is_empty() && !line.keyword.contains(' '));
            }
        }

        #[test]
        fn what_was_written_is_read(pairs in proptest::collection::vec(("[A-Z_]{1,12}", "[ -~]{0,20}"), 0..10)) {
            let text: String = pairs.iter().map(|(keyword, args)| format!("[GNUPG:] {keyword} {args}\n")).collect();
            let expected: Vec<StatusLine> = pairs.iter().map(|(keyword, args)| line(keyword, args)).collect();
            prop_assert_eq!(StatusLine::parse(text.as_bytes()), expected);
        }
    }
}
