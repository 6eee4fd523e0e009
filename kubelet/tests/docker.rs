//! A node's ground on the real engine and the real kernel: a sandbox whose namespace is the kubelet's, containers that
//! join it, addresses that survive. Needs root and Docker; says so and passes where there is none.
//!
//! Each test takes a network namespace of its own as its node, so that nothing of the machine's is touched, and removes
//! what it made by name also when it fails.

#[path = "docker/engine.rs"]
mod engine;
#[path = "docker/kubelet.rs"]
mod kubelet;

use std::time::Duration;

use engine::{Node, app_image, run};
use skiff_kubelet::network::{Network, NodeNetwork};
use skiff_kubelet::runtime::{
    BindMount, ContainerConfig, ContainerRuntime, ExecConfig, Exit, LogOptions, NamespaceMode, NetworkMode, Output,
    Role, RunState, run_command,
};

#[test]
fn a_sandbox_is_in_the_namespace_that_the_kubelet_made() {
    run("sandbox", |node| async move {
        let (pause, pod) = node.sandbox("uid-1", 0).await;
        let RunState::Running { pid, .. } = pause.state else { panic!("pause does not run: {:?}", pause.state) };
        node.network.check(&pod.namespace, pid).await.expect("in the Pod's namespace");
        let own = node.network.check(&pod.namespace, std::process::id()).await;
        assert!(own.is_err(), "the check must be able to fail");

        // pause has no privilege left.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{line} in {status}");
        }

        // A container that joins it is in the same namespace, with the sandbox's hostname.
        let mut app = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        app.args = vec!["http".into(), "8080".into()];
        app.network = NetworkMode::Container(pause.id.clone());
        app.ipc = NamespaceMode::Container(pause.id.clone());
        let app = node.start(&app).await;
        let RunState::Running { pid, .. } = app.state else { panic!("app does not run") };
        node.network.check(&pod.namespace, pid).await.expect("the app is in the Pod's namespace");
        let answer = node.get(&format!("{}:8080", pod.ip)).await;
        assert_eq!(answer, "web-1", "from the node, over the bridge");

        // Pause gone: the namespace and the address stay, a second pause enters the same.
        node.runtime.remove(&app.id).await.expect("remove");
        node.runtime.remove(&pause.id).await.expect("remove");
        let (again, same) = node.sandbox("uid-1", 1).await;
        assert_eq!(same, pod);
        assert!(again.is_running());

        // TERM ends pause at once.
        node.runtime.signal(&again.id, "TERM").await.expect("signal");
        let exit = node.wait_exit(&again.id).await;
        assert_eq!(exit.code, 0);
    });
}

#[test]
fn pods_reach_each_other_and_give_their_addresses_back() {
    run("pods", |node| async move {
        let (one, first) = node.sandbox("uid-1", 0).await;
        let (two, second) = node.sandbox("uid-2", 0).await;
        assert_ne!(first.ip, second.ip);
        let mut server = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        server.args = vec!["http".into(), "80".into()];
        server.network = NetworkMode::Container(one.id.clone());
        node.start(&server).await;
        node.get(&format!("{}:80", first.ip)).await;
        let mut client = ContainerConfig::new(node.identity("uid-2", Role::App, "app", 0), &app_image().reference);
        client.args = vec!["get".into(), format!("{}:80", first.ip)];
        client.network = NetworkMode::Container(two.id.clone());
        let client = node.start(&client).await;
        let exit = node.wait_exit(&client.id).await;
        assert_eq!(exit.code, 0, "{}", node.log(&client.id).await);
        assert_eq!(node.log(&client.id).await.trim(), "web-1");

        // Another kubelet on the same directory knows the same Pods.
        let again = node.second_network();
        assert_eq!(again.pods().await.expect("pods").len(), 2);
        let range = NodeNetwork { pod_cidr: engine::POD_CIDR.parse().expect("range"), node_ip: None };
        again.start(&range).await.expect("start");
        assert_eq!(again.add("uid-1").await.expect("add"), first);

        for report in node.runtime.containers(Some("uid-2")).await.expect("list") {
            node.runtime.remove(&report.id).await.expect("remove");
        }
        again.remove("uid-2").await.expect("remove");
        again.remove("uid-2").await.expect("twice");
        assert!(!second.namespace.exists());
        assert_eq!(again.pods().await.expect("pods").keys().collect::<Vec<_>>(), ["uid-1"]);
        node.runtime.forget_pod("uid-2").await.expect("cgroups");
        node.runtime.forget_pod("uid-2").await.expect("twice");
    });
}

