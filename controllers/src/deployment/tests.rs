//! Stories of Deployments, told by what was done; and what holds in every story.

mod conditions;

use proptest::prelude::*;

use super::revisions;
use crate::model::{Model, image, set_image, strategy, web};

/// Runs one look of the Deployment and its ReplicaSets at a time, and tells each time how things stand.
fn frames(model: &mut Model, mut between: impl FnMut(&mut Model)) -> Vec<String> {
    let mut frames = vec![model.shape()];
    for _ in 0..60 {
        let busy = model.reconcile_all();
        let before = model.pods.clone();
        between(model);
        if model.shape() != *frames.last().unwrap() {
            frames.push(model.shape());
        }
        if !busy && model.pods == before {
            break;
        }
    }
    frames
}

fn all_run(model: &mut Model) {
    model.run_pods(usize::MAX, |_| false);
    model.stop_pods("");
}

fn running(replicas: i32) -> Model {
    let mut model = Model::new();
    model.apply(web(replicas, "v1"));
    model.settle();
    model.story();
    model
}

#[test]
fn a_new_deployment() {
    let mut model = Model::new();
    model.apply(web(3, "v1"));
    model.settle();
    let story = model.story();
    assert_eq!(story, ["create replica set [v1] with 3 replicas", "set revision 1", "create 1 pod", "create 2 pods"]);
    assert_eq!(model.shape(), "v1 3/3");
    let status = &model.deployments["web"].status;
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (3, 3, 3));
    assert_eq!(status.observed_generation, 1);
    assert_eq!(model.condition("web", "Available"), "True MinimumReplicasAvailable");
    assert_eq!(model.condition("web", "Progressing"), "True NewReplicaSetAvailable");
    // Nothing is left to do, and nothing is done again and again.
    assert!(!model.reconcile_all());
}

#[test]
fn scaling_changes_the_one_replica_set() {
    let mut model = running(3);
    model.change("web", |d| d.spec.replicas = Some(5));
    model.settle();
    assert_eq!(model.story(), ["scale up replica set [v1] from 3 to 5", "create 1 pod", "create 1 pod"]);
    model.change("web", |d| d.spec.replicas = Some(1));
    model.settle();
    let story = model.story();
    assert_eq!(story[0], "scale down replica set [v1] from 5 to 1");
    assert!(story[1].starts_with("delete pod "), "{story:?}");
    assert_eq!(model.shape(), "v1 1/1");
    model.change("web", |d| d.spec.replicas = Some(0));
    model.settle();
    assert_eq!(model.shape(), "v1 0/0");
    assert_eq!(model.condition("web", "Available"), "True MinimumReplicasAvailable");
}

#[test]
fn a_rolling_update_step_by_step() {
    let mut model = running(4);
    model.change("web", |d| set_image(d, "v2"));
    // 25 % of 4: one more, one less.
    let frames = frames(&mut model, all_run);
    assert_eq!(
        frames,
        [
            "v1 4/4",
            "v1 4/4, v2 1/1",
            "v1 3/3, v2 1/1",
            "v1 3/3, v2 2/2",
            "v1 2/2, v2 2/2",
            "v1 2/2, v2 3/3",
            "v1 1/1, v2 3/3",
            "v1 1/1, v2 4/4",
            "v1 0/0, v2 4/4",
        ]
    );
    assert_eq!(model.condition("web", "Progressing"), "True NewReplicaSetAvailable");
    let revision = |image_of: &str| model.sets.values().find(|s| image(s) == image_of).map(revisions::of_set).unwrap();
    assert_eq!((revision("v1"), revision("v2")), (1, 2));
    assert_eq!(revisions::of_deployment(&model.deployments["web"]), 2);
}

