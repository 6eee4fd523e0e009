//! What is printed for people. A reader that went away (`skiff status | head`) is no reason to stop halfway, least of all
//! `up` and `down`: what cannot be written is dropped.

use std::fmt::Arguments;
use std::io::Write;

/// Prints a line on standard output.
pub fn line(words: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{words}");
}

/// `println!`, without its panic when nobody reads.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}
pub(crate) use say;