#[test]
fn a_host_network_pods_sandbox_is_in_the_nodes_namespace() {
    run("host", |node| async move {
        let namespace = node.network.node_namespace().await.expect("bind");
        let pause = node.pause(node.identity("uid-9", Role::Sandbox, "POD", 0), &namespace, "").await;
        let RunState::Running { pid, .. } = pause.state else { panic!("pause does not run") };
        node.network.check(&namespace, pid).await.expect("in the node's namespace");
        let mut app = ContainerConfig::new(node.identity("uid-9", Role::App, "app", 0), &app_image().reference);
        app.args = vec!["netns".into()];
        app.network = NetworkMode::Container(pause.id.clone());
        let app = node.start(&app).await;
        node.wait_exit(&app.id).await;
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("own namespace");
        assert_eq!(node.log(&app.id).await.trim(), own.display().to_string());
    });
}

#[test]
fn creating_twice_finds_the_first_and_everything_may_be_repeated() {
    run("adopt", |node| async move {
        let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        config.args = vec!["sleep".into()];
        let first = node.runtime.create(&config).await.expect("create");
        assert_eq!(node.runtime.create(&config).await.expect("create again"), first);
        node.runtime.start(&first).await.expect("start");
        node.runtime.start(&first).await.expect("start again");
        let listed = node.runtime.containers(Some("uid-1")).await.expect("list");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].identity, config.identity);
        assert!(node.runtime.containers(Some("uid-2")).await.expect("list").is_empty());
        node.runtime.signal(&first, "KILL").await.expect("kill");
        let exit = node.wait_exit(&first).await;
        assert_eq!(exit.code, 137);
        node.runtime.signal(&first, "KILL").await.expect("kill the dead");
        node.runtime.remove(&first).await.expect("remove");
        node.runtime.remove(&first).await.expect("remove again");
        node.runtime.signal(&first, "KILL").await.expect("kill the gone");
    });
}

#[test]
fn containers_end_with_their_code_their_output_and_their_reason() {
    run("ends", |node| async move {
        let make = |name: &str, args: &[&str]| {
            let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, name, 0), &app_image().reference);
            config.args = args.iter().map(|arg| arg.to_string()).collect();
            config
        };
        let exits = node.start(&make("exits", &["exit", "7"])).await;
        assert_eq!(node.wait_exit(&exits.id).await.code, 7);

        let prints = node.start(&make("prints", &["print", "hello"])).await;
        node.wait_exit(&prints.id).await;
        let pieces = node.pieces(&prints.id, &LogOptions::default()).await;
        assert!(pieces.contains(&Output::Stdout("hello\n".into())), "{pieces:?}");
        assert!(pieces.contains(&Output::Stderr("E:hello\n".into())), "{pieces:?}");

        let mut missing = make("missing", &[]);
        missing.command = vec!["/no/such/program".into()];
        let id = node.runtime.create(&missing).await.expect("create");
        let error = node.runtime.start(&id).await.expect_err("cannot start");
        assert!(error.words().contains("/no/such/program"), "{error}");
        let Exit { start_error, started_at, .. } = node.wait_exit(&id).await;
        assert!(start_error.is_some_and(|words| words.contains("/no/such/program")));
        assert_eq!(started_at, None);

        let mut eats = make("eats", &["eat"]);
        eats.limits.memory = 16 << 20;
        let eats = node.start(&eats).await;
        let exit = node.wait_exit(&eats.id).await;
        assert!(exit.oom_killed, "{exit:?}");

        let mut absent = make("absent", &["sleep"]);
        absent.image = "skiff.invalid/absent:1".into();
        let error = node.runtime.create(&absent).await.expect_err("no such image");
        assert!(error.is_not_found(), "{error}");
        let error = node.runtime.pull("127.0.0.1:1/absent:1").await.expect_err("no registry");
        assert!(!error.words().is_empty());
    });
}

