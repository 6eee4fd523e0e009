//! Rights by roles and bindings, on a whole server: given, taken, mended; and never more than their giver has.

use super::*;

const PODS: &str = "v1:pods:default";
const ROLES: &str = "rbac.authorization.k8s.io/v1:roles:default";
const BINDINGS: &str = "rbac.authorization.k8s.io/v1:rolebindings:default";
const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/v1:clusterroles:";
const CLUSTER_BINDINGS: &str = "rbac.authorization.k8s.io/v1:clusterrolebindings:";
const RBAC: &str = "rbac.authorization.k8s.io";

fn role(name: &str, rules: &[(&[&str], &[&str], &[&str])]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(verbs, groups, resources)| json!({"verbs": verbs, "apiGroups": groups, "resources": resources}))
        .collect();
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "apiGroup": RBAC, "name": user}],
    })
}

fn forbidden(answer: Answer, what: &str) -> String {
    let refused = answer.expect_err(what);
    assert_eq!(refused.reason(), "Forbidden", "{what}: {}", refused.message());
    refused.message().to_owned()
}

#[test]
fn a_right_counts_as_soon_as_it_is_given_and_no_longer_than_it_is_there() {
    in_many_worlds(|server| async move {
        let (admin, ann) = (server.admin(), server.client("ann", &["dev"]));
        admin.create(PODS, pod("a")).await.expect("made");
        forbidden(ann.get("v1:pods:default/a").await, "nothing is bound");
        admin.create(BINDINGS, binding("read", "Role", "reader", "ann")).await.expect("made");
        let why = forbidden(ann.get("v1:pods:default/a").await, "there is no such role");
        assert!(why.ends_with(r#": RBAC: role.rbac.authorization.k8s.io "reader" not found"#), "{why}");
        admin.create(ROLES, role("reader", &[(&["get"], &[""], &["pods"])])).await.expect("made");
        ann.get("v1:pods:default/a").await.expect("it may, at once");
        forbidden(ann.names(PODS, "", "").await.map(|_| Value::Null), "a list is another verb");
        forbidden(ann.get("v1:pods:kube-system/a").await, "another namespace");
        forbidden(ann.get("v1:nodes:/a").await, "no namespace");
        forbidden(ann.merge("v1:pods:default/a", json!({"metadata": {"labels": {"x": "y"}}})).await, "a write");

        // Of one namespace, a role may give the namespace itself.
        forbidden(ann.get("v1:namespaces:/default").await, "not bound yet");
        let rules: &[(&[&str], &[&str], &[&str])] = &[(&["get"], &[""], &["namespaces", "nodes"])];
        admin.create(CLUSTER_ROLES, role("looker", rules)).await.expect("made");
        admin.create(BINDINGS, binding("look", "ClusterRole", "looker", "ann")).await.expect("made");
        ann.get("v1:namespaces:/default").await.expect("its own namespace");
        forbidden(ann.get("v1:namespaces:/kube-system").await, "another one");
        forbidden(ann.get("v1:nodes:/a").await, "a RoleBinding gives nothing outside");

        admin.delete("rbac.authorization.k8s.io/v1:rolebindings:default/read").await.expect("deleted");
        server.handle.registry().catch_up().await.expect("the cache follows");
        forbidden(ann.get("v1:pods:default/a").await, "it was taken away");
    });
}

#[test]
fn names_narrow_what_is_read_watched_and_made() {
    with_server(|server| async move {
        let (admin, ann) = (server.admin(), server.client("ann", &[]));
        let mut one = role("one", &[(&["*"], &[""], &["configmaps"])]);
        one["rules"][0]["resourceNames"] = json!(["mine"]);
        admin.create(ROLES, one).await.expect("made");
        admin.create(BINDINGS, binding("one", "Role", "one", "ann")).await.expect("made");
        let maps = "v1:configmaps:default";
        for name in ["mine", "other"] {
            admin.create(maps, json!({"metadata": {"name": name}})).await.expect("made");
        }
        ann.get("v1:configmaps:default/mine").await.expect("its own");
        assert_eq!(ann.names(maps, "", "metadata.name=mine").await.expect("one of them"), ["mine"]);
        forbidden(ann.get("v1:configmaps:default/other").await, "another");
        forbidden(ann.names(maps, "", "").await.map(|_| Value::Null), "all");
        forbidden(ann.names(maps, "", "metadata.name!=other").await.map(|_| Value::Null), "all but one");
        admin.delete("v1:configmaps:default/mine").await.expect("deleted");
        let made = ann.create(maps, json!({"metadata": {"name": "mine"}})).await;
        forbidden(made, "a new object has no name yet");
        let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "free"}});
        let patcher = role("patcher", &[(&["patch"], &[""], &["configmaps"])]);
        admin.create(ROLES, patcher).await.expect("made");
        admin.create(BINDINGS, binding("patcher", "Role", "patcher", "ann")).await.expect("made");
        let why = forbidden(
            ann.apply("v1:configmaps:default/free", "ann", false, applied).await,
            "to apply may be to create",
        );
        assert!(why.contains("cannot create resource \"configmaps\""), "{why}");
    });
}

