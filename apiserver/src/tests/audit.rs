//! The audit log of a whole server: what stands in it, and what does not.

use super::*;
use crate::audit::AuditOptions;

#[test]
fn writes_and_reads_of_secrets_stand_in_the_log() {
    let options = Options { audit: Some(AuditOptions::new("/audit.log")), ..options() };
    with_options(options, |server| async move {
        let admin = server.admin();
        admin
            .create("v1:secrets:default", json!({"metadata": {"name": "s"}, "data": {"k": "aHVzaA=="}}))
            .await
            .expect("made");
        admin.get("v1:secrets:default/s").await.expect("read");
        admin.names("v1:configmaps:default", "", "").await.expect("not of interest");
        let ann = server.client("ann", &["dev"]);
        ann.delete("v1:secrets:default/s").await.expect_err("she may not");
        let generated = json!({"metadata": {"generateName": "g-"}});
        let made = admin.with("impersonate-user", "ann").create("v1:configmaps:default", generated.clone()).await;
        made.expect_err("ann may not");
        let made = server.admin().create("v1:configmaps:default", generated).await.expect("made");
        let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}});
        server.admin().create("coordination.k8s.io/v1:leases:default", lease).await.expect("made");
        let renewed = json!({"spec": {"holderIdentity": "y"}});
        server.admin().merge("coordination.k8s.io/v1:leases:default/l", renewed).await.expect("renewed");
        let dry = pb::DeleteRequest { r#ref: Some(at("v1:secrets:default/s")), dry_run: true, ..Default::default() };
        server.admin().delete_with(dry).await.expect("it could be");

        let exec = "/api/v1/namespaces/default/pods/a/exec?command=ls";
        let refused = server.http_as(Identity::new("stranger", &[])).ask("POST", exec, &[], "").await;
        assert_eq!(refused.code, 403, "{}", refused.text());

        server.handle.registry().flush_audit_log().await;
        let bytes = server.world.disk().read("/audit.log").expect("there");
        assert!(!String::from_utf8_lossy(&bytes).contains("aHVzaA"), "no contents");
        let lines: Vec<Value> = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .filter(|line: &Value| line["user"]["username"] != "system:apiserver")
            .collect();
        let shown: Vec<String> = lines
            .iter()
            .map(|line| {
                let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
                [
                    text("/user/username"),
                    text("/impersonatedUser/username"),
                    text("/verb"),
                    text("/objectRef/resource"),
                    text("/objectRef/name"),
                    text("/objectRef/subresource"),
                    line["responseStatus"]["code"].to_string(),
                    text("/annotations/authorization.k8s.io~1decision"),
                    text("/annotations/skiff.dev~1dry-run"),
                ]
                .join(" ")
            })
            .collect();
        let generated = format!("kubernetes-admin - create configmaps {} - 201 allow -", name(&made));
        assert_eq!(
            shown,
            [
                "kubernetes-admin - create secrets s - 201 allow -",
                "kubernetes-admin - get secrets s - 200 allow -",
                "ann - delete secrets s - 403 forbid -",
                "kubernetes-admin ann create configmaps - - 403 forbid -",
                &generated,
                "kubernetes-admin - create leases l - 201 allow -",
                "kubernetes-admin - delete secrets s - 200 allow true",
                "stranger - create pods a exec 403 forbid -",
            ]
        );
        let words = lines[0]["annotations"]["authorization.k8s.io/reason"].as_str().expect("why");
        assert!(words.contains("system:masters"), "{words}");
        assert_eq!(lines[2]["responseStatus"]["reason"], "Forbidden");
    });
}
