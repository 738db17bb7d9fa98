//! Calls: a command line in one piece, for [`cmd!`](macro@crate::cmd).
//!
//! Rules: a line means the same here as in a POSIX shell, or does not compile. A value is never split and never
//! interpreted. One function, [`step`], reads the line both at compile time and at run time.

use std::ffi::{OsStr, OsString};

use crate::command::Command;

/// A [`Command`](crate::Command) from a command line in one piece, checked at compile time. No shell runs.
///
/// Words are split at white space; `'…'` and `"…"` keep theirs together. Each `{}` takes one value: `AsRef<OsStr>`,
/// or an integer. The value stays one argument, or a part of one, with any characters in it. A value after `..` is a
/// list: its `{}` stands alone, and becomes one argument for each element.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::cmd;
/// let (message, files) = ("it's $HOME; rm -rf *", ["a b", "c"]);
/// let said = cmd!("printf '%s\n' commit -m {} --author={} {}", message, "me", ..files)
///     .read()
///     .await?;
/// assert_eq!(said, "commit\n-m\nit's $HOME; rm -rf *\n--author=me\na b\nc");
/// assert_eq!(
///     cmd!("seq 100").pipe(cmd!("sort -r")).pipe(cmd!("head -n {}", 1)).read().await?,
///     "99"
/// );
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// If a value begins with `-`, the program may take it for an option. Put `--` before it if the program supports
/// that.
///
/// # Errors
/// These do not compile, because a shell would read them differently:
///
/// - `$`, a backquote, `\`, and a brace that is not part of `{}`, outside of `'…'`;
/// - `|&;<>()[]*?~#` and a line end, outside of quotes;
/// - an assignment in the program's place.
///
/// Nor do these: an unfinished quote, a line without words, and a number of values that differs from the number of
/// `{}`.
///
/// ```compile_fail
/// reaped::cmd!("cat *.txt");
/// ```
/// ```compile_fail
/// reaped::cmd!("cat {} {}", "one");
/// ```
/// ```compile_fail
/// reaped::cmd!("cat --file={}", ..["a list in a word"]);
/// ```
#[macro_export]
macro_rules! cmd {
    ($line:literal $(, $($values:tt)*)?) => {
        $crate::__cmd_values!($line [] [] $($($values)*)?)
    };
    ($($other:tt)*) => {
        ::core::compile_error!("cmd! takes one command line, in quotes, and then a value for each {} in it; for words that are known only when the program runs there is Command::new")
    };
}

/// The values of [`cmd!`](macro@crate::cmd), one at a time. A macro of its own, so that the page of `cmd!` shows only
/// how to call it.
#[doc(hidden)]
#[macro_export]
macro_rules! __cmd_values {
    ($line:literal [$($list:literal)*] [$($value:expr,)*]) => {{
        const _: () = $crate::__cmd::check($line, &[$($list),*]);
        $crate::__cmd::command($line, [$($value),*])
    }};
    ($line:literal [$($list:literal)*] [$($value:expr,)*] .. $next:expr $(, $($rest:tt)*)?) => {
        $crate::__cmd_values!($line [$($list)* true] [$($value,)* $crate::__cmd::list($next),] $($($rest)*)?)
    };
    ($line:literal [$($list:literal)*] [$($value:expr,)*] $next:expr $(, $($rest:tt)*)?) => {
        $crate::__cmd_values!($line [$($list)* false] [$($value,)* $crate::__cmd::one(&$next),] $($($rest)*)?)
    };
    // Values that do not fit: the message of `cmd!` without a line.
    ($($other:tt)*) => {
        $crate::cmd!()
    };
}

/// Fills one `{}`: a single value, or a list.
#[derive(Debug)]
pub struct Value(Vec<OsString>);

/// A type that can fill a `{}`. `Kind` is [`Text`] or [`Number`], and follows from the type. It allows one
/// implementation for all text, and others for integers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a value of `cmd!`",
    label = "neither text, nor a path, nor an integer",
    note = "text is what implements `AsRef<OsStr>`; for a list write `..` before it"
)]
pub trait Word<Kind> {
    /// As an argument.
    fn word(&self) -> OsString;
}

/// `AsRef<OsStr>`.
#[derive(Debug)]
pub enum Text {}

/// An integer, in decimal.
#[derive(Debug)]
pub enum Number {}

impl<T: AsRef<OsStr> + ?Sized> Word<Text> for T {
    fn word(&self) -> OsString {
        self.as_ref().to_owned()
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Word<Number> for $type {
            fn word(&self) -> OsString {
                self.to_string().into()
            }
        }

        impl Word<Number> for &$type {
            fn word(&self) -> OsString {
                self.to_string().into()
            }
        }
    )*};
}

