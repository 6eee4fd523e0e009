//! The real tables, through `iptables-restore` and `iptables-save`.
//!
//! They are child processes of the proxy, so they see the network namespace that it runs in. Each has a time
//! limit and is killed at it. nf_tables needs no lock; the older backend locks a file, which by default all nodes of
//! one machine would share: hence a lock file per node.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

use super::{ApplyError, RuleApplier, conntrack};
use crate::rules::{StaleFlow, Table};

/// How to reach the tables.
#[derive(Clone, Debug)]
pub struct IptablesOptions {
    /// The program that restores; `iptables-restore` is whichever backend the machine prefers.
    pub restore: PathBuf,
    /// The program that saves.
    pub save: PathBuf,
    /// The program that forgets connections, where it is installed.
    pub conntrack: PathBuf,
    /// What to put before every command, for example `ip netns exec NAME`; usually nothing.
    pub enter: Vec<OsString>,
    /// This node's own lock file.
    pub lock_file: PathBuf,
    /// How long one call may take.
    pub time_limit: Duration,
}

impl IptablesOptions {
    /// The machine's own iptables, with this lock file.
    pub fn new(lock_file: impl Into<PathBuf>) -> IptablesOptions {
        IptablesOptions {
            restore: "iptables-restore".into(),
            save: "iptables-save".into(),
            conntrack: "conntrack".into(),
            enter: Vec::new(),
            lock_file: lock_file.into(),
            time_limit: Duration::from_secs(60),
        }
    }
}

/// Applies rules through iptables' own programs.
pub struct Iptables {
    options: IptablesOptions,
    /// One call at a time: two restores at once would only wait for each other.
    turn: Mutex<()>,
    legacy: OnceCell<bool>,
    conntrack: conntrack::Notice,
}

/// Which of a restore's lines a complaint names, and where.
const LINE_WORDS: [&str; 3] = ["Error occurred at line: ", "line ", "at line "];

impl Iptables {
    /// Nothing runs before the first call.
    pub fn new(options: IptablesOptions) -> Iptables {
        Iptables { options, turn: Mutex::new(()), legacy: OnceCell::new(), conntrack: conntrack::Notice::default() }
    }

    /// Whether this is the older backend, which takes and gives back a whole table each time.
    async fn is_legacy(&self) -> Result<bool, ApplyError> {
        let asked = self.legacy.get_or_try_init(|| async {
            let output = self.run(&self.options.restore, &["--version".into()], None).await?;
            Ok(String::from_utf8_lossy(&output.stdout).contains("legacy"))
        });
        asked.await.copied()
    }

    /// Runs one program to its end.
    async fn run(&self, program: &PathBuf, args: &[String], input: Option<&str>) -> Result<Output, ApplyError> {
        let _turn = self.turn.lock().await;
        let mut words: Vec<OsString> = self.options.enter.clone();
        words.push(program.into());
        words.extend(args.iter().map(OsString::from));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("XTABLES_LOCKFILE", &self.options.lock_file)
            .env("LC_ALL", "C")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let name = program.display().to_string();
        let cannot = |error: std::io::Error| ApplyError::Run { program: name.clone(), reason: error.to_string() };
        let mut child = command.spawn().map_err(cannot)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that gives up early closes its input; its own words say more than a broken pipe.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let work = async { tokio::join!(feed, child.wait_with_output()).1 };
        match tokio::time::timeout(self.options.time_limit, work).await {
            Ok(output) => output.map_err(cannot),
            Err(_) => {
                let seconds = self.options.time_limit.as_secs();
                Err(ApplyError::Timeout { program: name, seconds })
            }
        }
    }
}

#[async_trait]
impl RuleApplier for Iptables {
    async fn restore(&self, text: &str) -> Result<(), ApplyError> {
        let mut args = vec!["--noflush".to_owned()];
        if self.is_legacy().await? {
            args.extend(["-w".to_owned(), "10".to_owned()]);
        }
        let output = self.run(&self.options.restore, &args, Some(text)).await?;
        if output.status.success() {
            return Ok(());
        }
        let reason = words(&output.stderr);
        let line = named_line(&reason, text).map(str::to_owned);
        Err(ApplyError::Refused { program: self.options.restore.display().to_string(), reason, line })
    }

