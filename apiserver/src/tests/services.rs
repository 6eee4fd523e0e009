//! Services: addresses and node ports are given once, kept, and given back.

use super::*;
use crate::store::embedded::Embedded;
use crate::store::{Store, Txn};
use std::collections::BTreeSet;
use std::sync::Arc;

const SERVICES: &str = "v1:services:default";

fn service(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}})
}

fn small() -> Options {
    Options { service_cidr: "10.96.0.0/28".parse().expect("a network"), ..options() }
}

#[test]
fn the_cluster_begins_with_its_namespaces_and_its_own_service() {
    with_server(|server| async move {
        let admin = server.admin();
        assert_eq!(
            admin.names("v1:namespaces:", "", "").await.expect("listed"),
            ["default", "kube-node-lease", "kube-public", "kube-system"]
        );
        let own = admin.get("v1:services:default/kubernetes").await.expect("there");
        assert_eq!(
            (&own["spec"]["clusterIP"], &own["spec"]["ports"][0]["targetPort"]),
            (&json!("10.96.0.1"), &json!(6443))
        );
        let slice = admin.get("discovery.k8s.io/v1:endpointslices:default/kubernetes").await.expect("there");
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.89.0.1"]));
    });
}

#[test]
fn services_made_at_once_get_different_addresses_until_there_are_none() {
    with_options(small(), |server| async move {
        let creates = (0..13).map(|i| {
            let client = server.client(&format!("user-{i}"), &["system:masters"]);
            async move { client.create(SERVICES, service(&format!("s{i}"), "ClusterIP")).await }
        });
        let made = futures::future::join_all(creates).await;
        let addresses: BTreeSet<String> = made
            .iter()
            .map(|s| s.as_ref().expect("made")["spec"]["clusterIP"].as_str().expect("an address").to_string())
            .collect();
        assert_eq!(addresses.len(), 13, "{addresses:?}");
        assert!(
            !addresses.contains("10.96.0.0") && !addresses.contains("10.96.0.1") && !addresses.contains("10.96.0.15")
        );
        let admin = server.admin();
        let full = admin.create(SERVICES, service("more", "ClusterIP")).await.expect_err("full");
        assert!(full.message().contains("is full"), "{}", full.message());
        let given_back = admin.delete("v1:services:default/s3").await.expect("deleted");
        let again = admin.create(SERVICES, service("more", "ClusterIP")).await.expect("there is room again");
        assert_eq!(again["spec"]["clusterIP"], given_back["spec"]["clusterIP"]);
    });
}

#[test]
fn node_ports_are_given_once_kept_and_given_back() {
    in_many_worlds(|server| async move {
        let creates = (0..20).map(|i| {
            let client = server.client(&format!("user-{i}"), &["system:masters"]);
            async move {
                let mut wanted = service(&format!("s{i}"), "NodePort");
                // All ask for the same one of two; the rest for any.
                wanted["spec"]["ports"] =
                    json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}]);
                client.create(SERVICES, wanted).await
            }
        });
        let made = futures::future::join_all(creates).await;
        assert_eq!(made.iter().filter(|s| s.is_ok()).count(), 1, "30080 was given more than once, or never");
        for refused in made.iter().filter_map(|s| s.as_ref().err()) {
            assert!(
                refused
                    .message()
                    .contains("spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"),
                "{}",
                refused.message()
            );
        }
        let admin = server.admin();
        let one = made.into_iter().flatten().next().expect("one was made");
        let path = format!("v1:services:default/{}", name(&one));
        let other = one["spec"]["ports"][1]["nodePort"].as_i64().expect("a node port");
        assert!((30000..=32767).contains(&other));
        // An update that does not speak of what was given keeps it.
        let mut update = service(&name(&one), "NodePort");
        update["spec"]["ports"] = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
        let updated = admin.update(&path, &update).await.expect("updated");
        assert_eq!(updated["spec"], one["spec"]);
        let mut moved = updated.clone();
        moved["spec"]["clusterIP"] = json!("10.96.0.200");
        moved["spec"]["clusterIPs"] = json!(["10.96.0.200"]);
        let refused = admin.update(&path, &moved).await.expect_err("immutable");
        assert!(refused.message().contains("may not change once set"), "{}", refused.message());
        admin.delete(&path).await.expect("deleted");
        let mut again = service("again", "NodePort");
        again["spec"]["ports"][0]["nodePort"] = json!(30080);
        admin.create(SERVICES, again).await.expect("30080 is free again");
    });
}

#[test]
fn headless_and_external_services_have_no_address() {
    with_server(|server| async move {
        let admin = server.admin();
        let headless = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        assert_eq!(admin.create(SERVICES, headless).await.expect("made")["spec"]["clusterIP"], "None");
        let external =
            json!({"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
        assert_eq!(admin.create(SERVICES, external).await.expect("made")["spec"]["clusterIP"], Value::Null);
        for (spec, words) in [
            (json!({"ports": []}), "spec.ports: Required value"),
            (json!({"ports": [{"port": 0}]}), "spec.ports[0].port: Invalid value: 0"),
            (json!({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports[0].name: Required value"),
            (json!({"ports": [{"port": 80}], "clusterIP": "10.1.2.3"}), "the provided network does not contain it"),
            (json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.1"}), "already allocated to default/kubernetes"),
            (json!({"ports": [{"port": 80, "nodePort": 80}], "type": "NodePort"}), "not in the valid range"),
            (json!({"ports": [{"port": 80, "nodePort": 30000}]}), "may not be used when `type` is 'ClusterIP'"),
            (json!({"ports": [{"port": 80}], "type": "Cluster"}), "supported values: \"ClusterIP\""),
        ] {
            let refused =
                admin.create(SERVICES, json!({"metadata": {"name": "bad"}, "spec": spec})).await.expect_err("refused");
            assert!(refused.message().contains(words), "{spec}: {}", refused.message());
        }
    });
}

#[test]
fn what_a_crash_left_reserved_is_given_out_again() {
    Simulation::new(1).run(|sim: Sim| async move {
        let machine = sim.machine("server");
        let world = machine.world("apiserver", Some(Identity::new("system:apiserver", &["system:masters"])));
        let opened = Embedded::open(&world, EmbeddedOptions::new("/store")).await;
        let store: Arc<dyn Store> = Arc::new(opened.expect("it opens"));
        // A server reserved a port and an address for Services, and died before it wrote them.
        for key in ["/skiff/-/service-node-ports/TCP/30080", "/skiff/-/service-addresses/10.96.0.77"] {
            store.txn(Txn::create(key, "default/never/0-1-2")).await.expect("it is written");
        }
        let handle = crate::run_on(world.clone(), options(), store).await.expect("the server starts");
        let admin = Server { machine, world, handle }.admin();
        let mut wanted = service("again", "NodePort");
        wanted["spec"]["ports"][0]["nodePort"] = json!(30080);
        wanted["spec"]["clusterIP"] = json!("10.96.0.77");
        let made = admin.create(SERVICES, wanted).await.expect("both are free");
        assert_eq!(made["spec"]["clusterIP"], "10.96.0.77");
    });
}
