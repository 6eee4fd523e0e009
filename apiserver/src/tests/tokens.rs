//! Tokens of service accounts: had through either face, taken by either face, and good no longer than they should be.

use super::*;
use crate::auth::tokens::{ISSUER, ServiceAccounts, generate};
use std::time::Duration;

/// A server that makes tokens.
pub fn with_tokens() -> Options {
    Options { service_accounts: Some(ServiceAccounts::generate().expect("a key")), ..options() }
}

async fn account(admin: &Client, name: &str) {
    admin.create("v1:serviceaccounts:default", json!({"metadata": {"name": name}})).await.expect("an account");
}

async fn token(client: &Client, name: &str, spec: Value) -> Answer {
    client.create(&format!("v1:serviceaccounts:default/{name}/token"), json!({"spec": spec})).await
}

fn said(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&bytes).expect("claims")
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_string()
}

/// Who the server says the holder of a token is, by both faces: the name, or why not.
async fn holder(server: &Server, token: &str) -> Result<String, String> {
    let header = format!("authorization: Bearer {token}");
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let json = "content-type: application/json";
    let got = server.http_of_nobody().ask("POST", path, &[&header, json], "{}").await;
    let nobody = server.client_as(None).with("authorization", &format!("Bearer {token}"));
    let over_grpc = nobody.get("v1:pods:default/x").await.expect_err("no rights");
    if got.code == 201 {
        assert_eq!(over_grpc.reason(), "Forbidden", "{over_grpc:?}");
        let user = text(&got.json()["status"]["userInfo"]["username"]);
        assert!(over_grpc.message().contains(&user), "{over_grpc:?}");
        return Ok(user);
    }
    assert_eq!((got.code, over_grpc.grpc.code()), (401, tonic::Code::Unauthenticated));
    assert_eq!((got.json()["reason"].as_str(), got.json()["kind"].as_str()), (Some("Unauthorized"), Some("Status")));
    assert_eq!(over_grpc.reason(), "Unauthorized");
    Err(text(&got.json()["message"]))
}

/// What a Pod was given to find its account's token by: how many volumes, and how many mounts per container.
fn given(pod: &Value) -> (usize, Vec<usize>) {
    let all = |path: &str| pod["spec"][path].as_array().cloned().unwrap_or_default();
    let ours = |named: &Value| named["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    let volumes = all("volumes").iter().filter(|volume| ours(volume)).count();
    let mounts = |container: &Value| match container["volumeMounts"].as_array() {
        Some(mounts) => mounts.iter().filter(|mount| ours(mount)).count(),
        None => 0,
    };
    (volumes, all("initContainers").iter().chain(&all("containers")).map(mounts).collect())
}

#[test]
fn a_pod_runs_as_an_account_that_exists_and_gets_its_token() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        let began = server.world.now();
        let refused = admin.create("v1:pods:default", pod("early")).await.expect_err("no account");
        assert_eq!(refused.reason(), "Forbidden");
        assert_eq!(
            refused.message(),
            "pods \"early\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
        );
        assert!(server.world.now() - began >= Duration::from_secs(1), "it waited for a controller to make it");
        let nowhere = admin.create("v1:pods:nowhere", pod("x")).await.expect_err("no namespace");
        assert_eq!((nowhere.reason(), nowhere.message()), ("NotFound", "namespaces \"nowhere\" not found"));

        account(&admin, "default").await;
        let mut both = pod("both");
        both["spec"]["initContainers"] = json!([{"name": "first", "image": "demo:1"}]);
        let made = admin.create("v1:pods:default", both).await.expect("a Pod");
        assert_eq!(given(&made), (1, vec![1, 1]));
        assert_eq!(made["spec"]["serviceAccountName"], "default");
        let volume = made["spec"]["volumes"][0].clone();
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]);
        assert_eq!(volume["projected"], json!({"sources": sources, "defaultMode": 420}));

        let quiet = json!({"metadata": {"name": "quiet"}, "automountServiceAccountToken": false,
            "imagePullSecrets": [{"name": "registry"}]});
        admin.create("v1:serviceaccounts:default", quiet).await.expect("an account");
        for (name, account, automount, volumes) in [
            ("a", "default", json!(null), 1),
            ("b", "default", json!(false), 0),
            ("c", "quiet", json!(null), 0),
            ("d", "quiet", json!(true), 1),
        ] {
            let mut one = pod(name);
            one["spec"]["serviceAccountName"] = account.into();
            one["spec"]["automountServiceAccountToken"] = automount;
            let made = admin.create("v1:pods:default", one).await.expect("a Pod");
            assert_eq!(given(&made), (volumes, vec![volumes]), "{name}");
            let pulls = if account == "quiet" { json!([{"name": "registry"}]) } else { json!(null) };
            assert_eq!(made["spec"]["imagePullSecrets"], pulls, "{name}");
        }
    });
}

