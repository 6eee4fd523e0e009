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
        ("1e3", json!(1000.0)),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("~", json!(null)),
        ("", json!(null)),
        ("08", json!("08")),
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
    assert!(matches!(parse_documents(&deep, &Limits::default()), Err(YamlError::TooDeep { .. } | YamlError::Syntax { .. })));
    let long = format!("a: {}", "x".repeat(10 << 20));
    assert!(matches!(parse_documents(&long, &Limits::default()), Err(YamlError::TooLong { .. })));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}:,&*!|>\\-a-c0-9 \n\"'#~<]{0,80}") {
        let _ = parse_documents(&text, &Limits::default());
    }

    /// What serde_yaml writes, this reads back. (Unicode's own line separators aside: it writes them
    /// into quoted scalars as they are, where YAML 1.1 folds them.)
    #[test]
    fn written_documents_are_read_back(keys in proptest::collection::btree_map("[a-z]{1,5}", "[^\\p{C}\u{2028}\u{2029}]{0,12}", 0..5)) {
        let value = serde_json::to_value(&keys).unwrap();
        let text = serde_yaml::to_string(&value).unwrap();
        let documents = parse_documents(&text, &Limits::default()).unwrap();
        proptest::prop_assert_eq!(documents[0].to_json(), value, "{}", text);
    }
}
