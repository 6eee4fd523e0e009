//! The forms in which objects and errors are printed.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use serde_json::Value;

/// What `-o` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The table with more columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `type/name`, a line each.
    Name,
}

/// Writes to standard output; a closed pipe is an error that `main` knows.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// One line to standard output.
pub fn line(text: impl AsRef<str>) -> Result<()> {
    print(&format!("{}\n", text.as_ref()))
}

/// The JSON or YAML text of a value.
pub fn document(value: &Value, format: Format) -> Result<String> {
    match format {
        Format::Yaml => Ok(skiff_proto::yaml::write(value)),
        _ => Ok(format!("{}\n", serde_json::to_string_pretty(value).context("write JSON")?)),
    }
}

/// An error as the last line a person sees: red on a terminal, its causes in one line.
pub fn error_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if std::io::stderr().is_terminal() { format!("\u{1b}[31merror:\u{1b}[0m {text}") } else { format!("error: {text}") }
}
