//! Quotas, limits and priorities: what admission gives, refuses and charges, against a whole server.

use super::*;
use futures::future::join_all;

const QUOTAS: &str = "v1:resourcequotas:default";
const PODS: &str = "v1:pods:default";
const MAPS: &str = "v1:configmaps:default";

/// Has a quota's status counted, as its controller does.
async fn count(server: &Server, name: &str) -> Value {
    let controllers = server.client("system:kube-controller-manager", &[]);
    controllers.merge(&format!("{QUOTAS}/{name}/status"), json!({})).await.expect("counted")["status"].clone()
}

async fn quota(server: &Server, name: &str, spec: Value) -> Value {
    server.admin().create(QUOTAS, json!({"metadata": {"name": name}, "spec": spec})).await.expect("made");
    count(server, name).await
}

async fn used(server: &Server, name: &str) -> Value {
    server.admin().get(&format!("{QUOTAS}/{name}")).await.expect("there")["status"]["used"].clone()
}

fn asking(name: &str, requests: Value, limits: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": limits});
    pod
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[test]
fn what_a_namespace_has_is_charged_with_the_object_and_refused_beyond() {
    with_server(|server| async move {
        let admin = server.admin();
        admin.create(PODS, asking("before", json!({"cpu": "1"}), json!({}))).await.expect("made");
        let hard = json!({"pods": "3", "requests.cpu": "2", "configmaps": "2", "count/services": "2", "services.nodeports": "0"});
        let counted = quota(&server, "all", json!({"hard": hard})).await;
        let expected = json!({"pods": "1", "requests.cpu": "1", "configmaps": "0", "count/services": "1", "services.nodeports": "0"});
        assert_eq!((&counted["hard"], &counted["used"]), (&hard, &expected), "what was there counts");

        // A dry run is checked and charges nothing.
        let dry = pb::CreateRequest {
            r#ref: Some(at(PODS)),
            object: asking("dry", json!({"cpu": "1"}), json!({})).to_string().into_bytes().into(),
            dry_run: true,
            ..Default::default()
        };
        admin.create_with(dry).await.expect("it would be");
        assert_eq!(used(&server, "all").await, expected);

        let refused =
            admin.create(PODS, asking("big", json!({"cpu": "1500m"}), json!({}))).await.expect_err("too much");
        let words = "pods \"big\" is forbidden: exceeded quota: all, requested: requests.cpu=1500m, \
                     used: requests.cpu=1, limited: requests.cpu=2";
        assert_eq!((refused.status.code, refused.reason(), refused.message()), (403, "Forbidden", words));
        quota(&server, "bounds", json!({"hard": {"limits.cpu": "9"}})).await;
        let refused =
            admin.create(PODS, asking("silent", json!({"cpu": "100m"}), json!({}))).await.expect_err("no limit");
        let words = "pods \"silent\" is forbidden: failed quota: bounds: must specify limits.cpu for: main";
        assert_eq!(refused.message(), words);
        admin.delete(&format!("{QUOTAS}/bounds")).await.expect("deleted");

        admin.create(PODS, asking("fits", json!({"cpu": "1"}), json!({}))).await.expect("there is room");
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
        admin.create("v1:services:default", service).await.expect("one, with an address of its own");
        let now = json!({"pods": "2", "requests.cpu": "2", "configmaps": "0", "count/services": "2", "services.nodeports": "0"});
        assert_eq!(used(&server, "all").await, now);
        // A change that makes more of it is charged too, and refused where there is no more.
        let wider = admin.merge("v1:services:default/s", json!({"spec": {"type": "NodePort"}})).await;
        assert!(
            wider
                .expect_err("no node ports")
                .message()
                .contains("exceeded quota: all, requested: services.nodeports=1")
        );

        // What goes is counted when it is counted next; whatever anybody claims.
        admin.delete(&format!("{PODS}/fits")).await.expect("deleted");
        admin.merge(&format!("{PODS}/before/status"), json!({"status": {"phase": "Succeeded"}})).await.expect("ended");
        let claimed = json!({"status": {"used": {"pods": "0", "configmaps": "7"}}});
        admin.merge(&format!("{QUOTAS}/all/status"), claimed).await.expect("counted all the same");
        let now = json!({"pods": "0", "requests.cpu": "0", "configmaps": "0", "count/services": "2", "services.nodeports": "0"});
        assert_eq!(used(&server, "all").await, now);
    });
}

#[test]
fn a_quota_that_is_not_counted_yet_refuses_what_it_limits() {
    with_server(|server| async move {
        let admin = server.admin();
        let spec = json!({"hard": {"configmaps": "5"}});
        admin.create(QUOTAS, json!({"metadata": {"name": "new"}, "spec": spec})).await.expect("made");
        let refused = admin.create(MAPS, map("m")).await.expect_err("nobody knows yet");
        assert!(
            refused.message().ends_with("status unknown for quota: new, resources: configmaps"),
            "{}",
            refused.message()
        );
        admin.create("v1:secrets:default", map("s")).await.expect("it is not limited");
        count(&server, "new").await;
        admin.create(MAPS, map("m")).await.expect("counted");
    });
}

#[test]
fn all_quotas_of_a_namespace_are_charged_or_none() {
    with_server(|server| async move {
        let admin = server.admin();
        quota(&server, "a", json!({"hard": {"count/configmaps": "9"}})).await;
        quota(&server, "b", json!({"hard": {"configmaps": "1"}})).await;
        quota(&server, "c", json!({"hard": {"pods": "5"}, "scopes": ["BestEffort"]})).await;
        admin.create(MAPS, map("one")).await.expect("room in both");
        admin.create(MAPS, map("two")).await.expect_err("no room in b");
        assert_eq!(used(&server, "a").await, json!({"count/configmaps": "1"}), "nor charged to a");
        admin.create(PODS, pod("best")).await.expect("made");
        admin.create(PODS, asking("more", json!({"cpu": "1"}), json!({}))).await.expect("made");
        assert_eq!(used(&server, "c").await, json!({"pods": "1"}), "it is for Pods that ask for nothing");
    });
}

#[test]
fn of_many_creates_at_once_as_many_are_granted_as_the_quota_gives() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        quota(&server, "few", json!({"hard": {"configmaps": "5"}})).await;
        let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
        let made = join_all(names.iter().map(|name| admin.create(MAPS, map(name)))).await;
        assert_eq!(made.iter().filter(|answer| answer.is_ok()).count(), 5);
        assert!(
            made.iter()
                .all(|a| a.as_ref().is_ok() || a.as_ref().is_err_and(|e| e.message().contains("exceeded quota")))
        );
        assert_eq!(used(&server, "few").await, json!({"configmaps": "5"}));
    });
}

