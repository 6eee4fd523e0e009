//! Reviews and impersonation: who may ask about whom, and what is answered.

use super::*;

const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn role(http: &Http, name: &str, rules: Value, user: &str) {
    let made = http.post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": name}, "rules": rules})).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": user}],
    });
    let made = http.post(&format!("{RBAC}/clusterrolebindings"), &binding).await;
    assert_eq!(made.code, 201, "{}", made.text());
}

#[test]
fn whoever_may_asks_what_others_may() {
    with_server(|server| async move {
        let admin = server.http();
        role(&admin, "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]), "ann").await;
        let ask = |user: &str, verb: &str, namespace: &str| {
            let attributes = json!({"verb": verb, "resource": "pods", "namespace": namespace});
            json!({"spec": {"user": user, "groups": ["dev"], "extra": {"a": ["b"]}, "resourceAttributes": attributes}})
        };
        let got = admin.post(ACCESS, &ask("ann", "get", "default")).await;
        assert_eq!(got.code, 201, "{}", got.text());
        let got = got.json();
        assert_eq!(
            got["status"],
            json!({
                "allowed": true,
                "reason": r#"RBAC: allowed by ClusterRoleBinding "reader" of ClusterRole "reader" to User "ann""#,
            })
        );
        assert_eq!((&got["kind"], &got["spec"]["extra"]), (&json!("SubjectAccessReview"), &json!({"a": ["b"]})));
        let got = admin.post(ACCESS, &ask("ann", "delete", "default")).await.json();
        let why = "no role that is bound to the user or its groups allows it";
        assert_eq!(got["status"], json!({"allowed": false, "reason": why}));
        let path = json!({"spec": {"user": "ann", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}}});
        assert_eq!(admin.post(ACCESS, &path).await.json()["status"]["allowed"], true);

        // In a namespace, about that namespace only.
        let local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
        assert_eq!(admin.post(local, &ask("ann", "get", "default")).await.json()["status"]["allowed"], true);
        assert_eq!(admin.post(local, &ask("ann", "get", "kube-system")).await.code, 400);
        assert_eq!(
            admin.post(&local.replace("/namespaces/default", ""), &ask("ann", "get", "default")).await.code,
            405
        );

        // It is a right of its own; about oneself everybody may ask, and about nobody else that way.
        let ann = server.http_as(Identity::new("ann", &[]));
        let refused = ann.post(ACCESS, &ask("bob", "get", "default")).await;
        assert_eq!(refused.code, 403, "{}", refused.text());
        assert_eq!(ann.post(local, &ask("bob", "get", "default")).await.code, 403);
        let own = ACCESS.replace("/subject", "/selfsubject");
        let got = ann.post(&own, &ask("kubernetes-admin", "delete", "default")).await.json();
        assert_eq!((&got["status"]["allowed"], &got["spec"]["user"]), (&json!(false), &Value::Null));
        for bad in
            [json!({}), json!({"spec": {"user": "ann"}}), json!({"spec": {"resourceAttributes": {"verb": "get"}}})]
        {
            assert_eq!(admin.post(ACCESS, &bad).await.code, 400, "{bad}");
        }
    });
}

#[test]
fn a_review_in_protobuf_is_answered_in_it() {
    with_server(|server| async move {
        // spec (2): user (3) "ann", resourceAttributes (1): verb (2) "get", resource (5) "pods".
        let attributes = [&[0x12, 3][..], b"get", &[0x2a, 4], b"pods"].concat();
        let spec = [&[0x0a, 11][..], &attributes, &[0x1a, 3], b"ann"].concat();
        let raw = [&[0x12, 18][..], &spec].concat();
        let sealed = forms::seal("authorization.k8s.io/v1", "SubjectAccessReview", &raw);
        let headers =
            ["content-type: application/vnd.kubernetes.protobuf", "accept: application/vnd.kubernetes.protobuf"];
        let got = server.http().ask("POST", ACCESS, &headers, sealed).await;
        assert_eq!((got.code, got.content_type()), (201, "application/vnd.kubernetes.protobuf"));
        let text = got.text();
        assert!(got.body.starts_with(b"k8s\0") && text.contains("SubjectAccessReview"), "{text:?}");
        assert!(text.contains("ann") && text.contains("no role that is bound"), "its spec, and the reason: {text:?}");
    });
}

#[test]
fn whoever_may_asks_as_somebody_else_and_has_their_rights_alone() {
    with_server(|server| async move {
        let admin = server.http();
        role(&admin, "reader", json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]), "ann")
            .await;
        let impersonate = json!([
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]},
        ]);
        role(&admin, "deputy", impersonate, "bob").await;
        let (pods, secrets) = ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/secrets");
        let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let bob = server.http_as(Identity::new("bob", &[]));
        let ann = ["impersonate-user: ann"];
        assert_eq!(bob.get(pods).await.code, 403, "as himself");
        assert_eq!(bob.ask("GET", pods, &ann, "").await.code, 200, "as ann");
        assert_eq!(admin.ask("GET", secrets, &ann, "").await.code, 403, "an administrator as ann is ann");
        let all = [
            "impersonate-user: ann",
            "impersonate-group: dev",
            "impersonate-extra-scopes: view",
            "content-type: application/json",
        ];
        let me = bob.ask("POST", who, &all, "{}").await.json();
        assert_eq!(
            me["status"]["userInfo"],
            json!({"username": "ann", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["view"]}})
        );
        let robot = ["impersonate-user: system:serviceaccount:ci:robot", "content-type: application/json"];
        let me = admin.ask("POST", who, &robot, "{}").await.json();
        let groups = json!(["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"]);
        assert_eq!(me["status"]["userInfo"]["groups"], groups);

        for (headers, code) in [
            (&["impersonate-user: carl"][..], 403),
            (&["impersonate-user: ann", "impersonate-group: system:masters"], 403),
            (&["impersonate-user: ann", "impersonate-group: dev", "impersonate-group: ops"], 403),
            (&["impersonate-user: ann", "impersonate-uid: 7"], 403),
            (&["impersonate-user: ann", "impersonate-extra-other: view"], 403),
            (&["impersonate-user: system:serviceaccount:default:ann"], 403),
            (&["impersonate-group: dev"], 400),
            (&["impersonate-user: ann", "impersonate-scopes: x"], 400),
        ] {
            for path in [pods, "/api", "/metrics", "/apis/apps/v1/deployments"] {
                let refused = bob.ask("GET", path, headers, "").await;
                assert_eq!(refused.code, code, "{headers:?} {path}: {}", refused.text());
            }
        }
        let refused = bob.ask("GET", pods, &["impersonate-user: carl"], "").await.json();
        assert_eq!(
            refused["message"],
            "users \"carl\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
        );

        // The other face reads the same headers.
        let grpc = server.client("bob", &[]);
        grpc.clone().with("impersonate-user", "ann").names("v1:pods:default", "", "").await.expect("as ann");
        let refused =
            grpc.with("impersonate-user", "carl").names("v1:pods:default", "", "").await.expect_err("not as carl");
        assert_eq!(refused.reason(), "Forbidden");
    });
}
