//! The part of the builder that only Windows has.

use std::ffi::OsStr;

use super::Command;

/// Only on Windows.
impl Command {
    /// Adds text to the command line unchanged, after a space and without quotes; std's `CommandExt::raw_arg`.
    ///
    /// Use it for a program with its own rules for the command line, such as `cmd /c` and `msiexec`. You must quote
    /// the text for that program. Foreign text in it can become more arguments, and with `cmd` or a batch file more
    /// commands.
    ///
    /// [`get_args`](Self::get_args) and messages show it as one argument.
    ///
    /// # Platform
    /// Windows.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let mut shell = reaped::Command::new("cmd");
    /// assert_eq!(shell.arg("/c").raw_arg(r#"echo "a b""#).read().await?, r#""a b""#);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn raw_arg(&mut self, text: impl AsRef<OsStr>) -> &mut Self {
        self.raw_args.push(self.args.len());
        self.arg(text)
    }

    /// Whether a console program shows no window; `false` by default. std has the flag `CREATE_NO_WINDOW` for it.
    ///
    /// If this program has no console (a GUI program, a service), the system opens a window for each console child.
    /// With this setting the child gets a hidden console instead. Other children are unaffected.
    ///
    /// Neither Ctrl-C nor Ctrl-Break at this program's console reaches the child. It cannot be asked to end by
    /// Ctrl-Break either, because that needs a common console. So with [`new_group`](Self::new_group) INT, TERM and
    /// KILL end it at once. Any other signal is an error.
    ///
    /// # Platform
    /// Windows.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let name = reaped::Command::new("hostname").no_window(true).read().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn no_window(&mut self, no_window: bool) -> &mut Self {
        self.no_window = no_window;
        self
    }
}