#[test]
fn nobody_gives_away_what_they_do_not_hold() {
    with_server(|server| async move {
        let (admin, ann) = (server.admin(), server.client("ann", &["dev"]));
        let write: &[&str] = &["create", "update", "patch", "delete", "get"];
        let rules: &[(&[&str], &[&str], &[&str])] = &[
            (write, &[RBAC], &["roles", "rolebindings", "clusterroles", "clusterrolebindings"]),
            (&["get", "list"], &[""], &["pods"]),
        ];
        admin.create(CLUSTER_ROLES, role("lead", rules)).await.expect("made");
        admin.create(CLUSTER_BINDINGS, binding("lead", "ClusterRole", "lead", "ann")).await.expect("made");

        ann.create(ROLES, role("less", &[(&["get"], &[""], &["pods"])])).await.expect("it holds that");
        let why = forbidden(
            ann.create(ROLES, role("more", &[(&["get", "delete"], &[""], &["pods", "secrets"])])).await,
            "more",
        );
        assert_eq!(
            why,
            "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"dev\" \"system:authenticated\"]) \
             is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}"
        );
        let more = json!({"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
        forbidden(ann.merge("rbac.authorization.k8s.io/v1:roles:default/less", more).await, "an update to more");
        let paths = json!({"metadata": {"name": "p"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]});
        forbidden(ann.create(CLUSTER_ROLES, paths).await, "a path");

        // A binding gives what its role gives, whoever has written that.
        forbidden(
            ann.create(CLUSTER_BINDINGS, binding("up", "ClusterRole", "cluster-admin", "ann")).await,
            "everything",
        );
        forbidden(ann.create(BINDINGS, binding("up", "ClusterRole", "cluster-admin", "ann")).await, "everything here");
        forbidden(ann.create(BINDINGS, binding("up", "Role", "nowhere", "ann")).await, "nobody knows what");
        ann.create(BINDINGS, binding("less", "Role", "less", "bob")).await.expect("it holds that");
        server.client("bob", &[]).names(PODS, "", "").await.expect_err("a list is not in it");
        let sum = json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
        let why = forbidden(ann.create(CLUSTER_ROLES, sum).await, "a sum");
        assert!(why.ends_with("must have cluster-admin privileges to use the aggregationRule"), "{why}");
        // By a label, a role becomes part of another.
        let labelled = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
        let to_view = "rbac.authorization.k8s.io/v1:clusterroles:/system:aggregate-to-admin";
        forbidden(ann.merge(to_view, labelled).await, "a label gives too");

        // Unless one may.
        let mut may = role("giver", &[(&["escalate"], &[RBAC], &["roles"]), (&["bind"], &[RBAC], &["clusterroles"])]);
        may["rules"][1]["resourceNames"] = json!(["view"]);
        admin.create(ROLES, may).await.expect("made");
        admin.create(BINDINGS, binding("giver", "Role", "giver", "ann")).await.expect("made");
        ann.create(ROLES, role("more", &[(&["*"], &["*"], &["*"])])).await.expect("it may escalate");
        ann.create(BINDINGS, binding("view", "ClusterRole", "view", "bob")).await.expect("it may bind that one");
        forbidden(
            ann.create(BINDINGS, binding("edit", "ClusterRole", "system:aggregate-to-edit", "bob")).await,
            "not that one",
        );
    });
}

#[test]
fn roles_and_bindings_are_checked_in_kubernetes_words() {
    with_server(|server| async move {
        let admin = server.admin();
        let bad = json!({"metadata": {"name": "bad"}, "rules": [{"resources": ["pods"]}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        let refused = admin.create(ROLES, bad).await.expect_err("no verbs, no groups, paths in a namespace");
        for words in [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[1].nonResourceURLs: Invalid value: \"/x\": namespaced rules cannot apply to non-resource URLs",
        ] {
            assert!(refused.message().contains(words), "{words}: {}", refused.message());
        }
        let made = admin
            .create(ROLES, role("star", &[(&["get"], &[""], &["pods/*"])]))
            .await
            .expect("taken, as in Kubernetes");
        assert!(made["_warnings"][0].as_str().is_some_and(|w| w.contains("\"pods/*\" matches nothing")), "{made}");

        let mut bad = binding("bad", "Thing", "x", "ann");
        bad["subjects"] = json!([{"kind": "ServiceAccount", "name": "robot"}, {"kind": "Robot", "name": "x"}]);
        let refused = admin.create(BINDINGS, bad).await.expect_err("no such kinds, and an account without a namespace");
        for words in [
            "roleRef.kind: Unsupported value: \"Thing\": supported values: \"Role\", \"ClusterRole\"",
            "subjects[0].namespace: Required value",
            "subjects[1].kind: Unsupported value: \"Robot\"",
        ] {
            assert!(refused.message().contains(words), "{words}: {}", refused.message());
        }
        admin.create(BINDINGS, binding("one", "Role", "star", "ann")).await.expect("made");
        let other = json!({"roleRef": {"name": "other"}});
        let refused =
            admin.merge("rbac.authorization.k8s.io/v1:rolebindings:default/one", other).await.expect_err("fixed");
        assert_eq!(refused.reason(), "Invalid");
        assert!(refused.message().contains("cannot change roleRef"), "{}", refused.message());
    });
}

#[test]
fn a_default_role_that_was_broken_is_mended_at_the_next_start() {
    Simulation::new(1).run(|sim: Sim| async move {
        let server = Server::start(&sim, options()).await;
        let admin = server.admin();
        let scheduler = "rbac.authorization.k8s.io/v1:clusterroles:/system:kube-scheduler";
        let bound = "rbac.authorization.k8s.io/v1:clusterrolebindings:/system:kube-scheduler";
        let proxier = "rbac.authorization.k8s.io/v1:clusterroles:/system:node-proxier";
        let extra = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
        admin.merge(scheduler, json!({"rules": extra})).await.expect("broken");
        admin.delete(bound).await.expect("gone");
        let off = json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []});
        admin.merge(proxier, off).await.expect("somebody's own");
        let rebound = "rbac.authorization.k8s.io/v1:clusterrolebindings:/system:basic-user";
        admin.delete(rebound).await.expect("gone");
        let other = json!({"metadata": {"name": "system:basic-user"}, "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": []});
        admin.create(CLUSTER_BINDINGS, other).await.expect("another role");
        forbidden(server.client("system:kube-scheduler", &[]).get("v1:nodes:/a").await, "it is broken");
        let untouched = admin.get("rbac.authorization.k8s.io/v1:clusterroles:/view").await.expect("there");
        server.handle.stop().await;
        server.world.stop().await;

        let world = server.machine.world("apiserver", Some(Identity::new("system:apiserver", &["system:masters"])));
        let handle = run(world.clone(), options()).await.expect("it starts again");
        let server = Server { machine: server.machine, world, handle };
        let admin = server.admin();
        let found = server.client("system:kube-scheduler", &[]).get("v1:nodes:/a").await.expect_err("no such node");
        assert_eq!(found.reason(), "NotFound", "it may look again: {}", found.message());
        let rules = admin.get(scheduler).await.expect("there")["rules"].clone();
        assert_eq!(rules[0], extra[0], "what somebody added stays");
        assert_eq!(admin.get(proxier).await.expect("there")["rules"], json!([]), "and who says so is left alone");
        let mended = admin.get(rebound).await.expect("there");
        assert_eq!(mended["roleRef"]["name"], "system:basic-user", "a binding of another role is made anew");
        let same = admin.get("rbac.authorization.k8s.io/v1:clusterroles:/view").await.expect("there");
        assert_eq!(revision(&same), revision(&untouched), "what lacks nothing is not written");
    });
}
