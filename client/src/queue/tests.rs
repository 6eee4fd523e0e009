//! The queue's promises: no key is lost, none is in two hands, and one that comes again is worked on again.

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

fn queue() -> WorkQueue<u8> {
    WorkQueue::new(&World::real("queue-test"), "test")
}

fn why(text: &str) -> Trigger {
    Trigger::Timer(text.into())
}

fn take(queue: &WorkQueue<u8>) -> Option<Work<u8>> {
    queue.next().now_or_never().flatten()
}

#[tokio::test(start_paused = true)]
async fn a_key_added_twice_comes_once_with_both_triggers() {
    let queue = queue();
    queue.add(1, why("a"));
    queue.add(1, why("b"));
    assert_eq!(queue.depth(), 1);
    let work = take(&queue).unwrap();
    assert_eq!(work.triggers().to_string(), "timer: a, timer: b");
    work.done();
    assert!(take(&queue).is_none() && queue.is_idle());
}

#[tokio::test(start_paused = true)]
async fn added_while_in_flight_it_comes_again_afterwards_only() {
    let queue = queue();
    queue.add(1, why("first"));
    let work = take(&queue).unwrap();
    queue.add(1, why("meanwhile"));
    assert!(take(&queue).is_none(), "one key is never in two hands");
    work.done();
    let again = take(&queue).unwrap();
    assert_eq!(again.triggers().to_string(), "timer: meanwhile");
}

