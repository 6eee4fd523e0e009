//! The house's rules that no compiler holds, read off the sources: who may depend on whom, what
//! determinism asks for, and what keeps the project readable. Each rule is also shown a bad sample,
//! so that it has been seen failing.

mod arrows;
mod code;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate lies in the workspace").to_owned()
}

/// A file of the project: its path from the root, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every file of the project with this extension, hidden folders and build output left out.
fn sources(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), &root(), extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, dir: &Path, extension: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("the project's folders can be read").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && name != "target" {
            collect(root, &path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let path = path.strip_prefix(root).expect("found below the root");
            found.push(Source { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

/// Applies a rule to every Rust source, and fails with all that it finds.
fn holds(rule: impl Fn(&Source) -> Vec<String>) {
    let sources = sources("rs");
    assert!(sources.len() > 50, "only {} sources found: looked in the wrong place", sources.len());
    no_complaints(sources.iter().flat_map(rule).collect());
}

fn no_complaints(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Shows a rule a bad sample and a good one.
fn bites(rule: impl Fn(&Source) -> Vec<String>, path: &str, bad: &str, good: &str) {
    let source = |text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    assert_eq!(rule(&source(bad)).len(), 1, "one complaint is due about: {bad}");
    assert_eq!(rule(&source(good)), Vec::<String>::new(), "nothing is wrong with: {good}");
}

#[test]
fn every_select_is_biased() {
    let good = "//! `select! {` in a comment\ntokio::select! {\n  biased;\n  _ = a => {} }";
    bites(rules::biased_selects, "x.rs", "let x = tokio::select! { _ = a => {} };", good);
    holds(rules::biased_selects);
}

#[test]
fn every_file_says_what_it_is_for() {
    bites(rules::opening, "x.rs", "use std::fs;\n//! Too late.", "//! Early enough.\nuse std::fs;");
    holds(rules::opening);
}

#[test]
fn every_field_of_a_kind_is_described() {
    let bad = "message Pod {\n  // Its name.\n  string name = 1;\n  map<string, string> labels = 2 [(x) = true];\n}";
    let good = "message Pod {\n  option (x) = 1;\n  // Its name.\n  string name = 1;\n}\nenum E {\n  A = 0;\n}";
    bites(rules::described, "x.proto", bad, good);
    let protos: Vec<Source> =
        sources("proto").into_iter().filter(|p| p.path.starts_with("proto/protos/k8s/")).collect();
    assert!(protos.len() > 8, "only {} files with kinds found", protos.len());
    no_complaints(protos.iter().flat_map(rules::described).collect());
}

#[test]
fn no_file_is_too_long() {
    let long = "//! Long.\n".repeat(rules::LONGEST_FILE + 1);
    let longest = "//! Long.\n".repeat(rules::LONGEST_FILE);
    bites(rules::length, "x.rs", &long, &longest);
    holds(rules::length);
}

#[test]
fn names_say_what_a_thing_is() {
    bites(rules::names, "x.rs", "pub mod string_utils;", "pub mod manager;\nmod utility_pole;");
    for bad in ["a/util.rs", "a/helpers/mod.rs", "a/pod_common.rs", "a/manager2.rs"] {
        let source = Source { path: bad.to_owned(), text: String::new() };
        assert_eq!(rules::names(&source).len(), 1, "{bad}");
    }
    holds(rules::names);
}

#[test]
fn unsafe_stays_in_its_place() {
    let good = "#![deny(unsafe_code)]\n// unsafe\nlet x = \"unsafe\";";
    bites(rules::unsafe_code, "kubelet/src/lib.rs", "unsafe { x() }", good);
    bites(rules::unsafe_code, "kubelet/src/pause.rs", "unsafe { x() }", "");
    holds(rules::unsafe_code);
}

#[test]
fn what_is_not_allowed_is_not_allowed_in_passing() {
    let bad = "#[allow(clippy::disallowed_methods)]";
    bites(rules::allowances, "client/src/lib.rs", bad, "#[allow(clippy::too_many_arguments)]");
    holds(rules::allowances);
}

#[test]
fn no_test_is_ignored() {
    bites(rules::ignored_tests, "x.rs", "#[test]\n#[ignore = \"slow\"]\nfn x() {}", "// #[ignore]");
    holds(rules::ignored_tests);
}

#[test]
fn crates_depend_as_the_house_is_built() {
    let bad = "[package]\nname = \"skiff-client\"\n[dependencies]\nskiff-apiserver.workspace = true";
    assert_eq!(arrows::complaints("client/Cargo.toml", bad).len(), 1);
    let bad = "[package]\nname = \"skiff-proxy\"\n[dependencies.skiff-kubelet]\npath = \"../kubelet\"";
    assert_eq!(arrows::complaints("proxy/Cargo.toml", bad).len(), 1);
    let bad = "[package]\nname = \"skiff-ctl\"\n[dev-dependencies]\nskiff-cluster = { path = \"..\" }";
    assert_eq!(arrows::complaints("ctl/Cargo.toml", bad).len(), 1);
    let good = "[package]\nname = \"skiff-client\"\n[dependencies]\nskiff-world.workspace = true\n\
                [dev-dependencies]\nskiff-apiserver.workspace = true";
    assert_eq!(arrows::complaints("client/Cargo.toml", good), Vec::<String>::new());

    let manifests = sources("toml");
    let manifests = manifests.iter().filter(|source| source.path.ends_with("Cargo.toml"));
    no_complaints(manifests.flat_map(|m| arrows::complaints(&m.path, &m.text)).collect());
}

#[test]
fn every_crate_keeps_the_workspace_s_lints() {
    assert!(!arrows::keeps_lints("[package]\nname = \"x\"\n[lints.rust]\nunsafe_code = \"allow\""));
    let without: Vec<String> = sources("toml")
        .into_iter()
        .filter(|source| source.path.ends_with("/Cargo.toml") && !arrows::keeps_lints(&source.text))
        .map(|source| format!("{}: `[lints] workspace = true` is missing", source.path))
        .collect();
    no_complaints(without);
}

/// The names that a page of docs/ says are in a file, as "[`name`](../file)".
fn named_in(page: &str) -> Vec<(String, String)> {
    let links = page.split("[`").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("`](../")?;
        let (file, _) = rest.split_once(')')?;
        Some((name.to_owned(), file.to_owned()))
    });
    links.collect()
}

/// Whether a source declares such a thing.
fn declares(source: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "const", "trait", "mod"].iter().any(|word| {
        source.match_indices(&format!("{word} {name}")).any(|(at, found)| {
            let after = source[at + found.len()..].chars().next();
            !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    })
}

#[test]
fn what_the_pages_name_is_where_they_say() {
    assert_eq!(named_in("see [`a`](../b.rs), [c](../d.rs)"), [("a".to_owned(), "b.rs".to_owned())]);
    assert!(declares("pub fn plan(", "plan") && !declares("pub fn planned(", "plan"));
    let mut complaints = Vec::new();
    let mut count = 0;
    for page in sources("md").iter().filter(|page| page.path.starts_with("docs/")) {
        for (name, file) in named_in(&page.text) {
            count += 1;
            let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
            if !declares(&text, &name) {
                complaints.push(format!("{}: {file} does not declare {name}", page.path));
            }
        }
    }
    assert!(count > 30, "only {count} names found in docs/");
    no_complaints(complaints);
}