#[test]
fn a_pod_that_is_quicker_than_its_namespaces_account_waits_for_it() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        let late = admin.clone();
        server.world.spawn("controller", async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            account(&late, "default").await;
        });
        let began = server.world.now();
        let made = admin.create("v1:pods:default", pod("early")).await.expect("a Pod");
        assert_eq!(given(&made), (1, vec![1]));
        let waited = server.world.now() - began;
        assert!(waited >= Duration::from_millis(300) && waited < Duration::from_millis(900), "{waited:?}");
    });
}

#[test]
fn a_token_is_its_account_until_it_ends() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        account(&admin, "robot").await;
        let made = token(&admin, "robot", json!({"expirationSeconds": 700})).await.expect("a token");
        assert_eq!(made["spec"]["audiences"], json!([ISSUER]));
        let robot = text(&made["status"]["token"]);
        let claims = said(&robot);
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 700);
        assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "robot");
        for _ in 0..2 {
            assert_eq!(holder(&server, &robot).await, Ok("system:serviceaccount:default:robot".into()));
        }
        let header = format!("authorization: Bearer {robot}");
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let who = server.http_of_nobody().ask("POST", path, &[&header, "content-type: application/json"], "{}").await;
        let who = who.json()["status"]["userInfo"].clone();
        let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
        assert_eq!(who["groups"], json!(groups));
        assert_eq!(who["uid"], claims["kubernetes.io"]["serviceaccount"]["uid"]);

        server.world.sleep(Duration::from_secs(699)).await;
        assert!(holder(&server, &robot).await.is_ok());
        server.world.sleep(Duration::from_secs(1)).await;
        let ended = holder(&server, &robot).await.expect_err("it has ended");
        assert!(ended.contains("it has ended at"), "{ended}");
    });
}

#[test]
fn a_bad_token_is_never_somebody_else() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        account(&admin, "robot").await;
        let good = text(&token(&admin, "robot", json!({})).await.expect("a token")["status"]["token"]);
        let forged = {
            let other = crate::auth::tokens::Keys::read(&generate().expect("a key"), "").expect("keys");
            other.sign(&said(&good)).expect("signed")
        };
        let foreign = json!({"audiences": ["https://vault"]});
        let foreign = text(&token(&admin, "robot", foreign).await.expect("a token")["status"]["token"]);
        for (bad, why) in [
            ("nonsense", "not a signed token"),
            (forged.as_str(), "not signed by a key of this cluster"),
            (foreign.as_str(), "it is for [\"https://vault\"]"),
        ] {
            let refused = holder(&server, bad).await.expect_err(bad);
            assert!(refused.contains(why), "{refused}");
            // Not even where the connection belongs to somebody: what is asked with a token is asked by its holder.
            let got = server.http().ask("GET", "/api/v1/pods", &[&format!("authorization: Bearer {bad}")], "").await;
            assert_eq!(got.code, 401);
            let health = server.http().ask("GET", "/version", &[&format!("authorization: Bearer {bad}")], "").await;
            assert_eq!(health.code, 401);
        }
        let got = server.http().ask("GET", "/api/v1/pods", &[&format!("authorization: Bearer {good}")], "").await;
        assert_eq!(got.code, 403, "the token's rights, not the connection's: {}", got.text());
        let basic = server.http().ask("GET", "/api/v1/pods", &["authorization: Basic YTpi"], "").await;
        assert_eq!(basic.code, 401);
    });
}

