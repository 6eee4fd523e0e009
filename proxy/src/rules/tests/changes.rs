//! What a change touches, and how tables are brought from any state to the wanted one.

use super::*;

#[test]
fn conversations_with_a_lost_endpoint_are_forgotten() {
    let mut model = Model::new(facts());
    let udp = |eps: &[(u8, u8)]| {
        let mut view = service("dns", IP, 53, Some(30053), eps);
        view.ports[0].port.protocol = Protocol::Udp;
        view
    };
    let mut step = |view: Option<ServiceView>| -> Vec<String> {
        model.set(&ServiceName::new("default", "dns"), view);
        let stale: Vec<_> = model.stale_flows().iter().cloned().collect();
        model.forgotten(&stale);
        assert!(model.stale_flows().is_empty());
        stale.iter().map(ToString::to_string).collect()
    };
    assert!(step(Some(udp(&[]))).is_empty());
    assert_eq!(step(Some(udp(&[(0, 2), (1, 2)]))), ["udp NodePort 30053", "udp 10.96.0.10:53"]);
    let gone = ["udp NodePort 30053 -> 10.244.0.2", "udp 10.96.0.10:53 -> 10.244.0.2"];
    assert_eq!(step(Some(udp(&[(1, 2)]))), gone);
    let gone = ["udp NodePort 30053 -> 10.244.1.2", "udp 10.96.0.10:53 -> 10.244.1.2"];
    assert_eq!(step(None), gone);
}

#[test]
fn one_endpoint_more_rewrites_one_chain() {
    let views: Vec<_> = (1..200u8).map(|i| service(&format!("s{i}"), [10, 96, i, 1], 80, None, &[(1, i)])).collect();
    let mut model = model_of(&views);
    model.differing([]);
    model.set(&views[7].name, Some(service("s8", [10, 96, 8, 1], 80, None, &[(1, 8), (1, 250)])));
    model.refresh();
    assert_eq!(model.changed().len(), 1, "{:?}", model.changed());
    let more = service("new", [10, 96, 77, 9], 80, None, &[(1, 9)]);
    model.differing([]);
    model.set(&more.name.clone(), Some(more));
    model.refresh();
    assert!(model.changed().len() <= 6, "{:?}", model.changed());
}

#[test]
fn tampering_is_found_and_put_right() {
    type Tamper = fn(&mut Tables);
    let tampers: [(&str, Tamper); 7] = [
        ("everything is flushed", |t| *t = Tables::default()),
        ("a jump is lost", |t| t.nat.get_mut("PREROUTING").expect("there").clear()),
        ("a jump is doubled", |t| {
            let chain = t.nat.get_mut("OUTPUT").expect("there");
            chain.extend(chain.clone());
        }),
        ("a rule is lost", |t| drop(dispatch(t).pop())),
        ("a rule is put in front", |t| dispatch(t).insert(0, "-j ACCEPT".into())),
        ("rules change places", |t| dispatch(t).reverse()),
        ("a chain is left from before", |t| {
            t.nat.insert("SKZZZZZ-OTHER".into(), Vec::new());
            let prefix = Names::for_cluster("skiff").prefix().to_owned();
            t.nat.insert(format!("{prefix}-SVC-OLD"), vec!["-j RETURN".into()]);
        }),
    ];
    fn dispatch(tables: &mut Tables) -> &mut Vec<String> {
        let name = Names::for_cluster("skiff").fixed("SERVICES");
        tables.nat.get_mut(name.as_str()).expect("the chain is there")
    }
    let model = model_of(&[service("web", IP, 80, Some(30080), &[(0, 2)])]);
    let mut good = Tables::default();
    good.nat.get_mut("PREROUTING").expect("there").push("-i eth9 -j DOCKER".into()); // somebody else's
    sync(&mut good, &model);
    for (what, tamper) in tampers {
        let mut tables = good.clone();
        tamper(&mut tables);
        assert_ne!(tables, good, "{what}");
        sync(&mut tables, &model);
        assert_eq!(differing(&tables, &model), Difference::default(), "{what}");
        let ends = Node::new(&tables, &[NODE]).expect("rules").walk(&packet(From::Link, FAR_POD, IP, 80));
        assert_eq!(shares(&ends), BTreeMap::from([("10.244.0.2:8080".to_owned(), 100)]), "{what}");
    }
}

#[test]
fn a_restart_changes_nothing() {
    let views = [service("web", IP, 80, Some(30080), &[(0, 2)]), service("none", [10, 96, 3, 4], 80, None, &[])];
    let mut tables = Tables::default();
    assert!(sync(&mut tables, &model_of(&views)) > 0);
    assert_eq!(sync(&mut tables, &model_of(&views)), 0);
}

#[test]
fn a_chain_that_others_lead_to_holds_up_only_its_own_removal() {
    let mut model = model_of(&[service("web", IP, 80, None, &[(0, 2)])]);
    let mut tables = Tables::default();
    sync(&mut tables, &model);
    let mut chains = model.rule_set().chains.keys().map(|(_, name)| name.to_string());
    let chain = chains.find(|name| name.contains("SVC")).expect("one");
    drop(chains);
    tables.nat.get_mut("INPUT").expect("there").push(format!("-j {chain}"));
    model.set(&ServiceName::new("default", "web"), None);
    model.refresh();
    let difference = of_changed(model.rule_set(), model.changed().keys());
    let apart = Sizes { together: false, ..SIZES };
    let results: Vec<bool> =
        batches(model.rule_set(), &difference, apart).iter().map(|batch| tables.restore(&batch.text).is_ok()).collect();
    assert_eq!(results, [true, false]);
}