#[test]
fn commands_mounts_environment_and_limits() {
    run("inside", |node| async move {
        let file = node.directory().join("greeting");
        std::fs::write(&file, "from the node").expect("write");
        let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        config.args = vec!["sleep".into()];
        config.env = vec![("NAME".into(), "a value with = in it".into())];
        config.limits.memory = 64 << 20;
        config.limits.cpu_quota = 50_000;
        config.limits.cpu_shares = 256;
        config.mounts = vec![BindMount {
            source: file.display().to_string(),
            target: "/etc/greeting".into(),
            read_only: true,
            propagation: String::new(),
        }];
        let app = node.start(&config).await;
        let exec = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<String>>();
        let limit = Duration::from_secs(20);
        let (code, text) =
            run_command(&*node.runtime, &app.id, &exec(&["/app", "cat", "/etc/greeting"]), limit).await.expect("exec");
        assert_eq!((code, text.as_str()), (0, "from the node"));
        let (_, text) =
            run_command(&*node.runtime, &app.id, &exec(&["/app", "env", "NAME"]), limit).await.expect("exec");
        assert_eq!(text.trim(), "a value with = in it");
        let (code, _) = run_command(&*node.runtime, &app.id, &exec(&["/app", "exit", "3"]), limit).await.expect("exec");
        assert_eq!(code, 3);
        let error = run_command(&*node.runtime, &app.id, &exec(&["/nothing"]), limit).await;
        assert!(!matches!(&error, Ok((0, _))), "{error:?}");
        let slow = run_command(&*node.runtime, &app.id, &exec(&["/app", "sleep"]), Duration::from_millis(300)).await;
        assert!(slow.is_err(), "{slow:?}");
        let terminal = ExecConfig { command: exec(&["/app", "sleep"]), stdin: true, tty: true };
        let session = node.runtime.exec(&app.id, &terminal).await.expect("exec with a terminal");
        node.runtime.resize(&session.target, 100, 40).await.expect("resize");
        assert_eq!(node.runtime.exit_code(&session.target).await.expect("ask"), None);
    });
}

#[test]
fn who_attaches_too_late_is_told() {
    run("attach", |node| async move {
        let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        config.args = vec!["sleep".into()];
        let running = node.start(&config).await;
        node.runtime.attach(&running.id, false, false).await.expect("attach to what runs");
        let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, "short", 0), &app_image().reference);
        config.args = vec!["exit".into(), "0".into()];
        let ended = node.start(&config).await;
        let target = skiff_kubelet::runtime::SessionTarget::Container(ended.id.clone());
        while node.runtime.exit_code(&target).await.expect("ask").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = node.runtime.attach(&ended.id, false, false).await.err().expect("it has ended");
        assert!(error.to_string().contains("not running"), "{error}");
    });
}

#[test]
fn who_attaches_late_hears_what_was_said_before() {
    run("replay", |node| async move {
        use futures::StreamExt;
        let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        config.args = vec!["http".into(), "8080".into()];
        let running = node.start(&config).await;
        let said = "listening on 8080\n";
        while node.log(&running.id).await != said {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut session = node.runtime.attach(&running.id, true, true).await.expect("attach to what runs");
        let first = tokio::time::timeout(Duration::from_secs(20), session.output.next()).await.expect("in time");
        let Output::Stdout(bytes) = first.expect("it said something").expect("readable") else { panic!("to stdout") };
        assert_eq!(String::from_utf8_lossy(&bytes), said);
    });
}

#[test]
fn events_wake_for_our_pods_only() {
    run("events", |node| async move {
        use futures::StreamExt;
        let mut events = node.runtime.events().await.expect("events");
        let mut config = ContainerConfig::new(node.identity("uid-1", Role::App, "app", 0), &app_image().reference);
        config.args = vec!["exit".into(), "0".into()];
        node.start(&config).await;
        let mut seen = Vec::new();
        while !seen.contains(&"die".to_string()) {
            let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event in time");
            let event = event.expect("the stream goes on").expect("an event");
            assert_eq!(event.pod_uid, "uid-1");
            seen.push(event.action);
        }
        assert!(seen.contains(&"start".to_string()), "{seen:?}");
    });
}

#[test]
fn an_engine_that_is_not_there_is_said_to_be() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let engine = Node::unreachable();
        let error = engine.info().await.expect_err("nobody there");
        assert!(error.is_engine_down(), "{error}");
        assert!(error.to_string().contains("/nonexistent/docker.sock"), "{error}");
    });
}
