//! Who may depend on whom, read off the manifests.
//!
//! `{proto, world} <- client <- {controllers, scheduler, kubelet, proxy, ctl}`;
//! `apiserver -> {proto, world}`; `cluster` depends on all and nothing depends on it but the tests.
//! For their tests, crates may look at others than that, but never at `cluster`.

/// Each crate, and the crates of ours that it may be built on.
const ARROWS: &[(&str, &[&str])] = &[
    ("skiff-proto", &[]),
    ("skiff-world", &[]),
    ("skiff-client", &["skiff-proto", "skiff-world"]),
    ("skiff-apiserver", &["skiff-proto", "skiff-world"]),
    ("skiff-controllers", CLIENTS),
    ("skiff-scheduler", CLIENTS),
    ("skiff-kubelet", CLIENTS),
    ("skiff-proxy", CLIENTS),
    ("skiff-ctl", CLIENTS),
    ("skiff-bench", CLIENTS),
    ("skiff-cluster", EVERYTHING),
    ("skiff-tests", EVERYTHING),
];

const CLIENTS: &[&str] = &["skiff-proto", "skiff-world", "skiff-client"];

const EVERYTHING: &[&str] = &[
    "skiff-proto",
    "skiff-world",
    "skiff-client",
    "skiff-apiserver",
    "skiff-controllers",
    "skiff-scheduler",
    "skiff-kubelet",
    "skiff-proxy",
    "skiff-ctl",
];

/// A manifest's sections, with the keys in each.
fn sections(manifest: &str) -> Vec<(String, Vec<String>)> {
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.trim_matches(['[', ']']).to_owned(), Vec::new()));
        } else if let (Some((key, _)), Some((_, keys))) = (line.split_once('='), sections.last_mut()) {
            let key = key.trim().trim_matches('"');
            if !key.starts_with('#') {
                keys.push(key.split('.').next().unwrap_or(key).to_owned());
            }
        }
    }
    sections
}

fn name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.trim_start().starts_with("name"))?;
    line.split('"').nth(1)
}

/// Our crates that a manifest depends on: (the table, the crate).
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (section, keys) in sections(manifest) {
        // `[dependencies]` with keys, or `[dependencies.NAME]`, perhaps under a target.
        let Some(start) = section.find("dependencies") else {
            continue;
        };
        let table = section[..start].to_owned() + "dependencies";
        match section[start..].split_once('.') {
            Some((_, name)) => found.push((table, name.trim_matches('"').to_owned())),
            None => found.extend(keys.into_iter().map(|key| (table.clone(), key))),
        }
    }
    found.retain(|(table, name)| name.starts_with("skiff-") && !table.starts_with("workspace"));
    found
}

pub(crate) fn complaints(path: &str, manifest: &str) -> Vec<String> {
    let Some(name) = name(manifest) else {
        return Vec::new();
    };
    // Programs in examples/ are not part of the house.
    let Some((_, allowed)) = ARROWS.iter().find(|(krate, _)| *krate == name) else {
        return if path.starts_with("examples/") || path == "Cargo.toml" {
            Vec::new()
        } else {
            vec![format!("{path}: crate {name} has no place in the house; give it one in arrows.rs")]
        };
    };
    dependencies(manifest)
        .into_iter()
        .filter(|(table, to)| {
            let for_tests = table.starts_with("dev-") && EVERYTHING.contains(&to.as_str());
            !for_tests && !allowed.contains(&to.as_str())
        })
        .map(|(table, to)| format!("{path}: {name} must not depend on {to} ({table})"))
        .collect()
}

/// Whether a manifest takes over the workspace's lints.
pub(crate) fn keeps_lints(manifest: &str) -> bool {
    let lints = manifest.split("[lints]").nth(1).unwrap_or_default();
    let lines = lints.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    lines.into_iter().any(|line| line.replace(' ', "") == "workspace=true")
}