#[test]
fn a_create_that_began_before_the_quota_is_counted_or_worked_out_again() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
        let creates = join_all(names.iter().map(|name| admin.create(MAPS, map(name))));
        let limit = async {
            let spec = json!({"hard": {"configmaps": "4"}});
            admin.create(QUOTAS, json!({"metadata": {"name": "late"}, "spec": spec})).await.expect("made");
            count(&server, "late").await
        };
        let (made, _) = futures::join!(creates, limit);
        let granted = made.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(used(&server, "late").await, json!({"configmaps": granted.to_string()}));
    });
}

#[test]
fn limits_are_filled_in_and_held() {
    with_server(|server| async move {
        let admin = server.admin();
        let limits = json!([
            {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
            {"type": "Pod", "max": {"cpu": "1500m"}},
        ]);
        let range = json!({"metadata": {"name": "limits"}, "spec": {"limits": limits}});
        admin.create("v1:limitranges:default", range).await.expect("made");
        let made = admin.create(PODS, pod("silent")).await.expect("made");
        let resources = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}});
        assert_eq!(made["spec"]["containers"][0]["resources"], resources);
        let note = "LimitRanger plugin set: cpu request for container main; cpu limit for container main";
        assert_eq!(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"], note);
        let refused =
            admin.create(PODS, asking("big", json!({"cpu": "2"}), json!({"cpu": "2"}))).await.expect_err("too big");
        let words = "pods \"big\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, \
                     maximum cpu usage per Pod is 1500m, but limit is 2]";
        assert_eq!((refused.reason(), refused.message()), ("Forbidden", words));
        for (item, words) in [
            (json!({"type": "Box"}), "must be a standard limit type or fully qualified"),
            (json!({"type": "Pod", "default": {"cpu": "1"}}), "may not be specified when `type` is 'Pod'"),
            (
                json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}),
                "min value 2 is greater than max value 1",
            ),
            (json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}), "ratio 500m is less than 1"),
            (json!({"type": "PersistentVolumeClaim"}), "either minimum or maximum storage value is required"),
        ] {
            let range = json!({"metadata": {"name": "x"}, "spec": {"limits": [item]}});
            let refused = admin.create("v1:limitranges:default", range).await.expect_err(words);
            assert!(refused.message().contains(words), "{}", refused.message());
        }
    });
}

