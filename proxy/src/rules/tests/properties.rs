//! What holds for any Services and any change of them.

use proptest::prelude::*;

use super::*;

/// A small world in which Services collide, share addresses and have any number of endpoints.
fn any_service() -> impl Strategy<Value = (u8, Option<ServiceView>)> {
    let eps = proptest::collection::btree_set((0u8..2, 1u8..5), 0..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0u8..12, 0u8..5, 79u16..82, proptest::option::of(30_000u16..30_040), eps, flags, 0u8..5).prop_map(
        |(id, block, port, node_port, eps, (udp, affinity, internal, external), gone)| {
            let ip = [10, 96 + block / 4, block * 16, id.wrapping_mul(37)];
            let eps: Vec<_> = eps.into_iter().collect();
            let mut view = service(&format!("s{id}"), ip, port, node_port, &eps);
            view.affinity_seconds = affinity.then_some(60);
            view.internal_local = internal;
            view.external_local = external;
            if udp {
                view.ports[0].port.protocol = Protocol::Udp;
            }
            (id, (gone > 0).then_some(view))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Kept current step by step, the rule set is what it would be if built anew; and small restores that name
    /// only changed chains lead the kernel there, through states that all make sense.
    #[test]
    fn step_by_step_is_the_same_as_anew(
        steps in proptest::collection::vec(proptest::collection::vec(any_service(), 1..4), 1..8),
        limit in 1usize..40, together: bool,
    ) {
        let mut model = Model::new(facts());
        let mut tables = Tables::default();
        sync(&mut tables, &model);
        model.differing([]);
        let mut last: BTreeMap<u8, ServiceView> = BTreeMap::new();
        for step in steps {
            for (id, view) in step {
                match &view {
                    Some(view) => last.insert(id, view.clone()),
                    None => last.remove(&id),
                };
                model.set(&ServiceName::new("default", format!("s{id}")), view);
            }
            model.refresh();
            let difference = of_changed(model.rule_set(), model.changed().keys());
            for batch in batches(model.rule_set(), &difference, Sizes { limit, together }) {
                if let Err(error) = tables.restore(&batch.text) {
                    panic!("{error}\n{}", batch.text);
                }
            }
            model.differing([]);
            let views: Vec<_> = last.values().cloned().collect();
            let anew = model_of(&views);
            prop_assert_eq!(model.rule_set(), anew.rule_set());
            prop_assert_eq!(differing(&tables, &model), Difference::default());
        }
    }

    /// Every Service and port reaches exactly its endpoints, each with the same share, also while another change
    /// is half applied.
    #[test]
    fn packets_reach_their_endpoints_at_every_step_of_a_change(
        before in proptest::collection::vec(any_service(), 0..12),
        change in any_service(),
    ) {
        let services: BTreeMap<u8, ServiceView> =
            before.into_iter().filter_map(|(id, view)| Some((id, view?))).collect();
        let mut views: Vec<_> = services.into_values().collect();
        views.retain(|view| view.name.name != format!("s{}", change.0));
        // No two of them on one address and port, as the API server has it.
        let mut seen = std::collections::BTreeSet::new();
        let mut first = |v: &ServiceView| seen.insert((v.cluster_ip, v.ports[0].port.protocol, v.ports[0].port.port));
        let changed = change.1.filter(&mut first);
        views.retain(first);
        let mut model = model_of(&views);
        let mut tables = Tables::default();
        sync(&mut tables, &model);
        model.differing([]);
        model.set(&ServiceName::new("default", format!("s{}", change.0)), changed);
        model.refresh();
        let difference = of_changed(model.rule_set(), model.changed().keys());
        let one_by_one = Sizes { limit: 1, together: false };
        let mut restores = batches(model.rule_set(), &difference, one_by_one).into_iter();
        loop {
            let node = Node::new(&tables, &[NODE]).expect("our own rules");
            for view in &views {
                let port = &view.ports[0];
                let mut way = packet(From::Link, FAR_POD, view.cluster_ip.expect("it has one"), port.port.port);
                way.protocol = port.port.protocol;
                let wanted: &[Backend] = if view.internal_local { &port.local } else { &port.cluster };
                let got = shares(&node.walk(&way));
                if wanted.is_empty() {
                    let verdict = if port.cluster.is_empty() { "Rejected" } else { "Dropped" };
                    prop_assert_eq!(got, BTreeMap::from([(verdict.to_owned(), 100)]));
                } else {
                    let share = (100.0 / wanted.len() as f64).round() as u32;
                    let wanted = wanted.iter().map(|b| (b.to_string(), share)).collect();
                    prop_assert_eq!(got, wanted, "{}", view.name);
                }
            }
            match restores.next() {
                Some(batch) => prop_assert_eq!(tables.restore(&batch.text), Ok(())),
                None => break,
            }
        }
    }

    /// Whatever somebody did to the tables, one sync puts them right.
    #[test]
    fn from_any_state_to_the_wanted_one(
        before in proptest::collection::vec(any_service(), 0..8),
        after in proptest::collection::vec(any_service(), 0..8),
    ) {
        let views = |list: Vec<(u8, Option<ServiceView>)>| -> Vec<ServiceView> {
            let map: BTreeMap<u8, _> = list.into_iter().filter_map(|(id, view)| Some((id, view?))).collect();
            map.into_values().collect()
        };
        let mut tables = Tables::default();
        sync(&mut tables, &model_of(&views(before)));
        let model = model_of(&views(after));
        sync(&mut tables, &model);
        prop_assert_eq!(differing(&tables, &model), Difference::default());
    }
}
