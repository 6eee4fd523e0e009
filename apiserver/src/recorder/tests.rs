//! The recorder on a simulated disk: what it keeps, how it is bounded, and what becomes of it when the power fails.

use skiff_proto::skiffv1::Actor;
use skiff_world::sim::{Machine, Simulation};

use super::*;
use crate::envelope::Envelope;
use crate::store::{Event, EventKind, object_key, tombstone_key};
use prost::Message;

fn cause(reason: &str) -> Cause {
    let actor = Some(Actor { user: "somebody".into(), ..Actor::default() });
    Cause { actor, reason: reason.into(), ..Cause::default() }
}

fn value(uid: &str, text: &str, reason: &str) -> Bytes {
    let object = serde_json::json!({"metadata": {"uid": uid}, "text": text}).to_string();
    let cause = cause(reason).encode_to_vec();
    Envelope { content_type: ContentType::Json, object: object.into(), cause: cause.into() }.encode()
}

fn pod(name: &str) -> Bytes {
    object_key("", "pods", "ns", name)
}

fn put(revision: u64, name: &str, text: &str) -> Arc<Revision> {
    let kind = EventKind::Put {
        value: value(&format!("uid-{name}"), text, &format!("because {revision}")),
        create_revision: 2,
    };
    Arc::new(Revision { revision, events: vec![Event { key: pod(name), kind }] })
}

/// As the registry deletes: with a tombstone that carries the cause.
fn delete(revision: u64, name: &str) -> Arc<Revision> {
    let uid = format!("uid-{name}");
    let kind = EventKind::Delete { previous: value(&uid, "last", "an older cause") };
    let tombstone = Envelope {
        content_type: ContentType::Json,
        object: Bytes::new(),
        cause: cause("the end").encode_to_vec().into(),
    };
    let mark = EventKind::Put { value: tombstone.encode(), create_revision: revision };
    let events = vec![Event { key: pod(name), kind }, Event { key: tombstone_key(&pod(name), &uid), kind: mark }];
    Arc::new(Revision { revision, events })
}

fn lease(revision: u64) -> Arc<Revision> {
    let kind = EventKind::Put { value: value("l", "beat", ""), create_revision: 2 };
    let key = object_key("coordination.k8s.io", "leases", "kube-node-lease", "node-1");
    Arc::new(Revision { revision, events: vec![Event { key, kind }] })
}

async fn open(machine: &Machine) -> Arc<Recorder> {
    let options = RecorderOptions { segment_bytes: 4_000, total_bytes: 20_000, ..RecorderOptions::new("/rec") };
    Recorder::open(&machine.world("apiserver", None), options).await.expect("the recorder opens")
}

fn revisions(reading: &Reading) -> Vec<u64> {
    reading.changes.iter().map(|change| change.revision).collect()
}

fn text(change: &Recorded) -> String {
    let object: serde_json::Value = serde_json::from_slice(&change.object()).unwrap();
    assert_eq!(object["metadata"]["resourceVersion"], change.revision.to_string());
    object["text"].as_str().unwrap().to_owned()
}

fn reason(change: &Recorded) -> &str {
    &change.cause.as_ref().expect("a cause").reason
}

#[test]
fn every_revision_is_there_with_its_cause() {
    Simulation::new(1).run(|sim| async move {
        let recorder = open(&sim.machine("server")).await;
        for revision in [put(2, "a", "one"), put(3, "b", "other"), lease(4), put(5, "a", "two"), delete(6, "a")] {
            recorder.revision(&revision);
        }
        let all = recorder.range(Subject::All, 0, u64::MAX, 100).await.unwrap();
        assert_eq!((revisions(&all), all.notices.len()), (vec![2, 3, 5, 6], 0), "all but Leases, and nothing missing");
        let middle = recorder.range(Subject::All, 2, 5, 100).await.unwrap();
        assert_eq!(revisions(&middle), [3, 5]);
        let of_a = recorder.history(Subject::Uid("uid-a".into()), 2).await.unwrap();
        assert_eq!(revisions(&of_a), [5, 6]);
        assert_eq!((text(&of_a.changes[0]).as_str(), reason(&of_a.changes[0])), ("two", "because 5"));
        assert_eq!((text(&of_a.changes[1]).as_str(), reason(&of_a.changes[1])), ("last", "the end"));
        assert!(of_a.changes[1].deleted);
        let user =
            of_a.changes[1].cause.as_ref().and_then(|cause| cause.actor.as_ref()).map(|actor| actor.user.clone());
        assert_eq!(user.as_deref(), Some("somebody"));
    });
}

#[test]
fn an_object_is_shown_as_it_was_at_a_revision() {
    Simulation::new(1).run(|sim| async move {
        let recorder = open(&sim.machine("server")).await;
        for revision in [put(2, "a", "one"), put(3, "b", "x"), put(5, "a", "two"), delete(7, "a")] {
            recorder.revision(&revision);
        }
        for (at, wanted) in [(1, None), (2, Some("one")), (4, Some("one")), (5, Some("two")), (6, Some("two"))] {
            let found = recorder.get(Subject::Key(pod("a")), at).await.unwrap();
            assert_eq!(found.changes.first().map(text).as_deref(), wanted, "at {at}");
        }
        assert!(recorder.get(Subject::Key(pod("a")), 8).await.unwrap().changes[0].deleted);
        assert_eq!(recorder.get(Subject::Key(pod("never")), 8).await.unwrap(), Reading::default());
    });
}

