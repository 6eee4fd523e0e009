//! Who leads: the decision as a table, and elections among several in simulation.

use std::sync::{Arc, Mutex};

use skiff_proto::corev1::ConfigMap;
use skiff_world::sim::{Faults, Sim, Simulation};

use super::*;
use crate::fake::Fake;

fn lease(holder: &str, seconds: i32, transitions: i32) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(seconds),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    Lease { spec, ..Lease::default() }
}

#[test]
fn the_decision() {
    let seconds = Duration::from_secs;
    let take = |transitions| Decision::Take { transitions };
    for (name, lease, unchanged, decision) in [
        ("no lease", None, 0, Decision::Create),
        ("nobody holds it", Some(lease("", 1, 4)), 0, take(5)),
        ("another leads", Some(lease("b", 15, 4)), 0, Decision::Wait(seconds(2))),
        ("another leads, for a second more", Some(lease("b", 15, 4)), 14, Decision::Wait(seconds(1))),
        ("another has not renewed it", Some(lease("b", 15, 4)), 15, take(5)),
        ("another promised more", Some(lease("b", 60, 4)), 20, Decision::Wait(seconds(2))),
        ("ours, from an earlier life", Some(lease("a", 15, 4)), 0, take(5)),
        ("the last number there is", Some(lease("", 15, i32::MAX)), 0, take(i32::MAX)),
    ] {
        assert_eq!(decide(lease.as_ref(), seconds(unchanged), "a", &Terms::default()), decision, "{name}");
    }
}

#[test]
fn a_lease_is_ours_only_in_our_term() {
    let fence = Fence { namespace: "kube-system".into(), name: "x".into(), holder: "a".into(), transitions: 4 };
    assert!(still_ours(&lease("a", 15, 4), &fence));
    assert!(!still_ours(&lease("a", 15, 5), &fence), "we lead again, in another life");
    assert!(!still_ours(&lease("b", 15, 4), &fence));
    assert_eq!(fence.to_string(), "kube-system/x/a/4");
}

fn candidate(sim: &Sim, machine: &str, identity: &str) -> (World, LeaderElection) {
    let world = sim.machine(machine).world("candidate", None);
    let election = LeaderElection::new(&world, &Fake::client(&world), "kube-system", "scheduler", identity);
    (world, election)
}

async fn within<F: Future>(seconds: u64, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(seconds), future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {seconds} s: {what}"),
    }
}

fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..5 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

async fn server(sim: &Sim) -> Fake {
    let fake = Fake::new();
    fake.serve(&sim.machine("server").world("api", None)).await;
    fake
}

#[test]
fn a_leader_keeps_its_lease_and_gives_it_back() {
    simulate(async |sim: Sim| {
        let _fake = server(&sim).await;
        let ((_w1, first), (_w2, second)) = (candidate(&sim, "m1", "a"), candidate(&sim, "m2", "b"));
        let leader = within(5, "the first leads", first.acquire()).await;
        assert_eq!(leader.fence().transitions, 1);
        let waiting = tokio::time::timeout(Duration::from_secs(120), second.acquire()).await;
        assert!(waiting.is_err(), "a lease that is renewed is not taken");
        assert!(!leader.is_lost());
        leader.release().await;
        let leader = within(5, "the second leads at once", second.acquire()).await;
        assert_eq!(leader.fence().to_string(), "kube-system/scheduler/b/2");
    });
}

#[test]
fn a_dead_leaders_lease_runs_out_on_the_others_clock() {
    simulate(async |sim: Sim| {
        let _fake = server(&sim).await;
        let ((w1, first), (_w2, second)) = (candidate(&sim, "m1", "a"), candidate(&sim, "m2", "b"));
        let _leader = within(5, "the first leads", first.acquire()).await;
        // Its wall clock is a day ahead: nobody cares.
        sim.machine("m1").step_clock("24h".parse().unwrap());
        w1.stop().await;
        let leader = within(20, "the second leads", second.acquire()).await;
        assert_eq!(leader.fence().transitions, 2);
    });
}