#[test]
fn a_token_goes_with_what_it_is_bound_to() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        account(&admin, "robot").await;
        let mut own = pod("one");
        own["spec"]["serviceAccountName"] = "robot".into();
        let one = admin.create("v1:pods:default", own).await.expect("a Pod");
        let secret = json!({"metadata": {"name": "key"}});
        admin.create("v1:secrets:default", secret).await.expect("a Secret");
        let bound =
            |kind: &str, name: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}});
        let of_pod = token(&admin, "robot", bound("Pod", "one")).await.expect("a token");
        assert_eq!(of_pod["spec"]["boundObjectRef"]["uid"], one["metadata"]["uid"]);
        let of_pod = text(&of_pod["status"]["token"]);
        let of_secret =
            text(&token(&admin, "robot", bound("Secret", "key")).await.expect("a token")["status"]["token"]);
        let of_account = text(&token(&admin, "robot", json!({})).await.expect("a token")["status"]["token"]);
        assert_eq!(said(&of_pod)["kubernetes.io"]["pod"]["name"], "one");

        admin.delete("v1:pods:default/one").await.expect("deleted");
        let refused = holder(&server, &of_pod).await.expect_err("the Pod is gone");
        assert!(refused.contains("pods \"one\", which it is bound to, does not exist"), "{refused}");
        assert!(holder(&server, &of_secret).await.is_ok());

        // One of the same name is another one.
        admin.delete("v1:secrets:default/key").await.expect("deleted");
        admin.create("v1:secrets:default", json!({"metadata": {"name": "key"}})).await.expect("a Secret");
        let refused = holder(&server, &of_secret).await.expect_err("the Secret is another one");
        assert!(refused.contains("is another one by now"), "{refused}");
        assert!(holder(&server, &of_account).await.is_ok());

        admin.delete("v1:serviceaccounts:default/robot").await.expect("deleted");
        assert!(holder(&server, &of_account).await.is_err());
    });
}

#[test]
fn what_cannot_be_bound_or_lasts_too_short_is_refused() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        account(&admin, "robot").await;
        account(&admin, "default").await;
        admin.create("v1:pods:default", pod("other")).await.expect("a Pod");
        for (name, spec, reason, words) in [
            ("robot", json!({"expirationSeconds": 599}), "Invalid", "less than 10 minutes"),
            ("robot", json!({"expirationSeconds": 4_294_967_297_i64}), "Invalid", "larger than 2^32"),
            ("none", json!({}), "NotFound", "serviceaccounts \"none\" not found"),
            ("robot", json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "x"}}), "NotFound", "pods"),
            (
                "robot",
                json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "other"}}),
                "BadRequest",
                "different serviceaccount name",
            ),
            (
                "robot",
                json!({"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}}),
                "BadRequest",
                "cannot bind token",
            ),
        ] {
            let refused = token(&admin, name, spec).await.expect_err(words);
            assert_eq!(refused.reason(), reason, "{refused:?}");
            assert!(refused.message().contains(words), "{refused:?}");
        }
        let someone = server.client("someone", &[]);
        assert_eq!(token(&someone, "robot", json!({})).await.expect_err("no right").reason(), "Forbidden");
    });
}

#[test]
fn a_node_gets_tokens_of_its_own_pods_only() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        account(&admin, "robot").await;
        let mut uids = vec![];
        for (name, node) in [("mine", "a"), ("theirs", "b")] {
            let mut one = pod(name);
            one["spec"]["serviceAccountName"] = "robot".into();
            one["spec"]["nodeName"] = node.into();
            one["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "audience": "vault"}}]}}]);
            let made = admin.create("v1:pods:default", one).await.expect("a Pod");
            uids.push(text(&made["metadata"]["uid"]));
        }
        let node = server.node("a");
        let bound = |name: &str, uid: &str, audiences: Value| {
            json!({"audiences": audiences, "boundObjectRef":
                {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}})
        };
        for audiences in [json!([]), json!(["vault"]), json!([ISSUER])] {
            let made = token(&node, "robot", bound("mine", &uids[0], audiences)).await.expect("a token");
            let claims = said(&text(&made["status"]["token"]));
            assert_eq!(claims["kubernetes.io"]["node"]["name"], "a");
        }
        for (spec, words) in [
            (json!({}), "not bound to a pod"),
            (bound("theirs", &uids[1], json!([])), "scheduled on a different node"),
            (bound("mine", &uids[0], json!(["bank"])), "audience \"bank\" not found in pod spec volume"),
        ] {
            let refused = token(&node, "robot", spec).await.expect_err(words);
            assert!(refused.reason() == "Forbidden" && refused.message().contains(words), "{refused:?}");
        }
        let other = token(&node, "robot", bound("mine", &uids[1], json!([]))).await.expect_err("another uid");
        assert_eq!(other.reason(), "Conflict");
    });
}

