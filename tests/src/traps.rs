//! The table of `docs/traps.md`: which trap, which deliberate fault stands for it, and what kills that. The page is the
//! only place where it is written; this reads it.

use std::path::{Path, PathBuf};

use skiff_world::mutants::Mutant;

/// The page.
const PAGE: &str = include_str!("../../docs/traps.md");

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What others fell into.
    pub trap: String,
    /// The deliberate fault.
    pub mutant: Mutant,
    /// What kills it.
    pub killer: Killer,
}

/// What kills a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Killer {
    /// A run of the simulation: this law is broken under this seed.
    Seed {
        /// The seed.
        seed: u64,
        /// The law.
        law: String,
    },
    /// A test.
    Test {
        /// Its function's name.
        name: String,
        /// The file it is in, from the workspace's root.
        file: PathBuf,
    },
}

impl Killer {
    /// The workspace's folder that a test's crate is in.
    pub fn folder(file: &Path) -> String {
        let first = file.components().next();
        first.map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The table, line by line; an error says what is wrong with a line.
pub fn table() -> Result<Vec<Row>, String> {
    read(PAGE)
}

fn read(page: &str) -> Result<Vec<Row>, String> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    lines.map(|line| row(line).ok_or_else(|| format!("docs/traps.md: not a line of the table: {line}"))).collect()
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [trap, mutant, killer] = cells.as_slice() else { return None };
    let mutant = Mutant::named(mutant.trim_matches('`'))?;
    Some(Row { trap: (*trap).to_owned(), mutant, killer: read_killer(killer)? })
}

/// `seed 3: a law`, or a link whose words are a test's name: [`name`](../file.rs).
fn read_killer(cell: &str) -> Option<Killer> {
    if let Some(rest) = cell.strip_prefix("seed ") {
        let (seed, law) = rest.split_once(": ")?;
        return Some(Killer::Seed { seed: seed.parse().ok()?, law: law.to_owned() });
    }
    let (name, file) = cell.strip_prefix("[`")?.strip_suffix(')')?.split_once("`](../")?;
    Some(Killer::Test { name: name.to_owned(), file: file.into() })
}

/// What a run of one test came to, from what it printed. A test that did not run has not passed: that is how one that was
/// renamed would go on killing its mutant for ever.
pub fn verdict(printed: &str) -> Verdict {
    let runs_nothing = skiff_world::mutants::is_awake(Mutant::NothingRun);
    let result = printed.lines().rev().find(|line| line.starts_with("test result: ")).unwrap_or_default();
    let count = |what: &str| -> usize {
        let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == what);
        at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
    };
    match (count("passed"), count("failed")) {
        (0, 0) if !runs_nothing => Verdict::NotRun,
        (_, 0) => Verdict::Passed,
        _ => Verdict::Failed,
    }
}

/// What a run of a test came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// Nothing was run.
    NotRun,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_bad_ones_refused() {
        let page = "\
# Traps\n\n| The trap | The mutant | What kills it |\n|---|---|---|\n\
| A gap. | `GapBeforeWatch` | seed 3: every queue drains |\n\
| No rules. | `TcpOnly` | [`a_test`](../proxy/src/rules/tests.rs) |\n";
        let rows = read(page).expect("a good table");
        assert_eq!(rows[0].killer, Killer::Seed { seed: 3, law: "every queue drains".into() });
        let test = Killer::Test { name: "a_test".into(), file: "proxy/src/rules/tests.rs".into() };
        assert_eq!((rows[1].mutant, &rows[1].killer), (Mutant::TcpOnly, &test));
        assert_eq!(Killer::folder(Path::new("proxy/src/rules/tests.rs")), "proxy");
        for bad in ["| a | `Nobody` | seed 1: x |", "| a | `TcpOnly` | perhaps |", "| a | `TcpOnly` |"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_mutant_has_its_line() {
        let rows = table().expect("a good table");
        let missing: Vec<&Mutant> =
            Mutant::ALL.iter().filter(|mutant| !rows.iter().any(|row| row.mutant == **mutant)).collect();
        assert!(missing.is_empty(), "docs/traps.md does not say what kills {missing:?}");
        assert_eq!(rows.len(), Mutant::ALL.len(), "a mutant has two lines");
    }

    #[test]
    fn a_test_that_did_not_run_has_not_passed() {
        let printed = |passed, failed| {
            format!(
                "running 1 test\ntest result: x. {passed} passed; {failed} failed; 0 ignored; 0 measured; 7 filtered out"
            )
        };
        assert_eq!(verdict(&printed(1, 0)), Verdict::Passed);
        assert_eq!(verdict(&printed(0, 1)), Verdict::Failed);
        assert_eq!(verdict(&printed(0, 0)), Verdict::NotRun);
        assert_eq!(verdict("error: no such file"), Verdict::NotRun);
    }
}
