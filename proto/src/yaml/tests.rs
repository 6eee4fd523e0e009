//! YAML as people write it for Kubernetes, and as people attack with it.

use serde_json::{Value, json};

use super::{Limits, YamlError, parse_documents};
use crate::corev1::{ConfigMap, Pod};
use crate::json::Strictness;

fn one(text: &str) -> Value {
    let documents = parse_documents(text, &Limits::default()).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents[0].to_json()
}

#[test]
fn plain_scalars_mean_what_yaml_1_1_says() {
    for (text, expected) in [
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000)),
        ("1.0", json!(1)),
        ("1.5e300", json!(1.5e300)),
        ("yes", json!(true)),
        ("y", json!(true)),
        ("N", json!(false)),
        ("Off", json!(false)),
        ("~", json!(null)),
        ("", json!(null)),
        ("08", json!(8)),
        ("2026-01-31", json!("2026-01-31")),
        ("10.0.0.1", json!("10.0.0.1")),
        ("1-2", json!("1-2")),
        (".inf", json!(".inf")),
        ("1.2.3", json!("1.2.3")),
        ("64Mi", json!("64Mi")),
        ("-", json!("-")),
        ("--", json!("--")),
        ("12:30", json!("12:30")),
        ("18446744073709551615", json!(u64::MAX)),
        ("\"8080\"", json!("8080")),
        ("'yes'", json!("yes")),
        ("!!str 5", json!("5")),
    ] {
        if text == "-" {
            assert_eq!(one("a: \"-\"")["a"], expected);
            continue;
        }
        assert_eq!(one(&format!("a: {text}"))["a"], expected, "{text}");
    }
}

#[test]
fn documents_anchors_and_merge_keys() {
    let text = "a: &x {k: 1, l: 2}\nb: *x\nc:\n  <<: *x\n  l: 3\n---\n# empty\n---\nd: |\n  two\n  lines\n";
    let documents = parse_documents(text, &Limits::default()).unwrap();
    assert_eq!(documents.len(), 3);
    assert_eq!(documents[0].to_json()["b"], json!({"k": 1, "l": 2}));
    let merged = &documents[0].to_json()["c"];
    assert_eq!((&merged["k"], &merged["l"]), (&json!(1), &json!(3)));
    assert!(documents[1].is_empty());
    assert_eq!(documents[2].to_json()["d"], "two\nlines\n");
}

#[test]
fn errors_name_line_and_column() {
    let error = parse_documents("a: 1\nb: [1, 2\n", &Limits::default()).unwrap_err();
    assert!(matches!(error, YamlError::Syntax { line: 2.., .. }), "{error}");
    let pod = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: a\n      ports:\n        - containerPort: eighty\n";
    let document = parse_documents(pod, &Limits::default()).unwrap().remove(0);
    let error = document.decode::<Pod>(Strictness::Strict).unwrap_err();
    assert_eq!((error.path.as_str(), error.line), ("spec.containers[0].ports[0].containerPort", 7), "{error}");
}

#[test]
fn duplicates_and_unknown_fields_are_told() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, name: b}\nspec:\n  volumes: [{name: v, emptyDir: {mediumm: x}}]\n";
    let document = parse_documents(text, &Limits::default()).unwrap().remove(0);
    let (_, problems) = document.decode::<Pod>(Strictness::Warn).unwrap();
    let told: Vec<&str> = problems.iter().map(|p| p.path()).collect();
    assert_eq!(told, ["metadata.name", "spec.volumes[0].emptyDir.mediumm"]);
}

#[test]
fn numbers_where_text_is_wanted_are_refused() {
    let text = "apiVersion: v1\nkind: ConfigMap\ndata: {port: 8080}\n";
    let document = parse_documents(text, &Limits::default()).unwrap().remove(0);
    let error = document.decode::<ConfigMap>(Strictness::Strict).unwrap_err();
    assert!(error.path.starts_with("data"), "{error}");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..20 {
        let alias = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(",")));
    }
    assert!(matches!(parse_documents(&bomb, &Limits::default()), Err(YamlError::TooMany { .. })));
    let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(
        parse_documents(&deep, &Limits::default()),
        Err(YamlError::TooDeep { .. } | YamlError::Syntax { .. })
    ));
    let long = format!("a: {}", "x".repeat(10 << 20));
    assert!(matches!(parse_documents(&long, &Limits::default()), Err(YamlError::TooLong { .. })));
}

/// Each of these is short, and each was once worth gigabytes, a full stack or minutes.
#[test]
fn aliases_cannot_be_made_to_cost_more_than_they_show() {
    let limits = Limits::default();
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1000].join(","));
    assert!(matches!(parse_documents(&text, &limits), Err(YamlError::Expands { .. })), "much text, few values");

    let mut deep = format!("a0: &a0 {}{}\n", "[".repeat(90), "]".repeat(90));
    for i in 1..20 {
        deep.push_str(&format!("a{i}: &a{i} {}*a{}{}\n", "[".repeat(90), i - 1, "]".repeat(90)));
    }
    assert!(matches!(parse_documents(&deep, &limits), Err(YamlError::TooDeep { line: 2, .. })), "depth by aliases");

    let anchors: String = (0..90).map(|i| format!("&n{i} [")).collect();
    let nested = format!("a: {anchors}{}{}", "1,".repeat(100_000), "]".repeat(90));
    assert!(
        matches!(parse_documents(&nested, &limits), Err(YamlError::TooMany { .. })),
        "a copy for each of many anchors"
    );

    let itself = "a: &a [*a]\n";
    assert!(matches!(parse_documents(itself, &limits), Err(YamlError::Syntax { line: 1, .. })), "a list inside itself");
}

#[test]
fn merged_entries_are_no_duplicates() {
    let text = "kind: ConfigMap\nmetadata: {labels: &l {a: '1', b: '1'}}\ndata:\n  <<: *l\n  a: '2'\n";
    let document = parse_documents(text, &Limits::default()).unwrap().remove(0);
    let (map, problems) = document.decode::<ConfigMap>(Strictness::Warn).unwrap();
    assert_eq!(problems, []);
    assert_eq!((map.data["a"].as_str(), map.data["b"].as_str()), ("2", "1"));
    assert_eq!(one("'<<': x"), json!({"<<": "x"}), "in quotes it is a key like others");
    assert_eq!(one("a: &a {k: 1}\nb: &b {k: 2, l: 2}\nc: {<<: [*a, *b]}")["c"], json!({"k": 1, "l": 2}));
    let error = parse_documents("a: {<<: 1}", &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("<< merges a map"), "{error}");
}

#[test]
fn file_modes_are_octal_and_counts_may_have_exponents() {
    let text =
        "spec: {volumes: [{name: s, secret: {secretName: s, defaultMode: 0644}}], terminationGracePeriodSeconds: 1e1}";
    let document = parse_documents(text, &Limits::default()).unwrap().remove(0);
    let (pod, _) = document.decode::<Pod>(Strictness::Strict).unwrap();
    assert_eq!(pod.spec.volumes[0].volume_source.secret.as_ref().unwrap().default_mode, Some(0o644));
    assert_eq!(pod.spec.termination_grace_period_seconds, Some(10));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}:,&*!|>\\-a-c0-9 \n\"'#~<]{0,80}") {
        let _ = parse_documents(&text, &Limits::default());
    }
}