#[test]
fn others_can_ask_whose_a_token_is_and_verify_it_themselves() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        account(&admin, "robot").await;
        let spec = json!({"audiences": ["vault", "bank"]});
        let made = text(&token(&admin, "robot", spec).await.expect("a token")["status"]["token"]);
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let review = |audiences: Value| json!({"spec": {"token": made, "audiences": audiences}});
        let got = server.http().post(path, &review(json!(["vault", "other"]))).await;
        assert_eq!(got.code, 201, "{}", got.text());
        let status = got.json()["status"].clone();
        assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
        assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");
        let got = server.http().post(path, &review(json!([]))).await.json();
        assert_eq!(got["status"]["authenticated"], Value::Null);
        assert!(text(&got["status"]["error"]).contains("not for this audience"), "{got}");
        let someone = server.http_as(Identity::new("someone", &[]));
        assert_eq!(someone.post(path, &review(json!([]))).await.code, 403);

        // What verifies tokens is for those who have some: the right that comes with being a service account.
        assert_eq!(someone.get("/openid/v1/jwks").await.code, 403);
        let own = server.http_as(Identity::new("system:serviceaccount:default:robot", &["system:serviceaccounts"]));
        let configuration = own.get("/.well-known/openid-configuration").await;
        assert_eq!((configuration.code, configuration.json()["issuer"].as_str()), (200, Some(ISSUER)));
        let keys = own.get("/openid/v1/jwks").await;
        assert_eq!(keys.content_type(), "application/jwk-set+json");
        let header: Value = {
            use base64::Engine;
            let part = made.split('.').next().expect("a header");
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64url");
            serde_json::from_slice(&bytes).expect("JSON")
        };
        assert_eq!(keys.json()["keys"][0]["kid"], header["kid"]);
        assert_eq!(server.http_of_nobody().get("/openid/v1/jwks").await.code, 401);
        let listed = server.http().get("/api/v1").await.json();
        let resources = listed["resources"].as_array().expect("a list");
        let found = resources.iter().find(|r| r["name"] == "serviceaccounts/token").expect("discovered");
        assert_eq!(found["kind"], "TokenRequest");
    });
}

#[test]
fn a_bootstrap_token_is_a_bootstrapper_while_its_secret_is_there() {
    with_options(with_tokens(), |server| async move {
        let admin = server.admin();
        let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef",
                "usage-bootstrap-authentication": "true"}});
        admin.create("v1:secrets:kube-system", secret).await.expect("a Secret");
        let token = "abcdef.0123456789abcdef";
        assert_eq!(holder(&server, token).await, Ok("system:bootstrap:abcdef".into()));
        let wrong = holder(&server, "abcdef.0123456789abcdeg").await.expect_err("a guess");
        assert!(wrong.contains("no bootstrap token of this cluster"), "{wrong}");
        admin.delete("v1:secrets:kube-system/bootstrap-token-abcdef").await.expect("deleted");
        assert!(holder(&server, token).await.is_err());
    });
}

#[test]
fn kubectl_asks_in_protobuf() {
    use skiff_proto::authenticationv1::{TokenRequest, TokenRequestSpec};
    with_options(with_tokens(), |server| async move {
        account(&server.admin(), "robot").await;
        let spec = TokenRequestSpec { expiration_seconds: Some(1200), ..Default::default() };
        let raw = TokenRequest { spec, ..Default::default() }.encode_to_vec();
        let body = rest::forms::seal("authentication.k8s.io/v1", "TokenRequest", &raw);
        let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
        let protobuf = "application/vnd.kubernetes.protobuf";
        let headers = [format!("content-type: {protobuf}"), format!("accept: {protobuf},application/json")];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let got = server.http().ask("POST", path, &headers, body).await;
        assert_eq!(got.code, 201, "{}", got.text());
        assert_eq!(got.json()["spec"]["expirationSeconds"], 1200);
        assert!(holder(&server, &text(&got.json()["status"]["token"])).await.is_ok());
    });
}