#[test]
fn segments_are_bounded_and_the_oldest_goes() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        for revision in 2..600 {
            recorder.revision(&put(revision, "a", "some text to fill the file"));
        }
        let all = revisions(&recorder.range(Subject::All, 0, u64::MAX, 10_000).await.unwrap());
        let first = all[0];
        assert!(first > 2 && all == (first..600).collect::<Vec<_>>(), "what is kept is the end, without holes");
        for revision in 600..1_200 {
            recorder.revision(&put(revision, "a", "some text to fill the file"));
            recorder.flushed().await.unwrap();
        }
        let size: u64 = machine.disk().list("/rec").unwrap().iter().map(|entry| entry.len).sum();
        assert!(size < 20_000 + 4_000, "{size} bytes are kept");
        let few = recorder.range(Subject::All, 1_000, u64::MAX, 5).await.unwrap();
        assert_eq!(revisions(&few).len(), 5);
    });
}

#[test]
fn old_segments_are_not_read_for_what_came_later() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        for revision in 2..100 {
            recorder.revision(&put(revision, if revision < 50 { "a" } else { "b" }, "some text to fill the file"));
        }
        let whole = revisions(&recorder.range(Subject::All, 0, u64::MAX, 1_000).await.unwrap());
        let segments = machine.disk().list("/rec").unwrap();
        assert!(segments.len() > 2, "one segment proves nothing");
        // Whoever opened this one would say that it is damaged.
        let oldest = std::path::Path::new("/rec").join(segments.iter().map(|entry| &entry.name).min().unwrap());
        let mut file = machine.disk().read(&oldest).unwrap();
        file[segment::HEADER + 40] ^= 0xff;
        machine.disk().write_atomic(&oldest, &file, 0o600).unwrap();
        let later = recorder.range(Subject::All, 90, u64::MAX, 1_000).await.unwrap();
        assert_eq!((revisions(&later), later.notices), ((91..100).collect(), Vec::new()));
        let last = recorder.history(Subject::Key(pod("b")), 2).await.unwrap();
        assert_eq!((revisions(&last), last.notices), (vec![98, 99], Vec::new()));
        let all = recorder.range(Subject::All, 0, u64::MAX, 1_000).await.unwrap();
        assert_eq!((all.changes.len(), all.notices.len()), (whole.len() - 1, 1), "it is read where it is needed");
    });
}

#[test]
fn a_question_about_one_object_reads_its_records_alone() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        for revision in 2..100 {
            recorder.revision(&put(revision, if revision == 50 { "c" } else { "a" }, "some text to fill the file"));
        }
        let of_a = recorder.history(Subject::Key(pod("a")), 1_000).await.unwrap().changes.len();
        // Whoever reads this record says that it is damaged.
        let oldest = machine.disk().list("/rec").unwrap().into_iter().map(|entry| entry.name).min().unwrap();
        let oldest = std::path::Path::new("/rec").join(oldest);
        let mut file = machine.disk().read(&oldest).unwrap();
        file[segment::HEADER + 40] ^= 0xff;
        machine.disk().write_atomic(&oldest, &file, 0o600).unwrap();
        for subject in [Subject::Key(pod("c")), Subject::Uid("uid-c".into())] {
            let found = recorder.history(subject, 10).await.unwrap();
            assert_eq!((revisions(&found), found.notices), (vec![50], Vec::new()));
        }
        let found = recorder.writes([(50, "uid-c".into()), (51, "uid-c".into())].into()).await.unwrap();
        assert_eq!((revisions(&found), found.notices), (vec![50], Vec::new()));
        let damaged = recorder.history(Subject::Key(pod("a")), 1_000).await.unwrap();
        assert_eq!((damaged.changes.len(), damaged.notices.len()), (of_a - 1, 1), "its own damage is not passed over");

        machine.kill().await;
        let recorder = open(&machine).await;
        recorder.revision(&put(100, "c", "more"));
        for _ in 0..2 {
            let found = recorder.history(Subject::Key(pod("c")), 10).await.unwrap();
            assert_eq!((revisions(&found), found.notices.len()), (vec![50, 100], 1), "what nobody has indexed is read");
        }
    });
}

#[test]
fn a_revision_that_is_told_twice_is_recorded_once() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        recorder.revision(&put(2, "a", "one"));
        recorder.revision(&put(3, "a", "two"));
        recorder.flushed().await.unwrap();
        machine.kill().await;
        let recorder = open(&machine).await;
        assert_eq!(recorder.resume_from(), Some(3));
        for revision in [put(2, "a", "one"), put(3, "a", "two"), put(4, "a", "three")] {
            recorder.revision(&revision);
        }
        assert_eq!(revisions(&recorder.range(Subject::All, 0, u64::MAX, 100).await.unwrap()), [2, 3, 4]);
        assert_eq!(machine.disk().list("/rec").unwrap().len(), 1, "it goes on in the same file");
    });
}

