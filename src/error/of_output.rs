//! Ground: how an output becomes the result of a call: a value or an error.

use super::{Details, Error};
use crate::output::{Output, most_room};

impl Output {
    /// Returns this output if the program exited with code 0, or with one of its
    /// [`ok_codes`](crate::Command::ok_codes).
    ///
    /// # Errors
    /// [`Error::Failed`], with this output in it, for any other code and if a signal killed the program.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::output("false", [""; 0]).await?.check().unwrap_err();
    /// assert_eq!(error.to_string(), "`false` exited with code 1");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn check(self) -> Result<Output, Error> {
        if self.succeeded() { Ok(self) } else { Err(Error::Failed(Details::ended(self))) }
    }

    /// The exit code. There is none if a signal killed the program.
    pub(crate) fn into_code(self) -> Result<i32, Error> {
        match self.status.code() {
            Some(code) => Ok(code),
            None => self.check().map(|_| 0),
        }
    }

    /// stdout as text, without its last line end.
    pub(crate) fn into_text(mut self) -> Result<String, Error> {
        if self.omitted(1) > 0 {
            let push =
                |text: &mut String, bytes: &[u8]| std::str::from_utf8(bytes).map(|more| text.push_str(more));
            match self.text_of(1, &self.stdout, push) {
                // It is text, except for a character that was cut in two.
                Ok(text) => (self.stdout, self.gaps) = (text.into_bytes(), Vec::new()),
                Err(_) => {
                    let text = "wrote to stdout what is not UTF-8".to_owned();
                    return Err(Error::NotUtf8(Details::of(self, text)));
                }
            }
        }
        match String::from_utf8(std::mem::take(&mut self.stdout)) {
            Ok(mut text) => {
                if text.ends_with('\n') {
                    text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
                }
                if text.capacity() > most_room(text.len()) {
                    text.shrink_to_fit();
                }
                Ok(text)
            }
            Err(error) => {
                let place = error.utf8_error().valid_up_to();
                self.stdout = error.into_bytes();
                let text = format!("wrote to stdout what is not UTF-8, from byte {place} on");
                Err(Error::NotUtf8(Details::of(self, text)))
            }
        }
    }
}