    async fn save(&self, table: Table) -> Result<String, ApplyError> {
        let args = ["-t".to_owned(), table.to_string()];
        let output = self.run(&self.options.save, &args, None).await?;
        if output.status.success() {
            // Megabytes of it, and hardly ever anything but ASCII: no copy.
            let text = String::from_utf8(output.stdout);
            return Ok(text.unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()));
        }
        let program = self.options.save.display().to_string();
        Err(ApplyError::Refused { program, reason: words(&output.stderr), line: None })
    }

    async fn forget(&self, flows: &[StaleFlow]) -> Result<(), ApplyError> {
        for flow in flows {
            let output = match self.run(&self.options.conntrack, &conntrack::arguments(flow), None).await {
                Ok(output) => output,
                Err(ApplyError::Run { reason, .. }) => {
                    self.conntrack.missing(&reason);
                    return Ok(());
                }
                Err(other) => return Err(other),
            };
            if !output.status.success() && !conntrack::found_nothing(&output.stderr) {
                let program = self.options.conntrack.display().to_string();
                return Err(ApplyError::Refused { program, reason: words(&output.stderr), line: None });
            }
        }
        Ok(())
    }

    /// nf_tables slows down within large transactions; the older backend copies the whole table for each one.
    async fn batch_limit(&self) -> Result<usize, ApplyError> {
        Ok(if self.is_legacy().await? { 200_000 } else { 1_500 })
    }
}

/// What a program complained of, in one line.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("Try `")).collect();
    let mut text = lines.join("; ");
    if text.len() > 600 {
        let end = text.floor_char_boundary(600);
        text.truncate(end);
        text.push_str(" ...");
    }
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}

/// The line of `restore` that the complaint is about. nf_tables finds some faults only at the end, and then names
/// the COMMIT, which helps nobody.
fn named_line<'a>(reason: &str, restore: &'a str) -> Option<&'a str> {
    LINE_WORDS.iter().find_map(|words| {
        let rest = &reason[reason.find(words)? + words.len()..];
        let digits: &str = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        let line = restore.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?)?;
        (line != "COMMIT").then_some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_its_line() {
        let restore = "*nat\n:A - [0:0]\n-A A -j B\nCOMMIT\n";
        for reason in [
            "iptables-restore v1.8.9 (legacy): Couldn't load target `B'; Error occurred at line: 3",
            "line 3: RULE_INSERT failed (Too many links): rule in chain PREROUTING",
            "iptables-restore: line 3 failed",
        ] {
            assert_eq!(named_line(reason, restore), Some("-A A -j B"), "{reason}");
        }
        assert_eq!(named_line("line 0 failed", restore), None);
        assert_eq!(named_line("line 4 failed", restore), None);
        assert_eq!(named_line("Permission denied", restore), None);
    }

    fn options(program: &str) -> IptablesOptions {
        let mut options = IptablesOptions::new("/nonexistent/lock");
        options.restore = program.into();
        options.save = program.into();
        options.conntrack = program.into();
        options
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let iptables = Iptables::new(options("/nonexistent/iptables-restore"));
        let error = iptables.restore("*nat\nCOMMIT\n").await.unwrap_err();
        assert!(matches!(error, ApplyError::Run { .. }), "{error}");
        assert!(error.to_string().contains("/nonexistent/iptables-restore"), "{error}");
    }

    #[tokio::test]
    async fn without_conntrack_nothing_fails() {
        let iptables = Iptables::new(options("/nonexistent/conntrack"));
        let flow = StaleFlow { address: None, port: 30053, endpoint: None };
        iptables.forget(&[flow]).await.expect("a missing conntrack is only noted");
    }

    #[tokio::test]
    async fn what_hangs_is_killed() {
        let mut options = options("cat");
        options.enter = vec!["sh".into(), "-c".into(), "sleep 1000".into()];
        options.time_limit = Duration::from_millis(10);
        let error = Iptables::new(options).save(Table::Nat).await.unwrap_err();
        assert!(matches!(error, ApplyError::Timeout { .. }), "{error}");
    }
}