#[test]
fn a_newer_template_takes_over_in_the_middle() {
    let mut model = running(4);
    model.change("web", |d| set_image(d, "v2"));
    // v2 never gets ready.
    let broken = |m: &mut Model| {
        let v2: Vec<_> = m.sets.values().filter(|s| image(s) == "v2").map(|s| s.metadata.uid.clone()).collect();
        m.run_pods(usize::MAX, |p| p.owner.as_ref().is_some_and(|o| v2.contains(&o.uid)));
        m.stop_pods("");
    };
    let stuck = frames(&mut model, broken);
    assert_eq!(stuck.last().unwrap(), "v1 3/3, v2 0/2", "it stands still, and three still serve");
    model.change("web", |d| set_image(d, "v3"));
    let frames = frames(&mut model, broken);
    assert_eq!(frames.last().unwrap(), "v1 0/0, v2 0/0, v3 4/4");
    let least = frames
        .iter()
        .map(|f| f.split(", ").filter_map(|s| s.split([' ', '/']).nth(1)?.parse::<i32>().ok()).sum::<i32>());
    assert!(least.min().unwrap() >= 3, "{frames:?}");
}

#[test]
fn a_rollback_uses_the_old_replica_set_again() {
    let mut model = running(2);
    model.change("web", |d| set_image(d, "v2"));
    model.settle();
    model.story();
    model.change("web", |d| set_image(d, "v1"));
    model.settle();
    assert_eq!(model.shape(), "v1 2/2, v2 0/0");
    let v1 = model.sets.values().find(|s| image(s) == "v1").unwrap();
    assert_eq!(revisions::of_set(v1), 3, "it is the newest revision now");
    assert_eq!(v1.metadata.annotations["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(revisions::of_deployment(&model.deployments["web"]), 3);
    assert!(!model.story().iter().any(|line| line.starts_with("create replica set")));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut model = running(2);
    model.change("web", |d| {
        d.spec.paused = true;
        set_image(d, "v2");
    });
    model.settle();
    assert_eq!(model.shape(), "v1 2/2");
    assert_eq!(model.condition("web", "Progressing"), "Unknown DeploymentPaused");
    model.change("web", |d| d.spec.replicas = Some(4));
    model.settle();
    assert_eq!(model.shape(), "v1 4/4");
    model.change("web", |d| d.spec.paused = false);
    model.settle();
    assert_eq!(model.shape(), "v1 0/0, v2 4/4");
    assert_eq!(model.condition("web", "Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn resizing_in_the_middle_of_a_rollout_keeps_the_proportion() {
    let mut model = running(10);
    model.change("web", |d| {
        strategy(d, "3", "2");
        set_image(d, "v2");
    });
    // v2 never gets ready: 8 old, 5 new.
    let broken = |m: &mut Model| m.stop_pods("");
    frames(&mut model, broken);
    assert_eq!(model.shape(), "v1 8/8, v2 0/5");
    model.change("web", |d| d.spec.replicas = Some(15));
    model.reconcile_deployment("web");
    // 18 may exist, 13 do: the other 5 go 3 to 2, by size.
    assert_eq!(model.shape(), "v1 8/11, v2 0/7");
    model.change("web", |d| d.spec.replicas = Some(5));
    model.reconcile_deployment("web");
    assert_eq!(model.shape(), "v1 8/5, v2 0/3");
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let mut model = running(2);
    model.change("web", |d| {
        d.spec.strategy.r#type = "Recreate".into();
        d.spec.strategy.rolling_update = None;
        set_image(d, "v2");
    });
    for _ in 0..5 {
        model.reconcile_all();
    }
    assert_eq!(model.shape(), "v1 0/0", "the old pods are still stopping");
    assert_eq!(model.pods.len(), 2);
    model.settle();
    assert_eq!(model.shape(), "v1 0/0, v2 2/2");
}

#[test]
fn a_rollout_that_hangs_says_so_and_recovers() {
    let mut model = running(2);
    model.change("web", |d| set_image(d, "v2"));
    frames(&mut model, |m| m.stop_pods(""));
    assert_eq!(model.condition("web", "Progressing"), "True ReplicaSetUpdated");
    let again = model.plan_deployment("web").requeue_after.expect("a timer runs");
    model.now += i64::try_from(again.as_secs()).unwrap();
    model.reconcile_all();
    assert_eq!(model.condition("web", "Progressing"), "False ProgressDeadlineExceeded");
    assert!(!model.reconcile_deployment("web"), "it is said once");
    model.settle();
    assert_eq!(model.condition("web", "Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn history_keeps_as_many_as_it_is_told() {
    let mut model = running(1);
    model.change("web", |d| d.spec.revision_history_limit = Some(2));
    for version in 2..7 {
        model.change("web", |d| set_image(d, &format!("v{version}")));
        model.settle();
    }
    assert_eq!(model.shape(), "v4 0/0, v5 0/0, v6 1/1");
}

#[test]
fn pods_of_a_lost_node_are_replaced_at_once() {
    let mut model = running(3);
    let lost = model.pods.values().next().unwrap().node.clone();
    for pod in model.pods.values_mut().filter(|p| p.node == lost) {
        pod.ready_since = None;
        pod.deleting = true;
    }
    for _ in 0..10 {
        model.reconcile_all();
        model.run_pods(usize::MAX, |_| false);
        model.stop_pods(&lost);
    }
    assert_eq!(model.shape(), "v1 3/3");
    assert_eq!(model.pods.values().filter(|p| p.deleting).count(), 1, "it stays, terminating, on its lost node");
    assert_eq!(model.deployments["web"].status.replicas, 3);
}

#[test]
fn a_name_that_is_taken_is_hashed_once_more() {
    let mut model = Model::new();
    let deployment = web(1, "v1");
    let name = revisions::set_name(&deployment);
    let mut foreign = skiff_proto::appsv1::ReplicaSet::default();
    foreign.metadata.name = name.clone();
    foreign.metadata.uid = "foreign".into();
    let owner = skiff_proto::metav1::ObjectMeta { name: "other".into(), uid: "uid-other".into(), ..Default::default() };
    foreign.metadata.owner_references.push(crate::ownership::controller_reference("apps/v1", "Deployment", &owner));
    model.sets.insert(name.clone(), foreign.clone());
    model.apply(deployment);
    model.reconcile_deployment("web");
    model.reconcile_deployment("web");
    assert_eq!(model.sets[&name], foreign, "what belongs to somebody else is left alone");
    assert_eq!(model.sets.len(), 2);
    assert_eq!(model.deployments["web"].status.collision_count, Some(1));
}

#[test]
fn the_hash_is_of_the_template_and_nothing_else() {
    let template = |image: &str| web(1, image).spec.template;
    let hash = |image: &str, collisions| revisions::template_hash(&template(image), collisions);
    assert_eq!(hash("v1", 0), hash("v1", 0));
    assert_ne!(hash("v1", 0), hash("v2", 0));
    assert_ne!(hash("v1", 0), hash("v1", 1));
    let mut labelled = template("v1");
    labelled.metadata.labels.insert(revisions::HASH_LABEL.into(), "x".into());
    assert_eq!(revisions::template_hash(&labelled, 0), hash("v1", 0));
    // It is in names and selectors of what is stored: it may never change.
    assert_eq!(hash("v1", 0), "fhp2w4lhmz");
}

/// The sizes that the old ReplicaSet gets, when there are so many (size, available) of it and of the new one. Five are
/// wanted, six may exist, four have to be available.
fn old_becomes(old: (i32, i32), new: (i32, i32)) -> i32 {
    let mut deployment = web(5, "new");
    strategy(&mut deployment, "1", "1");
    let set = |image: &str, (size, available): (i32, i32)| {
        let mut of_image = web(5, image);
        of_image.metadata.uid = "uid".into();
        let mut set = revisions::new_set(&super::rollout::Rollout::of(&of_image, vec![]), size);
        set.status.available_replicas = available;
        set
    };
    let (old, new) = (set("old", old), set("new", new));
    let rollout = super::rollout::Rollout::of(&deployment, vec![&old, &new]);
    let (mut changes, mut plan) = (super::changes::Changes::default(), skiff_client::Plan::nothing());
    super::rolling::plan(&rollout, &mut changes);
    changes.into_steps(&rollout, &mut plan);
    let resized = plan.steps.iter().find_map(|step| match &step.action {
        super::plan::Action::Change(change) if change.set.name == old.metadata.name => change.replicas,
        _ => None,
    });
    resized.map_or(old.spec.replicas.unwrap(), |(_, to)| to)
}

#[test]
fn the_old_shrink_as_far_as_others_are_available() {
    // (size, available) of the old and of the new -> size of the old
    let table = [
        ("all are well: what is beyond four goes", (4, 4), (2, 2), 2),
        ("the new are not there yet", (4, 4), (2, 0), 4),
        ("one of the new is", (4, 4), (2, 1), 3),
        ("the broken go first, but only what can be spared if the new never come", (4, 2), (2, 1), 3),
        ("none that is available can be spared, one that is broken can", (3, 1), (3, 2), 2),
        ("a status from before the new one was made smaller counts for its size only", (3, 3), (3, 5), 1),
        ("the same of the old", (2, 4), (4, 2), 2),
    ];
    for (name, old, new, expected) in table {
        assert_eq!(old_becomes(old, new), expected, "{name}");
    }
}

/// What users, nodes and time may do to a Deployment, between any two looks.
#[derive(Clone, Debug)]
enum Happening {
    Look,
    LookAtSets,
    Scale(i32),
    Image(u8),
    Pause(bool),
    Run(usize),
    Stop,
    Break(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => Just(Happening::Look),
        8 => Just(Happening::LookAtSets),
        1 => (0..8i32).prop_map(Happening::Scale),
        1 => (1..4u8).prop_map(Happening::Image),
        1 => any::<bool>().prop_map(Happening::Pause),
        5 => (1..4usize).prop_map(Happening::Run),
        4 => Just(Happening::Stop),
        1 => (0..8usize).prop_map(Happening::Break),
    ]
}

fn bounds() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        Just(("25%", "25%")),
        Just(("1", "0")),
        Just(("0", "1")),
        Just(("100%", "0")),
        Just(("0", "0")),
        Just(("2", "50%"))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However looks, users, kubelets and failures interleave: a plan never asks for more pods than wanted and
    /// maxSurge, and never gives up a pod that serves while too few others do. And in the end, everything is
    /// as it was asked for.
    #[test]
    fn a_rollout_keeps_its_bounds_and_arrives(
        replicas in 1..7i32, (surge, unavailable) in bounds(), happenings in prop::collection::vec(happening(), 1..80)
    ) {
        let mut model = Model::new();
        let mut deployment = web(replicas, "v1");
        strategy(&mut deployment, surge, unavailable);
        model.apply(deployment);
        model.settle();
        for happening in happenings {
            match happening {
                Happening::Scale(n) => model.change("web", |d| d.spec.replicas = Some(n)),
                Happening::Image(v) => model.change("web", |d| set_image(d, &format!("v{v}"))),
                Happening::Pause(paused) => model.change("web", |d| d.spec.paused = paused),
                Happening::Run(n) => model.run_pods(n, |_| false),
                Happening::Stop => model.stop_pods(""),
                Happening::Break(nth) => if let Some(pod) = model.pods.values_mut().nth(nth) { pod.ready_since = None },
                Happening::LookAtSets => {
                    for name in model.sets.keys().cloned().collect::<Vec<_>>() { model.reconcile_set(&name); }
                }
                Happening::Look => {
                    let deployment = model.deployments["web"].clone();
                    let total = |m: &Model| m.sets.values().map(|s| s.spec.replicas.unwrap()).sum::<i32>();
                    let before = total(&model);
                    // What plans may rely on: what ReplicaSets say of the pods that they shall have.
                    let promised = |m: &Model| m.sets.values()
                        .map(|s| s.status.available_replicas.min(s.spec.replicas.unwrap())).sum::<i32>();
                    let could_serve = promised(&model);
                    model.reconcile_deployment("web");
                    let rollout = super::rollout::Rollout::of(&deployment, vec![]);
                    let scaling = deployment.status.observed_generation != deployment.metadata.generation;
                    prop_assert!(total(&model) <= rollout.most().max(before), "beyond maxSurge: {}", model.shape());
                    if !scaling {
                        prop_assert!(
                            promised(&model) >= rollout.least().min(could_serve),
                            "{} of {} can serve, {} before: {}",
                            promised(&model), rollout.least(), could_serve, model.shape()
                        );
                    }
                }
            }
        }
        model.change("web", |d| d.spec.paused = false);
        model.settle();
        let deployment = &model.deployments["web"];
        let wanted = deployment.spec.replicas.unwrap();
        let current = &deployment.spec.template.spec.containers[0].image;
        for set in model.sets.values() {
            let size = if image(set) == current { wanted } else { 0 };
            prop_assert_eq!(set.spec.replicas, Some(size), "{}", model.shape());
        }
        prop_assert_eq!(model.serving(deployment), usize::try_from(wanted).unwrap());
        prop_assert_eq!(deployment.status.available_replicas, wanted);
    }
}