#[test]
fn a_class_gives_its_pods_their_priority() {
    with_server(|server| async move {
        let admin = server.admin();
        let classes = "scheduling.k8s.io/v1:priorityclasses:";
        let critical = admin.get(&format!("{classes}/system-node-critical")).await.expect("every cluster has it");
        assert_eq!(critical["value"], 2_000_001_000);
        let plain = admin.create(PODS, pod("plain")).await.expect("made");
        assert_eq!(plain["spec"]["priority"], 0);
        let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
        admin.create(classes, class("high", 1000, false)).await.expect("made");
        let mut of = pod("important");
        of["spec"]["priorityClassName"] = json!("high");
        let made = admin.create(PODS, of.clone()).await.expect("made");
        assert_eq!((&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]), (&json!(1000), &json!("Never")));
        of["metadata"]["name"] = json!("other");
        of["spec"]["priorityClassName"] = json!("lost");
        let refused = admin.create(PODS, of).await.expect_err("no such class");
        assert_eq!(refused.message(), "pods \"other\" is forbidden: no PriorityClass with name lost was found");
        admin.create(classes, class("usual", 7, true)).await.expect("made");
        assert_eq!(admin.create(PODS, pod("later")).await.expect("made")["spec"]["priority"], 7);
        for (class, words) in [
            (class("another", 8, true), "PriorityClass usual is already marked as default. Only one default can exist"),
            (class("system-mine", 8, false), "system-mine is not a known system priority class"),
            (class("huge", 1_000_000_001, false), "maximum allowed value of a user defined priority is 1000000000"),
        ] {
            let refused = admin.create(classes, class).await.expect_err(words);
            assert!(refused.message().contains(words), "{}", refused.message());
        }
        let raised = admin.merge(&format!("{classes}/high"), json!({"value": 5})).await.expect_err("it is fixed");
        assert!(raised.message().contains("may not be changed in an update."), "{}", raised.message());
    });
}

#[test]
fn a_quota_that_makes_no_sense_is_refused() {
    with_server(|server| async move {
        let admin = server.admin();
        for (spec, words) in [
            (
                json!({"hard": {"cpux": "1"}}),
                "spec.hard[cpux]: Invalid value: \"cpux\": must be a standard resource for quota",
            ),
            (json!({"hard": {"pods": "-1"}}), "must be greater than or equal to 0"),
            (json!({"hard": {"pods": "1500m"}}), "must be an integer"),
            (json!({"hard": {"pods": "1"}, "scopes": ["Best"]}), "unsupported scope"),
            (json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}), "conflicting scopes"),
            (json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}), "unsupported scope applied to resource"),
            (json!({"hard": {"secrets": "1"}, "scopes": ["Terminating"]}), "unsupported scope applied to resource"),
            (
                json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                "must be at least one value",
            ),
        ] {
            let made = admin.create(QUOTAS, json!({"metadata": {"name": "x"}, "spec": spec})).await;
            let refused = made.expect_err(words);
            assert!(refused.message().contains(words), "{}", refused.message());
        }
        quota(&server, "ok", json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})).await;
        let moved = admin.merge(&format!("{QUOTAS}/ok"), json!({"spec": {"scopes": ["NotBestEffort"]}})).await;
        assert!(moved.expect_err("fixed").message().contains("field is immutable"));
    });
}
