//! Who may do what: identities, node restriction, fences, causes.

use super::*;
use crate::cache::ListOptions;

const PODS: &str = "v1:pods:default";

async fn setup(admin: &Client) {
    for node in ["a", "b"] {
        admin.create("v1:nodes:", json!({"metadata": {"name": node}})).await.expect("made");
        let mut p = pod(&format!("on-{node}"));
        p["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": format!("of-{node}")}}]);
        admin.create(PODS, p).await.expect("made");
        admin
            .create(&format!("v1:pods:default/on-{node}/binding"), json!({"target": {"name": node}}))
            .await
            .expect("bound");
        admin.create("v1:secrets:default", json!({"metadata": {"name": format!("of-{node}")}})).await.expect("made");
    }
}

#[test]
fn nobody_gets_a_401_and_a_stranger_a_403() {
    with_server(|server| async move {
        let nobody = server.client_as(Some(Identity::new("", &[])));
        let stranger = server.client("stranger", &[]);
        let refused = stranger.get("v1:pods:default/a").await.expect_err("a stranger");
        assert_eq!((refused.reason(), refused.grpc.code()), ("Forbidden", tonic::Code::PermissionDenied));
        assert_eq!(
            refused.message(),
            "pods \"a\" is forbidden: User \"stranger\" cannot get resource \"pods\" in API group \"\" in the namespace \"default\""
        );
        let refused = nobody.get("v1:pods:default/a").await.expect_err("nobody");
        assert_eq!((refused.reason(), refused.grpc.code()), ("Unauthorized", tonic::Code::Unauthenticated));
    });
}

#[test]
fn a_node_reads_only_what_its_pods_need() {
    with_server(|server| async move {
        setup(&server.admin()).await;
        let a = server.node("a");
        assert_eq!(a.names("v1:pods:", "", "spec.nodeName=a").await.expect("its Pods"), ["on-a"]);
        for (fields, why) in
            [("", "all Pods"), ("spec.nodeName=b", "another's Pods"), ("spec.nodeName!=a", "others' Pods")]
        {
            assert_eq!(a.names("v1:pods:", "", fields).await.expect_err(why).reason(), "Forbidden", "{why}");
        }
        a.get("v1:pods:default/on-a").await.expect("its Pod");
        a.get("v1:secrets:default/of-a").await.expect("its Pod's Secret");
        for path in ["v1:pods:default/on-b", "v1:secrets:default/of-b"] {
            assert_eq!(a.get(path).await.expect_err("not its own").reason(), "Forbidden", "{path}");
        }
        assert_eq!(a.names("v1:secrets:default", "", "").await.expect_err("all Secrets").reason(), "Forbidden");
        assert_eq!(a.names("v1:secrets:default", "", "metadata.name=of-a").await.expect("one"), ["of-a"]);
        a.names("v1:nodes:", "", "").await.expect("nodes are open to nodes");
    });
}

#[test]
fn a_node_writes_only_its_own() {
    with_server(|server| async move {
        let admin = server.admin();
        setup(&admin).await;
        let a = server.node("a");
        a.merge("v1:pods:default/on-a/status", json!({"status": {"phase": "Running"}}))
            .await
            .expect("its Pod's status");
        a.merge("v1:nodes:/a/status", json!({"status": {"capacity": {"cpu": "2"}}})).await.expect("its Node's status");
        a.create("coordination.k8s.io/v1:leases:kube-node-lease", json!({"metadata": {"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1"}]}})).await.expect("its Lease, which goes with its Node");
        a.create(
            "v1:events:default",
            json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "source": {"host": "a"}}),
        )
        .await
        .expect("its Event");
        let owner =
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1"}]}});
        for (what, answer) in [
            ("another's Pod's status", a.merge("v1:pods:default/on-b/status", json!({"status": {"phase": "Failed"}})).await),
            ("another Node", a.merge("v1:nodes:/b", json!({"metadata": {"labels": {"x": "y"}}})).await),
            ("another Node's status", a.merge("v1:nodes:/b/status", json!({"status": {"phase": "x"}})).await),
            ("its Node's owner", a.merge("v1:nodes:/a", owner).await),
            ("its Node's taints", a.merge("v1:nodes:/a", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})).await),
            ("reserved labels", a.merge("v1:nodes:/a", json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}})).await),
            ("another's Lease", a.create("coordination.k8s.io/v1:leases:kube-node-lease", json!({"metadata": {"name": "b"}})).await),
            ("a Lease elsewhere", a.create("coordination.k8s.io/v1:leases:kube-system", json!({"metadata": {"name": "a"}})).await),
            ("another's Pod", a.delete("v1:pods:default/on-b").await),
            ("a Pod's spec", a.merge("v1:pods:default/on-a", json!({"metadata": {"labels": {"x": "y"}}})).await),
            ("a new Pod", a.create(PODS, pod("new")).await),
            ("another's Event", a.create("v1:events:default", json!({"metadata": {"name": "f"}, "involvedObject": {"namespace": "default"}, "source": {"host": "b"}})).await),
            ("its own Node's end", a.delete("v1:nodes:/a").await),
        ] {
            assert_eq!(answer.expect_err(what).reason(), "Forbidden", "{what}");
        }
    });
}

