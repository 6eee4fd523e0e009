//! examples/by-hand/README.md, typed: every command of the page on a real machine, one after the other, and each shows
//! what the page says one sees.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, PATIENCE, binary, eventually};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What the page asks of its reader.
#[derive(Debug, PartialEq)]
enum Step {
    /// Type this and go on when it is done; where something stands below it, it is what one sees.
    Type { command: String, sees: Option<String> },
    /// Type this in a terminal of its own, and leave it running.
    Terminal(String),
}

/// The page's code blocks in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![];
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        match kind {
            "sh" => steps.push(Step::Type { command: block, sees: None }),
            "sh terminal" => steps.push(Step::Terminal(block)),
            "text" => match steps.last_mut() {
                Some(Step::Type { sees: sees @ None, .. }) => *sees = Some(block),
                other => panic!("what is seen belongs to a command; before it stands {other:?}"),
            },
            other => panic!("the page has a block of an unknown kind: {other:?}"),
        }
    }
    steps
}

/// Whether the output is what the page shows: line by line, runs of blanks being one blank. `…` is whatever stands
/// there, and as a line of its own any number of lines.
fn shows(page: &str, output: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let tidy = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        tidy.filter(|line| !line.is_empty()).collect()
    };
    lines_match(&words(page), &words(output))
}

fn lines_match(page: &[String], output: &[String]) -> bool {
    match (page, output) {
        ([], []) => true,
        ([any, rest @ ..], _) if any == "…" => {
            (0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..]))
        }
        ([one, rest @ ..], [line, others @ ..]) => line_matches(one, line) && lines_match(rest, others),
        _ => false,
    }
}

fn line_matches(page: &str, line: &str) -> bool {
    let Some((before, after)) = page.split_once('…') else { return page == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    // Something stands there: `…` is never nothing.
    ends.filter(|at| *at > 0).any(|at| line_matches(after, &rest[at..]))
}

#[test]
fn the_page_is_read_as_it_is_meant() {
    let page = "a\n```sh\nx\n```\n```text\n1\n2\n```\nb\n```sh terminal\ny\n```\n";
    let sees = Some("1\n2".to_owned());
    assert_eq!(steps(page), [Step::Type { command: "x".into(), sees }, Step::Terminal("y".into())]);
    for (page, output, same) in [
        ("a  b", "a b\n", true),
        ("a …", "a 3s", true),
        ("a …", "a", false),
        ("h-… 1", "h-x7 1", true),
        ("h-… 1", "h-x7 2", false),
        ("a\n…\nb", "a\n1\n2\nb", true),
        ("a\nb", "a\n1\nb", false),
        ("a", "a\nb", false),
    ] {
        assert_eq!(shows(page, output), same, "{page:?} {output:?}");
    }
}

/// The terminals in which components run; they end with the test.
#[derive(Default)]
struct Terminals(Vec<(String, Child)>);

impl Drop for Terminals {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A shell at the project's root that has our binaries, as a reader has after `make install`.
fn shell(cluster: &Cluster, script: &str) -> Command {
    let bin = binary("skiff");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(Path::new(ROOT));
    command.env("PATH", format!("{}:{path}", bin.parent().unwrap().display()));
    command.env("CLUSTER", cluster.name()).env("SKIFF_HOME", cluster.home());
    command
}

#[test]
fn the_page_by_hand_is_true() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("examples/by-hand/README.md")).unwrap();
    let mut steps = steps(&page).into_iter();
    let Some(Step::Type { command: setting, sees: None }) = steps.next() else {
        panic!("the page begins with what every terminal is told");
    };
    // It is not on `skiff up`, so neither on the store that the other tests are asked to use.
    let cluster = Cluster::new("by-hand", vec![], vec![]);
    let mut terminals = Terminals::default();
    for step in steps {
        match step {
            Step::Terminal(command) => {
                let script = format!("{setting}\nexec {command}");
                let log = cluster.home().join(format!("terminal-{}", terminals.0.len()));
                let log = std::fs::File::create(log).unwrap();
                let mut child = shell(&cluster, &script);
                child.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
                terminals.0.push((command, child.spawn().unwrap()));
            }
            Step::Type { command, sees } => see(&cluster, &setting, &command, sees.as_deref()),
        }
        for (command, child) in &mut terminals.0 {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() || !cluster.dir().exists(), "{command} ended by itself: {ended:?}");
        }
    }
    assert_eq!(terminals.0.len(), 5, "API server, controllers, scheduler, kubelet, proxy");
    for (command, child) in &mut terminals.0 {
        let status = eventually(&format!("{command} ends with `skiff down`"), || child.try_wait().unwrap());
        assert!(status.success(), "{command}: {status}");
    }
    assert!(!cluster.dir().exists() && cluster.containers().is_empty(), "the page ends with nothing left behind");
}

/// Types a command until it shows what the page says: a reader looks again too. One that changes something shows it the
/// first time, and something else the second, so it is not typed again for long.
fn see(cluster: &Cluster, setting: &str, command: &str, sees: Option<&str>) {
    let began = Instant::now();
    let mut first = None;
    loop {
        let output = shell(cluster, &format!("{setting}\n{command} 2>&1")).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some(page) = sees else { return assert!(output.status.success(), "{command}:\n{shown}") };
        if shows(page, &shown) {
            return;
        }
        let first = first.get_or_insert_with(|| shown.clone());
        assert!(
            began.elapsed() < PATIENCE,
            "{command}\nthe page says\n{page}\nand one sees at first\n{first}\nand at last\n{shown}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