numbers!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

/// A single value.
pub fn one<Kind>(value: &(impl Word<Kind> + ?Sized)) -> Value {
    Value(vec![value.word()])
}

/// A list.
pub fn list<Kind>(values: impl IntoIterator<Item = impl Word<Kind>>) -> Value {
    Value(values.into_iter().map(|value| value.word()).collect())
}

/// Refuses a bad line at compile time. `lists` says of each value whether it is a list.
pub const fn check(line: &str, lists: &[bool]) {
    if let Some(why) = refusal(line.as_bytes(), lists) {
        panic!("{}", why);
    }
}

/// The command of a checked line.
pub fn command<const N: usize>(line: &str, values: [Value; N]) -> Command {
    let (mut words, mut word, mut values) = (Vec::new(), None::<OsString>, values.into_iter());
    let mut at = START;
    loop {
        let (step, next) = step(line.as_bytes(), at);
        match step {
            Step::Text => word.get_or_insert_default().push(&line[at.byte..next.byte]),
            Step::Quote => drop(word.get_or_insert_default()),
            Step::Hole => {
                let values = values.next().map_or_else(Vec::new, |value| value.0);
                match &mut word {
                    None if next.ends_word(line.as_bytes()) => words.extend(values),
                    word => values.iter().for_each(|value| word.get_or_insert_default().push(value)),
                }
            }
            Step::Space => words.extend(word.take()),
            Step::End | Step::Wrong(_) => break,
        }
        at = next;
    }
    let mut words = words.into_iter().chain(word);
    // An empty list in the program's place leaves no name; the run reports that.
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

const fn refusal(line: &[u8], lists: &[bool]) -> Option<&'static str> {
    let (mut at, mut words, mut in_word, mut holes) = (START, 0, false, 0);
    loop {
        let (step, next) = step(line, at);
        match step {
            Step::Wrong(why) => return Some(why),
            Step::End if words == 0 => return Some("a line without words"),
            Step::End if holes < lists.len() => return Some("more values than {}"),
            Step::End => return None,
            Step::Hole if holes == lists.len() => return Some("more {} than values"),
            Step::Hole if lists[holes] && (in_word || !next.ends_word(line)) => {
                return Some("the {} of a list is a part of a word");
            }
            Step::Hole => holes += 1,
            Step::Text if words <= in_word as usize && at.quote == 0 && assigns(line, at, next) => {
                return Some("an assignment in the program's place: use Command::env");
            }
            Step::Text | Step::Quote | Step::Space => {}
        }
        words += (!in_word && !matches!(step, Step::Space)) as usize;
        in_word = !matches!(step, Step::Space);
        at = next;
    }
}

const fn assigns(line: &[u8], mut from: Place, to: Place) -> bool {
    while from.byte < to.byte && line[from.byte] != b'=' {
        from.byte += 1;
    }
    from.byte < to.byte
}

/// The reader's position: the next byte, and the quote around it, or 0.
#[derive(Clone, Copy)]
struct Place {
    byte: usize,
    quote: u8,
}

const START: Place = Place { byte: 0, quote: 0 };

impl Place {
    const fn ends_word(self, line: &[u8]) -> bool {
        self.quote == 0 && (self.byte == line.len() || matches!(line[self.byte], b' ' | b'\t'))
    }
}