#[tokio::test(start_paused = true)]
async fn keys_come_in_order_and_one_that_comes_again_goes_to_the_back() {
    let queue = queue();
    (1..=3).for_each(|key| queue.add(key, why("x")));
    let first = take(&queue).unwrap();
    queue.add(1, why("again"));
    first.done();
    let order: Vec<u8> = std::iter::from_fn(|| take(&queue))
        .map(|work| {
            let key = *work.key();
            work.done();
            key
        })
        .collect();
    assert_eq!(order, [2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_timer_brings_the_key_when_it_is_due_and_the_earliest_counts() {
    let queue = queue();
    let world = World::real("queue-test");
    let start = world.now();
    queue.add_after(1, why("late"), Duration::from_secs(60));
    queue.add_after(1, why("early"), Duration::from_secs(10));
    queue.add_after(1, why("later"), Duration::from_secs(90));
    let work = queue.next().await.unwrap();
    assert_eq!(world.now() - start, Duration::from_secs(10));
    assert_eq!(work.triggers().to_string(), "timer: late, timer: early, timer: later");
    work.done();
    assert!(queue.next().now_or_never().is_none());
    assert!(queue.snapshot().timers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_timer_set_while_a_worker_waits_for_a_later_one_still_rings() {
    let queue = queue();
    let world = World::real("queue-test");
    let start = world.now();
    queue.add_after(1, why("late"), Duration::from_secs(60));
    let mut waiting = std::pin::pin!(queue.next());
    assert!(futures::poll!(&mut waiting).is_pending());
    queue.add_after(2, why("soon"), Duration::from_secs(1));
    assert_eq!(*waiting.await.unwrap().key(), 2);
    assert_eq!(world.now() - start, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_second_worker_takes_over_the_timers() {
    // One worker is told of the earlier timer and then is busy: the other must not sleep through it.
    let queue = queue();
    let world = World::real("queue-test");
    let start = world.now();
    queue.add_after(1, why("late"), Duration::from_secs(60));
    let (mut a, mut b) = (Box::pin(queue.next()), Box::pin(queue.next()));
    assert!(futures::poll!(&mut a).is_pending() && futures::poll!(&mut b).is_pending());
    queue.add_after(2, why("soon"), Duration::from_secs(5));
    assert!(futures::poll!(&mut a).is_pending() && futures::poll!(&mut b).is_pending());
    queue.add(3, why("now"));
    let (first, other) = match futures::future::select(a, b).await {
        futures::future::Either::Left((work, other)) | futures::future::Either::Right((work, other)) => {
            (work.unwrap(), other)
        }
    };
    assert_eq!(*first.key(), 3);
    assert_eq!(*other.await.unwrap().key(), 2);
    assert_eq!(world.now() - start, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_keep_their_triggers_and_end_with_success() {
    let queue = queue();
    queue.add(1, why("cause"));
    let world = World::real("queue-test");
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = world.now();
        let next = tokio::time::timeout(Duration::from_secs(3600), queue.next()).await;
        let work = next.expect("however often it has failed, it comes back").unwrap();
        assert_eq!(work.triggers().to_string(), "timer: cause");
        waits.push((world.now() - before).as_millis());
        work.retry(Duration::ZERO, KEY_BACKOFF.max);
    }
    assert_eq!(waits, [0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120]);
    assert_eq!(queue.failures(&1), 12);
    queue.next().await.unwrap().done();
    assert_eq!(queue.failures(&1), 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_stays_within_its_bounds() {
    for (at_least, at_most, waits) in [(0, 7, [5, 7, 7]), (8, 100, [8, 10, 20]), (30, 15, [30, 30, 30])] {
        let (queue, millis) = (queue(), Duration::from_millis);
        queue.add(1, why("x"));
        for wait in waits {
            let work = queue.next().await.unwrap();
            assert_eq!(work.retry(millis(at_least), millis(at_most)), millis(wait), "{at_least}..{at_most}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_is_back_in_the_queue() {
    let queue = queue();
    queue.add(1, why("x"));
    drop(take(&queue).unwrap());
    assert_eq!(take(&queue).unwrap().triggers().to_string(), "timer: x");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_everybody() {
    let queue = queue();
    let (mut a, mut b) = (Box::pin(queue.next()), Box::pin(queue.next()));
    assert!(futures::poll!(&mut a).is_pending() && futures::poll!(&mut b).is_pending());
    queue.close();
    assert!(a.await.is_none() && b.await.is_none());
    queue.add(1, why("x"));
    assert!(queue.next().await.is_none());
}

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Deed {
    Add(u8),
    AddAfter(u8, u64),
    Take,
    Done(usize),
    Retry(usize),
    Drop(usize),
    Pass(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let key = 0u8..5;
    let deed = prop_oneof![
        4 => key.clone().prop_map(Deed::Add),
        2 => (key, 1u64..50).prop_map(|(key, millis)| Deed::AddAfter(key, millis)),
        4 => Just(Deed::Take),
        3 => any::<usize>().prop_map(Deed::Done),
        1 => any::<usize>().prop_map(Deed::Retry),
        1 => any::<usize>().prop_map(Deed::Drop),
        2 => (1u64..60).prop_map(Deed::Pass),
    ];
    proptest::collection::vec(deed, 1..120)
}

proptest! {
    /// Against a model that knows only the promises: which keys somebody still has to look at.
    #[test]
    fn no_key_is_lost_and_none_is_in_two_hands(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let queue = queue();
            let mut held: Vec<Work<u8>> = Vec::new();
            // Keys for which somebody asked since they were last taken.
            let mut owed = std::collections::BTreeSet::new();
            for deed in deeds {
                match deed {
                    Deed::Add(key) => {
                        queue.add(key, why("add"));
                        owed.insert(key);
                    }
                    Deed::AddAfter(key, millis) => {
                        queue.add_after(key, why("timer"), Duration::from_millis(millis));
                        owed.insert(key);
                    }
                    Deed::Take => {
                        if let Some(work) = take(&queue) {
                            prop_assert!(held.iter().all(|other| other.key() != work.key()), "in two hands");
                            owed.remove(work.key());
                            held.push(work);
                        }
                    }
                    Deed::Done(at) if !held.is_empty() => held.swap_remove(at % held.len()).done(),
                    Deed::Retry(at) if !held.is_empty() => {
                        let work = held.swap_remove(at % held.len());
                        owed.insert(*work.key());
                        work.retry(Duration::ZERO, Duration::from_secs(1));
                    }
                    Deed::Drop(at) if !held.is_empty() => {
                        let work = held.swap_remove(at % held.len());
                        owed.insert(*work.key());
                        drop(work);
                    }
                    Deed::Done(_) | Deed::Retry(_) | Deed::Drop(_) => {}
                    Deed::Pass(millis) => tokio::time::advance(Duration::from_millis(millis)).await,
                }
            }
            // In the end everything owed comes out, and nothing stays behind.
            held.into_iter().for_each(Work::done);
            tokio::time::advance(Duration::from_secs(10)).await;
            while let Some(work) = take(&queue) {
                owed.remove(work.key());
                work.done();
            }
            prop_assert!(owed.is_empty(), "lost: {:?}", owed);
            let left = queue.snapshot();
            prop_assert!(left.ready.is_empty() && left.in_flight.is_empty() && left.timers.is_empty());
            Ok(())
        })?;
    }
}