#[test]
fn a_deposed_leaders_write_fails() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        let leases = "coordination.k8s.io/v1:leases:kube-system";
        let lease = json!({"metadata": {"name": "boss"}, "spec": {"holderIdentity": "one", "leaseTransitions": 1}});
        admin.create(leases, lease).await.expect("made");
        let leader = server.admin().with("skiff-fence", "kube-system/boss/one/1");
        leader.create("v1:configmaps:default", json!({"metadata": {"name": "first"}})).await.expect("it leads");
        admin
            .merge(&format!("{leases}/boss"), json!({"spec": {"holderIdentity": "two", "leaseTransitions": 2}}))
            .await
            .expect("taken over");
        let refused =
            leader.create("v1:configmaps:default", json!({"metadata": {"name": "second"}})).await.expect_err("deposed");
        assert_eq!(refused.reason(), "Conflict");
        assert!(refused.message().contains("no longer the leader"), "{}", refused.message());
        let again = server.admin().with("skiff-fence", "kube-system/boss/two/1");
        assert!(again.delete("v1:configmaps:default/first").await.is_err(), "the same holder, an older term");
        let nonsense = server.admin().with("skiff-fence", "x");
        assert_eq!(nonsense.delete("v1:configmaps:default/first").await.expect_err("nonsense").reason(), "BadRequest");
    });
}

#[test]
fn a_write_carries_its_cause_and_the_server_fills_in_the_rest() {
    with_server(|server| async move {
        let admin = server.admin();
        let made = admin.create("v1:configmaps:default", json!({"metadata": {"name": "m"}})).await.expect("made");
        let mut cause = pb::Cause { reason: "because".into(), replaced_revision: 99, ..Default::default() };
        cause.actor = Some(pb::Actor { user: "somebody else".into(), component: "test".into(), ..Default::default() });
        let mut request = tonic::Request::new(pb::PatchRequest {
            r#ref: Some(at("v1:configmaps:default/m")),
            r#type: pb::patch_request::Type::Merge.into(),
            patch: br#"{"data":{"a":"b"}}"#.to_vec().into(),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert_bin("skiff-cause-bin", tonic::metadata::MetadataValue::from_bytes(&cause.encode_to_vec()));
        request.metadata_mut().insert("skiff-process-start", "2026-11-01T00:00:00Z".parse().expect("metadata"));
        admin.grpc.clone().patch(request).await.expect("patched");
        admin.get("v1:configmaps:default/m").await.expect("there");
        let registry = server.handle.registry();
        let resource = registry.resource("", "v1", "configmaps").expect("a resource");
        let page = registry.cache().list(resource.cached(), &ListOptions::default()).expect("listed");
        let entry = page.entries.iter().find(|e| e.name() == "m").expect("cached");
        let stored = pb::Cause::decode(entry.cause().clone()).expect("a cause");
        let actor = stored.actor.expect("an actor");
        // The program is what the user agent says, whatever the cause does.
        assert_eq!((actor.user.as_str(), actor.component.starts_with("tonic/")), ("kubernetes-admin", true));
        assert_eq!(actor.process_start, "2026-11-01T00:00:00Z");
        assert_eq!((stored.verb.as_str(), stored.reason.as_str()), ("patch", "because"));
        assert_eq!(stored.replaced_revision, revision(&made));

        // What the server adds does not count: a client that keeps to the limit is never refused.
        let with_cause = |cause: &pb::Cause| {
            let mut request = tonic::Request::new(pb::PatchRequest {
                r#ref: Some(at("v1:configmaps:default/m")),
                r#type: pb::patch_request::Type::Merge.into(),
                patch: br#"{"data":{"a":"c"}}"#.to_vec().into(),
                ..Default::default()
            });
            let bytes = tonic::metadata::MetadataValue::from_bytes(&cause.encode_to_vec());
            request.metadata_mut().insert_bin("skiff-cause-bin", bytes);
            request
        };
        let mut full = pb::Cause::default();
        while full.encoded_len() < 1024 {
            full.reason.push('x');
        }
        assert_eq!(full.encoded_len(), 1024);
        admin.grpc.clone().patch(with_cause(&full)).await.expect("as large as it may be");

        cause.reason = "x".repeat(2000);
        let mut request =
            tonic::Request::new(pb::DeleteRequest { r#ref: Some(at("v1:configmaps:default/m")), ..Default::default() });
        request
            .metadata_mut()
            .insert_bin("skiff-cause-bin", tonic::metadata::MetadataValue::from_bytes(&cause.encode_to_vec()));
        let refused = Refused::from(admin.grpc.clone().delete(request).await.expect_err("too long"));
        assert_eq!(refused.status.code, 413);
    });
}