/// The feed tells everything again after what survived, so a crash leaves no hole.
#[test]
fn a_crash_loses_only_what_can_be_told_again() {
    for seed in 0..40 {
        Simulation::new(seed).run(|sim| async move {
            let machine = sim.machine("server");
            let mut told = 1;
            for _ in 0..4 {
                let recorder = open(&machine).await;
                let from = recorder.resume_from().unwrap_or(1);
                assert!(from <= told, "it has what it was never told");
                told = from;
                for _ in 0..sim.random_below(60) {
                    told += 1;
                    recorder.revision(&put(told, "a", "text"));
                }
                if sim.random_below(2) == 0 {
                    recorder.flushed().await.unwrap();
                }
                machine.crash().await;
            }
            let recorder = open(&machine).await;
            let from = recorder.resume_from().unwrap_or(1);
            (from + 1..=told).for_each(|revision| recorder.revision(&put(revision, "a", "text")));
            let all = recorder.range(Subject::All, 0, u64::MAX, 10_000).await.unwrap();
            assert_eq!(revisions(&all), (2..=told).collect::<Vec<_>>(), "{:?}", all.notices);
        });
    }
}

#[test]
fn damage_is_passed_over_with_a_notice() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        (2..10).for_each(|revision| recorder.revision(&put(revision, "a", "text")));
        recorder.flushed().await.unwrap();
        machine.kill().await;
        let path = machine.disk().list("/rec").unwrap().remove(0).name;
        let path = std::path::Path::new("/rec").join(path);
        let mut file = machine.disk().read(&path).unwrap();
        let at = segment::HEADER + 40;
        file[at] ^= 0xff;
        machine.disk().write_atomic(&path, &file, 0o600).unwrap();
        let recorder = open(&machine).await;
        assert_eq!(recorder.resume_from(), None, "what follows the damage is to be told again, if it can be");
        (5..10).for_each(|revision| recorder.revision(&put(revision, "a", "text")));
        recorder.revision(&put(10, "a", "text"));
        let all = recorder.range(Subject::All, 0, u64::MAX, 100).await.unwrap();
        assert_eq!(revisions(&all), (3..=10).collect::<Vec<_>>());
        assert!(all.notices[0].text.contains("was changed") && all.notices[0].file == path, "{:?}", all.notices);
    });
}

#[test]
fn what_could_not_be_recorded_is_said() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        recorder.revision(&put(2, "a", "text"));
        recorder.gap(2, 7);
        recorder.revision(&put(8, "a", "text"));
        recorder.flushed().await.unwrap();
        machine.fill_disk(true);
        recorder.revision(&put(9, "a", "text"));
        recorder.revision(&put(10, "a", "text"));
        recorder.flushed().await.unwrap();
        machine.fill_disk(false);
        recorder.revision(&put(11, "a", "text"));
        let all = recorder.range(Subject::All, 0, u64::MAX, 100).await.unwrap();
        assert_eq!(revisions(&all), [2, 8, 11]);
        let notices: Vec<&str> = all.notices.iter().map(|notice| notice.text.as_str()).collect();
        assert_eq!(notices, ["revisions 3 to 7 were not recorded", "revisions 9 to 10 were not recorded"]);
        let later = recorder.range(Subject::All, 8, u64::MAX, 100).await.unwrap();
        assert_eq!(later.notices.len(), 1, "only what concerns the range is said");
    });
}

#[test]
fn a_queue_that_overflows_leaves_a_gap_and_not_silence() {
    Simulation::new(1).run(|sim| async move {
        let recorder = open(&sim.machine("server")).await;
        let total = QUEUE as u64 + 100;
        // Nobody else runs in between, so the queue fills up.
        (2..2 + total).for_each(|revision| recorder.revision(&lease(revision)));
        recorder.flushed().await.unwrap();
        recorder.revision(&put(2 + total, "a", "text"));
        let all = recorder.range(Subject::All, 0, u64::MAX, 100).await.unwrap();
        assert_eq!(revisions(&all), [2 + total]);
        let (first, last) = (2 + QUEUE as u64, 1 + total);
        assert_eq!(all.notices[0].text, format!("revisions {first} to {last} were not recorded"));
    });
}

/// A cluster at rest writes only Leases; a restart must not think that it missed something.
#[test]
fn marks_keep_up_with_what_is_not_recorded() {
    Simulation::new(1).run(|sim| async move {
        let machine = sim.machine("server");
        let recorder = open(&machine).await;
        (2..2_002).for_each(|revision| recorder.revision(&lease(revision)));
        recorder.flushed().await.unwrap();
        machine.kill().await;
        assert!(open(&machine).await.resume_from() >= Some(1_500));
    });
}
