//! Server-side apply of what is nested: lists with keys in items of lists with keys, and in maps of maps.

use super::*;

#[test]
fn apply_owns_what_is_nested_piece_by_piece() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut definition = definition();
        let routes = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["path"],
            "items": {"type": "object", "required": ["path"], "properties": {
                "path": {"type": "string"}, "to": {"type": "string"}}}});
        let of_each = |value: &Value| json!({"type": "object", "additionalProperties": value});
        let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"]["zones"] = of_each(&of_each(&routes));
        spec["properties"]["ports"]["items"]["properties"]["routes"] = routes;
        admin.define(definition).await;
        let document = |spec: Value| {
            let mut spec = spec;
            spec["cronSpec"] = json!("0 3 * * *");
            spec["image"] = json!("demo");
            json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "nightly"}, "spec": spec})
        };
        let a = |port: Value, path: &str| {
            document(json!({"ports": [{"name": "p", "port": port, "routes": [{"path": path, "to": "a"}]}],
                "zones": {"eu": {"north": [{"path": path, "to": "a"}]}}}))
        };
        admin.apply(ONE, "a", false, a(json!(1), "/a")).await.expect("made");
        let both = admin.apply(ONE, "b", false, a(json!(1), "/b")).await.expect("beside it");
        let two = json!([{"path": "/a", "to": "a"}, {"path": "/b", "to": "a"}]);
        assert_eq!((&both["spec"]["ports"][0]["routes"], &both["spec"]["zones"]["eu"]["north"]), (&two, &two));
        let mut rival = document(json!({"zones": {"eu": {"north": [{"path": "/a", "to": "b"}]}}}));
        let refused = admin.apply(ONE, "b", false, rival.clone()).await.expect_err("owned by a");
        assert!(refused.message().contains(".spec.zones.eu.north[path=\"/a\"].to"), "{}", refused.message());
        rival["spec"] =
            document(json!({"ports": [{"name": "p", "routes": [{"path": "/a", "to": "b"}]}]}))["spec"].clone();
        let refused = admin.apply(ONE, "c", false, rival).await.expect_err("owned by a");
        assert!(refused.message().contains(".spec.ports[name=\"p\"].routes[path=\"/a\"].to"), "{}", refused.message());
        let less = admin.apply(ONE, "a", false, document(json!({}))).await.expect("less");
        let one = json!([{"path": "/b", "to": "a"}]);
        assert_eq!((&less["spec"]["ports"][0]["routes"], &less["spec"]["zones"]["eu"]["north"]), (&one, &one));
    });
}
