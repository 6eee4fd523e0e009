//! Patches by the rules that Kubernetes documents for them, and the law that a three-way patch
//! brings about what was wanted.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{merge_patch, strategic, three_way, three_way_json};
use crate::schema::{self, Schema};

fn deployment() -> Schema {
    schema::for_kind("apps", "v1", "Deployment").unwrap()
}

fn pod() -> Schema {
    schema::for_kind("", "v1", "Pod").unwrap()
}

#[test]
fn strategic_patches_merge_lists_by_key() {
    for (document, patch, expected) in [
        (
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a"}]}}),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            json!({"spec": {"containers": [{"name": "z"}]}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x"]}}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}, "finalizers": ["x", "y"]}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}, "finalizers": ["x", "y"]}}),
        ),
        (
            json!({"metadata": {"finalizers": ["x", "y"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}}),
            json!({"metadata": {"finalizers": ["y"]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "args": ["1", "2"]}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["3"]}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["3"]}]}}),
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}, "$retainKeys": ["name", "configMap"]}]}}),
            json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "sidecar"}, {"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "sidecar"}, {"name": "b"}, {"name": "a"}]}}),
        ),
    ] {
        let mut result = document.clone();
        strategic(&mut result, &patch, &pod()).unwrap();
        assert_eq!(result, expected, "{patch}");
    }
}

/// Item by item against item by item would take minutes here.
#[test]
fn long_lists_are_merged_in_little_time() {
    let named = |n: usize| -> Value { (0..n).map(|i| json!({"name": i.to_string()})).collect() };
    let mut document =
        json!({"spec": {"containers": named(60_000)}, "metadata": {"finalizers": (0..60_000).collect::<Vec<_>>()}});
    let before = document.clone();
    let patch = json!({
        "spec": {"containers": named(60_000), "$setElementOrder/containers": named(60_000)},
        "metadata": {"finalizers": (0..60_000).collect::<Vec<_>>(), "$deleteFromPrimitiveList/finalizers": (60_000..120_000).collect::<Vec<_>>()},
    });
    strategic(&mut document, &patch, &pod()).unwrap();
    assert!(document == before);
}

#[test]
fn wrong_patches_are_refused_with_their_path() {
    for (patch, path) in [
        (json!([]), "the patch"),
        (json!({"spec": {"containers": [{"image": "x"}]}}), "spec.containers[0]"),
        (json!({"spec": {"containers": ["x"]}}), "spec.containers[0]"),
        (json!({"spec": {"$patch": "explode"}}), "spec"),
    ] {
        let error = strategic(&mut json!({}), &patch, &pod()).unwrap_err();
        assert_eq!(error.path, path, "{error}");
    }
}

#[test]
fn an_apply_keeps_what_others_set_and_drops_what_it_no_longer_names() {
    let original = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "old"}]}}}});
    let modified =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "new"}]}}}});
    let current = json!({"spec": {"replicas": 2, "paused": true, "template": {"spec": {"containers": [
        {"name": "a", "image": "1", "args": ["x"], "imagePullPolicy": "Always"}, {"name": "old"}, {"name": "injected"}]}}}});
    let patch = three_way(&original, &modified, &current, &deployment());
    let mut result = current.clone();
    strategic(&mut result, &patch, &deployment()).unwrap();
    assert_eq!(
        result,
        json!({"spec": {"paused": true, "template": {"spec": {"containers": [
            {"name": "a", "image": "2", "imagePullPolicy": "Always"}, {"name": "injected"}, {"name": "new"}]}}}})
    );
}

#[test]
fn equal_amounts_are_no_change() {
    let wanted =
        json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}}]}});
    let there =
        json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}});
    assert_eq!(three_way(&wanted, &wanted, &there, &pod()), json!({}));
    let more =
        json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "501m", "memory": "1Gi"}}}]}});
    assert_ne!(three_way(&wanted, &more, &there, &pod()), json!({}));
}

#[test]
fn a_union_that_changes_drops_the_other_member() {
    let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let modified = json!({"spec": {"strategy": {"type": "Recreate"}}});
    let current = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}}});
    let mut result = current.clone();
    strategic(&mut result, &three_way(&original, &modified, &current, &deployment()), &deployment()).unwrap();
    assert_eq!(result, modified);
}

#[test]
fn merge_patches_follow_the_rfc() {
    let mut document = json!({"a": "b", "c": {"d": "e", "f": "g"}});
    merge_patch(&mut document, &json!({"a": "z", "c": {"f": null}, "h": {"i": null}}));
    assert_eq!(document, json!({"a": "z", "c": {"d": "e"}, "h": {}}));
    let patch = three_way_json(&json!({"x": 1, "y": 2}), &json!({"y": 3}), &json!({"x": 1, "y": 2, "z": 4}));
    assert_eq!(patch, json!({"y": 3, "x": null}));
}

/// Small Pod-like documents, so that two of them often share names.
fn document() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let container = (name.clone(), proptest::option::of(0..3u8), proptest::collection::vec(0..3u8, 0..3)).prop_map(
        |(name, image, args)| {
            let mut c = json!({"name": name, "args": args.iter().map(u8::to_string).collect::<Vec<_>>()});
            if let Some(image) = image {
                c["image"] = json!(image.to_string());
            }
            c
        },
    );
    let containers = proptest::collection::vec(container, 0..4).prop_map(|mut list| {
        let mut seen = vec![];
        list.retain(|c| {
            let fresh = !seen.contains(&c["name"]);
            seen.push(c["name"].clone());
            fresh
        });
        list
    });
    let labels = proptest::collection::btree_map(name, 0..3u8, 0..3);
    (containers, labels, proptest::option::of(0..3u8)).prop_map(|(containers, labels, grace)| {
        let labels: serde_json::Map<String, Value> =
            labels.into_iter().map(|(k, v)| (k.to_owned(), json!(v.to_string()))).collect();
        let mut document = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        if let Some(grace) = grace {
            document["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        }
        document
    })
}

proptest! {
    /// Applying a file to what the last apply of another file made gives what the file says.
    #[test]
    fn applying_brings_about_what_is_wanted(original in document(), modified in document()) {
        let patch = three_way(&original, &modified, &original, &pod());
        let mut result = original.clone();
        strategic(&mut result, &patch, &pod()).unwrap();
        prop_assert_eq!(&result, &modified, "by {}", patch);
        prop_assert_eq!(three_way(&modified, &modified, &result, &pod()), json!({}), "a second apply has nothing to do");
    }

    /// No patch, however odd, makes the merge panic.
    #[test]
    fn any_patch_is_survived(mut document in document(), patch in document(), directive in "[a-z]{0,3}") {
        let mut patch = patch;
        patch["spec"]["$patch"] = json!(directive);
        let _ = strategic(&mut document, &patch, &pod());
    }
}
