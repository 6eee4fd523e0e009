//! The forms in which objects and errors are printed.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::advice::Advised;

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

/// An error as the last line a person sees: red on a terminal, its causes in one line. A refusal of
/// the server begins as kubectl's do, with the reason that scripts look for.
pub fn error_line(error: &anyhow::Error) -> String {
    let refusal = error.chain().find_map(|e| e.downcast_ref::<skiff_client::Error>()).map(skiff_client::Error::reason);
    let head = match refusal {
        Some(reason) if !reason.is_empty() => format!("Error from server ({reason}):"),
        _ => "error:".to_owned(),
    };
    // With advice the outermost words hold all others.
    let text = match error.downcast_ref::<Advised>() {
        Some(advised) => advised.to_string(),
        None => format!("{error:#}"),
    };
    if std::io::stderr().is_terminal() { format!("\u{1b}[31m{head}\u{1b}[0m {text}") } else { format!("{head} {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use skiff_proto::metav1;

    #[test]
    fn refusals_begin_with_their_reason() {
        let status =
            metav1::Status { reason: "NotFound".into(), message: "pods \"x\" not found".into(), ..Default::default() };
        let refused = || skiff_client::Error::api("get pods x", status.clone());
        assert_eq!(error_line(&refused().into()), "Error from server (NotFound): pods \"x\" not found");
        let placed = Err::<(), _>(refused()).context("a.yaml").unwrap_err();
        assert_eq!(error_line(&placed), "Error from server (NotFound): a.yaml: pods \"x\" not found");
        assert_eq!(error_line(&anyhow::anyhow!("x")), "error: x");
    }
}