#[test]
fn a_leader_that_is_cut_off_knows_before_the_next_one_leads() {
    simulate(async |sim: Sim| {
        let _fake = server(&sim).await;
        let ((_w1, first), (_w2, second)) = (candidate(&sim, "m1", "a"), candidate(&sim, "m2", "b"));
        let old = within(5, "the first leads", first.acquire()).await;
        sim.partition("server", "m1");
        let mut next = std::pin::pin!(second.acquire());
        tokio::select! {
            biased;
            _ = &mut next => panic!("two leaders"),
            () = old.lost() => {}
        }
        within(30, "the second leads", next).await;
    });
}

#[test]
fn started_again_it_leads_at_once_in_a_new_term_and_its_former_self_knows() {
    simulate(async |sim: Sim| {
        let _fake = server(&sim).await;
        let ((_w1, first), (_w2, again)) = (candidate(&sim, "m1", "a"), candidate(&sim, "m1", "a"));
        let old = within(5, "it leads", first.acquire()).await;
        let new = within(1, "it leads again at once", again.acquire()).await;
        assert_eq!((old.fence().transitions, new.fence().transitions), (1, 2));
        within(10, "the former self is deposed", old.lost()).await;
        // Releasing a term that is over does not take the new one's Lease away.
        old.release().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!new.is_lost());
    });
}

#[test]
fn a_leaders_writes_carry_its_fence() {
    simulate(async |sim: Sim| {
        let fake = server(&sim).await;
        let (_w, election) = candidate(&sim, "m1", "a");
        let write = async |client: Client| {
            let metadata = ObjectMeta { namespace: "n".into(), name: "made".into(), ..ObjectMeta::default() };
            Api::new(&client).create(&ConfigMap { metadata, ..ConfigMap::default() }).await.map(drop).unwrap();
        };
        within(10, "the work is done", election.lead(write)).await;
        let log = fake.log();
        let fence = |what: &str| log.iter().find(|write| write.what == what).unwrap().fence.clone();
        assert_eq!(fence("create configmaps made"), Some("kube-system/scheduler/a/1".into()));
        assert_eq!(fence("create leases scheduler"), None, "the Lease itself is taken without one");
        let lease: Lease = fake.get("kube-system", "scheduler").unwrap();
        assert_eq!(lease.spec.holder_identity.as_deref(), Some(""), "given back at the end");
    });
}

/// Whatever breaks, there are never two who both believe to lead (with clocks that run alike), and every term has a
/// number of its own.
#[test]
fn under_faults_there_is_one_leader_at_a_time() {
    for seed in 0..20 {
        Simulation::new(seed).run(async |sim: Sim| {
            let _fake = server(&sim).await;
            let leading = Arc::new(Mutex::new(Vec::<String>::new()));
            let terms = Arc::new(Mutex::new(Vec::new()));
            for identity in ["a", "b", "c"] {
                let (world, election) = candidate(&sim, identity, identity);
                let (leading, terms) = (leading.clone(), terms.clone());
                let inner = world.clone();
                world.spawn("candidate", async move {
                    loop {
                        let leadership = election.acquire().await;
                        terms.lock().unwrap().push(leadership.fence().transitions);
                        {
                            let mut leading = leading.lock().unwrap();
                            leading.push(identity.into());
                            assert_eq!(leading.len(), 1, "two leaders: {leading:?}");
                        }
                        let tired = inner.sleep(Duration::from_secs(20 + inner.random_below(60)));
                        tokio::select! {
                            biased;
                            () = leadership.lost() => {}
                            () = tired => {}
                        }
                        leading.lock().unwrap().clear();
                        leadership.release().await;
                    }
                });
            }
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                let cut = ["a", "b", "c"][sim.random_below(3) as usize];
                sim.partition("server", cut);
                tokio::time::sleep(Duration::from_secs(sim.random_below(40))).await;
                sim.heal("server", cut);
            }
            let terms = terms.lock().unwrap().clone();
            assert!(terms.len() > 3, "there were elections: {terms:?}");
            let mut sorted = terms.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(terms, sorted, "terms only grow, and none is used twice");
        });
    }
}
