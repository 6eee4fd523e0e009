//! Who may have which names, and what a definition's status says of it. Pure.

use skiff_proto::Time;
use skiff_proto::apiextensionsv1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition as Condition, CustomResourceDefinitionNames as Names,
    CustomResourceDefinitionStatus as Status,
};

/// The names that others of the group have.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Plurals, singulars and short names.
    pub resources: Vec<String>,
    /// Kinds and kinds of lists.
    pub kinds: Vec<String>,
}

impl Taken {
    /// Adds the names of one of them.
    pub fn add(&mut self, names: &Names) {
        let words = [&names.plural, &names.singular].into_iter().chain(&names.short_names);
        self.resources.extend(words.filter(|word| !word.is_empty()).cloned());
        self.kinds.extend([&names.kind, &names.list_kind].into_iter().filter(|kind| !kind.is_empty()).cloned());
    }
}

/// The state of one condition.
pub fn condition(status: &Status, kind: &str) -> Option<bool> {
    status.conditions.iter().find(|c| c.r#type == kind).map(|c| c.status == "True")
}

/// The status that a definition should have: which names it gets, and whether it is served.
pub fn decide(definition: &CustomResourceDefinition, taken: &Taken, now: Time) -> Status {
    let mut status = definition.status.clone();
    let wanted = &definition.spec.names;
    let had = status.accepted_names.clone();
    let (accepted, refused) = accept(wanted, &had, taken);
    status.accepted_names = accepted;
    let (names, reason, message) = match refused {
        None => (true, "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => (false, reason, message),
    };
    set(&mut status, "NamesAccepted", names, reason, &message, now);
    // Once served, a kind stays so, whatever names it asks for afterwards.
    if condition(&status, "Established") != Some(true) {
        match names {
            true => {
                let message = "the initial names have been accepted";
                set(&mut status, "Established", true, "InitialNamesAccepted", message, now);
            }
            false => set(&mut status, "Established", false, "NotAccepted", "not all names are accepted", now),
        }
    }
    status
}

/// Each name that is free, or had before; and what the first conflict is.
fn accept(wanted: &Names, had: &Names, taken: &Taken) -> (Names, Option<(&'static str, String)>) {
    let mut accepted = had.clone();
    let mut refused = None;
    let in_use = |name: &str| Some(format!("{name:?} is already in use"));
    let mut take = |name: &String, among: &[String], had: &mut String, reason| {
        if name == had || !among.contains(name) {
            had.clone_from(name);
        } else {
            refused = refused.take().or(in_use(name).map(|message| (reason, message)));
        }
    };
    take(&wanted.plural, &taken.resources, &mut accepted.plural, "PluralConflict");
    take(&wanted.singular, &taken.resources, &mut accepted.singular, "SingularConflict");
    take(&wanted.kind, &taken.kinds, &mut accepted.kind, "KindConflict");
    take(&wanted.list_kind, &taken.kinds, &mut accepted.list_kind, "ListKindConflict");
    let conflicts: Vec<&String> = wanted
        .short_names
        .iter()
        .filter(|name| !had.short_names.contains(name) && taken.resources.contains(name))
        .collect();
    match conflicts.as_slice() {
        [] => accepted.short_names.clone_from(&wanted.short_names),
        [first, ..] => {
            refused = refused.or(in_use(first).map(|message| ("ShortNamesConflict", message)));
        }
    }
    accepted.categories.clone_from(&wanted.categories);
    (accepted, refused)
}

/// Sets a condition; its time is when its status last changed.
pub fn set(status: &mut Status, kind: &str, holds: bool, reason: &str, message: &str, now: Time) {
    let word = if holds { "True" } else { "False" };
    let fresh = Condition {
        r#type: kind.into(),
        status: word.into(),
        last_transition_time: Some(now),
        reason: reason.into(),
        message: message.into(),
    };
    match status.conditions.iter_mut().find(|c| c.r#type == kind) {
        Some(known) => {
            let since = if known.status == word { known.last_transition_time } else { Some(now) };
            *known = Condition { last_transition_time: since, ..fresh };
        }
        None => status.conditions.push(fresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> CustomResourceDefinition {
        let mut definition = CustomResourceDefinition::default();
        definition.spec.names = Names {
            plural: plural.into(),
            singular: kind.to_lowercase(),
            kind: kind.into(),
            list_kind: format!("{kind}List"),
            short_names: short.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        };
        definition
    }

    #[test]
    fn names_go_to_who_has_them_first() {
        let now = Time::from_unix(1);
        let mut first = definition("widgets", "Widget", &["w"]);
        first.status = decide(&first, &Taken::default(), now);
        assert_eq!(
            (condition(&first.status, "NamesAccepted"), condition(&first.status, "Established")),
            (Some(true), Some(true))
        );
        let mut taken = Taken::default();
        taken.add(&first.status.accepted_names);
        for (other, reason, message) in [
            (definition("widgets", "Other", &[]), "PluralConflict", "\"widgets\" is already in use"),
            (definition("others", "Widget", &[]), "SingularConflict", "\"widget\" is already in use"),
            (definition("others", "Other", &["o", "w"]), "ShortNamesConflict", "\"w\" is already in use"),
        ] {
            let status = decide(&other, &taken, now);
            let names = status.conditions.iter().find(|c| c.r#type == "NamesAccepted").expect("told");
            assert_eq!(
                (names.status.as_str(), names.reason.as_str(), names.message.as_str()),
                ("False", reason, message)
            );
            assert_eq!(condition(&status, "Established"), Some(false));
        }
        // What it has, it keeps, and what changes nothing has no new time.
        let later = decide(&first, &taken, Time::from_unix(9));
        assert_eq!(later, first.status);
    }

    #[test]
    fn what_is_served_stays_served_under_its_old_names() {
        let now = Time::from_unix(1);
        let mut served = definition("widgets", "Widget", &["w"]);
        served.status = decide(&served, &Taken::default(), now);
        served.spec.names.short_names = vec!["x".into()];
        let taken = Taken { resources: vec!["x".into()], kinds: Vec::new() };
        let status = decide(&served, &taken, now);
        assert_eq!((condition(&status, "NamesAccepted"), condition(&status, "Established")), (Some(false), Some(true)));
        assert_eq!(status.accepted_names.short_names, ["w"]);
    }
}