#[derive(Clone, Copy)]
enum Step {
    /// The text between the two positions, unchanged: whole characters.
    Text,
    /// A quote begins or ends.
    Quote,
    Hole,
    Space,
    End,
    Wrong(&'static str),
}

/// The next part of a line, and the position after it.
const fn step(line: &[u8], at: Place) -> (Step, Place) {
    let Place { byte, quote } = at;
    let mut end = at;
    while end.byte < line.len() && is_text(line[end.byte], quote) {
        end.byte += 1;
    }
    if end.byte > byte {
        return (Step::Text, end);
    }
    if byte == line.len() {
        return (if quote == 0 { Step::End } else { Step::Wrong("a quote without its other half") }, at);
    }
    let step = match line[byte] {
        b' ' | b'\t' => Step::Space,
        b'\'' | b'"' => Step::Quote,
        b'{' if byte + 1 < line.len() && line[byte + 1] == b'}' => Step::Hole,
        b'{' | b'}' => Step::Wrong("a brace that is not of {}: put it in '…'"),
        _ => Step::Wrong("a character that means something to a shell, which is not there: put it in '…'"),
    };
    end.byte += if matches!(step, Step::Hole) { 2 } else { 1 };
    if let Step::Quote = step {
        end.quote = if quote == 0 { line[byte] } else { 0 };
    }
    (step, end)
}

/// Whether a byte stands for itself inside this quote.
const fn is_text(byte: u8, quote: u8) -> bool {
    match (quote, byte) {
        (b'\'', _) => byte != b'\'',
        (_, b'"' | b'$' | b'`' | b'\\' | b'{' | b'}') => false,
        (b'"', _) => true,
        (_, b'\'' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'[' | b']') => false,
        (_, b'*' | b'?' | b'~' | b'#') => false,
        _ => byte > b' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is a list, and what is in it.
    type Filling<'a> = (bool, &'a [&'a str]);

    fn words(line: &str, values: Vec<Filling<'_>>) -> Result<Vec<String>, &'static str> {
        let lists: Vec<bool> = values.iter().map(|(is_list, _)| *is_list).collect();
        if let Some(why) = refusal(line.as_bytes(), &lists) {
            return Err(why);
        }
        let mut values = values.into_iter().map(|(_, values)| list(values));
        let mut next = || values.next().unwrap_or(Value(Vec::new()));
        let command = command(line, [next(), next(), next()]);
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        Ok(all.map(|word| word.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn lines_are_split_as_a_shell_would() {
        for line in [
            "ls",
            "  ls\t-l   / ",
            "echo 'a  b' \"c  d\" e'f'\"g\"h",
            "echo '' \"\" x''y",
            "echo '$HOME `x` \\ * {} {' \"it's | & ; < > ( ) * ? [ ~ #\"",
            "grep -e=x %-+,.:/@^_!",
            "echo grüße 'grüße' \"日本\"語",
            "echo 'two\nlines'",
        ] {
            let ours = words(line, vec![]).unwrap_or_else(|why| panic!("{line}: {why}"));
            // The words that a shell finds.
            #[cfg(all(unix, not(miri)))]
            {
                let script = format!("printf '%s\\0' {line}");
                let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
                let said = String::from_utf8(said).unwrap();
                assert_eq!(ours, said.split_terminator('\0').collect::<Vec<_>>(), "{line}");
            }
            assert!(!ours.is_empty());
        }
    }

    #[test]
    fn values_stay_what_they_are() {
        let odd = "a b'c\"$x;{}*";
        let one: &[&str] = &[odd];
        let filled = |line, values| words(line, values).unwrap();
        assert_eq!(filled("x {}", vec![(false, one)]), ["x", odd]);
        assert_eq!(filled("{} x", vec![(false, one)]), [odd, "x"]);
        assert_eq!(
            filled("x --a={} \"b {} c\" {}d", vec![(false, one); 3]),
            ["x", &format!("--a={odd}"), &format!("b {odd} c"), &format!("{odd}d")]
        );
        assert_eq!(filled("x {}{}", vec![(false, one); 2]), ["x", &odd.repeat(2)]);
        assert_eq!(filled("x {} \"{}\" ''{}", vec![(false, &[""]); 3]), ["x", "", "", ""]);
        assert_eq!(filled("x {} y", vec![(true, &["a b", "", "c"])]), ["x", "a b", "", "c", "y"]);
        assert_eq!(filled("x {} y", vec![(true, &[])]), ["x", "y"]);
        assert_eq!(filled("{}", vec![(true, &["p", "q"])]), ["p", "q"]);
        assert_eq!(filled("{}", vec![(true, &[])]), [""]);
    }

    #[test]
    fn what_a_shell_would_take_otherwise_is_refused() {
        for special in "$`\\|&;<>()[]*?~#{}\n\r\0".chars() {
            for line in [format!("echo {special}"), format!("echo a{special}b"), format!("{special}")] {
                assert!(words(&line, vec![]).is_err(), "{line:?}");
            }
        }
        for line in ["echo \"$x\"", "echo \"`x`\"", "echo \"\\n\"", "echo \"{x}\"", "echo {x}", "echo { }"] {
            assert!(words(line, vec![]).is_err(), "{line:?}");
        }
        for line in ["", "  ", "echo 'a", "echo \"a", "echo a'", "A=b", "A=b echo", "  A='b' echo", "A=\"x\""]
        {
            assert!(words(line, vec![]).is_err(), "{line:?}");
        }
        let (one, list): (Filling<'_>, Filling<'_>) = ((false, &["1"]), (true, &["2", "3"]));
        for (line, values) in [
            ("echo", vec![one]),
            ("echo {}", vec![]),
            ("echo {}", vec![one, one]),
            ("echo '{}'", vec![one]),
            ("echo a{}", vec![list]),
            ("echo {}a", vec![list]),
            ("echo \"{}\"", vec![list]),
            ("echo {}{}", vec![list, one]),
            ("echo {}''", vec![list]),
        ] {
            assert!(words(line, values).is_err(), "{line:?}");
        }
    }
}
