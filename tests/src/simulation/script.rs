//! What the simulated user wants, in order: a script that follows from the seed alone, so that the same user acts in
//! a run with faults and in one without, and both must end in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::draws::Draws;
use super::mix::{Mix, Verb};

/// One thing the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A new Deployment.
    Create(Wish),
    /// Another number of replicas.
    Scale {
        /// Of this Deployment.
        name: String,
        /// This many.
        replicas: i32,
    },
    /// Another image, so a rollout.
    Roll {
        /// Of this Deployment.
        name: String,
        /// The image.
        image: String,
    },
    /// The Deployment goes, and all it owns.
    Delete(String),
    /// A Service in front of a Deployment's Pods.
    Expose(String),
    /// That Service goes.
    Unexpose(String),
    /// A Pod of this name that no node can take.
    Ask(String),
    /// That Pod goes.
    Withdraw(String),
}

/// A Deployment as the user wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its name, and the `app` label of its Pods.
    pub name: String,
    /// How many Pods.
    pub replicas: i32,
    /// What runs in them.
    pub image: String,
    /// How many Pods more than that a rollout may make.
    pub surge: i32,
    /// How many Pods less than that a rollout may leave.
    pub unavailable: i32,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Create(w) => write!(f, "create {} with {} of {}", w.name, w.replicas, w.image),
            Act::Scale { name, replicas } => write!(f, "scale {name} to {replicas}"),
            Act::Roll { name, image } => write!(f, "roll {name} to {image}"),
            Act::Delete(name) => write!(f, "delete {name}"),
            Act::Expose(name) => write!(f, "expose {name}"),
            Act::Unexpose(name) => write!(f, "unexpose {name}"),
            Act::Ask(name) => write!(f, "ask for the Pod {name}, which is too large for any node"),
            Act::Withdraw(name) => write!(f, "withdraw the Pod {name}"),
        }
    }
}

/// Acts, each with the pause before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// In order.
    pub acts: Vec<(Duration, Act)>,
}

/// What must be there once everything has been done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Deployments by name.
    pub deployments: BTreeMap<String, Wish>,
    /// Services by name.
    pub services: BTreeSet<String>,
    /// Pods that no node can take, by name.
    pub asked: BTreeSet<String>,
}

impl Wanted {
    fn take(&mut self, act: &Act) {
        match act {
            Act::Create(wish) => {
                self.deployments.insert(wish.name.clone(), wish.clone());
            }
            Act::Scale { name, replicas } => {
                if let Some(wish) = self.deployments.get_mut(name) {
                    wish.replicas = *replicas;
                }
            }
            Act::Roll { name, image } => {
                if let Some(wish) = self.deployments.get_mut(name) {
                    wish.image.clone_from(image);
                }
            }
            Act::Delete(name) => {
                self.deployments.remove(name);
            }
            Act::Expose(name) => {
                self.services.insert(name.clone());
            }
            Act::Unexpose(name) => {
                self.services.remove(name);
            }
            Act::Ask(name) => {
                self.asked.insert(name.clone());
            }
            Act::Withdraw(name) => {
                self.asked.remove(name);
            }
        }
    }

    /// Whether an act is possible now.
    pub fn allows(&self, act: &Act) -> bool {
        let there = |name: &String| self.deployments.contains_key(name);
        match act {
            Act::Create(wish) => !there(&wish.name) && wish.surge + wish.unavailable > 0,
            Act::Scale { name, .. } | Act::Roll { name, .. } | Act::Delete(name) => there(name),
            Act::Expose(name) => !self.services.contains(name),
            Act::Unexpose(name) => self.services.contains(name),
            Act::Ask(name) => !self.asked.contains(name),
            Act::Withdraw(name) => self.asked.contains(name),
        }
    }
}

/// The name of the Pod that no node can take.
const TOO_LARGE: &str = "whale";

/// The names the user knows.
const NAMES: [&str; 4] = ["web", "api", "db", "queue"];

impl Script {
    /// The script of a seed, of the acts that its mix has.
    pub fn of_seed(seed: u64, mix: &Mix) -> Script {
        let mut draws = Draws::new(seed, 0x5c21_7074);
        let mut wanted = Wanted::default();
        let mut images = 0;
        let mut acts = Vec::with_capacity(mix.size.acts);
        for _ in 0..mix.size.acts {
            let act = next(&mut draws, mix, &wanted, &mut images);
            wanted.take(&act);
            // Often in quick succession, so that the acts meet controllers in the middle of something.
            let pause = if draws.below(3) == 0 { draws.below(mix.pause) } else { draws.below(800) };
            acts.push((Duration::from_millis(pause), act));
        }
        Script { acts }
    }

    /// Whether each act is possible when its turn comes.
    pub fn makes_sense(&self) -> bool {
        let mut wanted = Wanted::default();
        self.acts.iter().all(|(_, act)| {
            let possible = wanted.allows(act);
            wanted.take(act);
            possible
        })
    }

    /// What must be there in the end.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (_, act) in &self.acts {
            wanted.take(act);
        }
        wanted
    }
}

/// What a user does with a Deployment, each as often as it comes when all of it is on.
const CHANCES: [Verb; 10] = [
    Verb::Delete,
    Verb::Expose,
    Verb::Expose,
    Verb::Roll,
    Verb::Roll,
    Verb::Roll,
    Verb::Scale,
    Verb::Scale,
    Verb::Scale,
    Verb::Scale,
];

fn next(draws: &mut Draws, mix: &Mix, wanted: &Wanted, images: &mut u32) -> Act {
    if draws.below(12) == 0 && mix.verbs.contains(&Verb::Ask) {
        let name = TOO_LARGE.to_owned();
        return if wanted.asked.contains(&name) { Act::Withdraw(name) } else { Act::Ask(name) };
    }
    let names = &NAMES[..mix.names.clamp(1, NAMES.len())];
    let name = names[draws.below(names.len() as u64) as usize].to_owned();
    let mut image = || {
        *images += 1;
        format!("registry.test/app:{images}")
    };
    if !wanted.deployments.contains_key(&name) {
        if wanted.services.contains(&name) && draws.below(4) == 0 {
            return Act::Unexpose(name);
        }
        // At least one of the two must be allowed, or no rollout could move.
        let surge = draws.number(0, 2);
        let unavailable = if surge == 0 { draws.number(1, 2) } else { draws.number(0, 2) };
        return Act::Create(Wish {
            name,
            replicas: draws.number(1, mix.replicas - 1),
            image: image(),
            surge,
            unavailable,
        });
    }
    let verbs: Vec<Verb> = CHANCES.into_iter().filter(|verb| mix.verbs.contains(verb)).collect();
    match verbs.get(draws.below(verbs.len() as u64) as usize) {
        Some(Verb::Delete) => Act::Delete(name),
        Some(Verb::Expose) if wanted.services.contains(&name) => Act::Unexpose(name),
        Some(Verb::Expose) => Act::Expose(name),
        Some(Verb::Roll) => Act::Roll { name, image: image() },
        _ => Act::Scale { name, replicas: draws.number(0, mix.replicas) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Size;

    fn mix(acts: usize) -> Mix {
        Mix::whole(Size { acts, ..Size::default() })
    }

    #[test]
    fn a_script_follows_from_its_seed_and_does_everything_sooner_or_later() {
        let of_seed = |seed| Script::of_seed(seed, &mix(30));
        assert_eq!(of_seed(7), of_seed(7));
        assert_ne!(of_seed(7), of_seed(8));
        let verbs: BTreeSet<String> = (0..20)
            .flat_map(|seed| of_seed(seed).acts)
            .map(|(_, act)| act.to_string().split(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(verbs.len(), 8, "{verbs:?}");
    }

    #[test]
    fn every_act_is_possible_when_its_turn_comes() {
        for seed in 0..200 {
            let script = Script::of_seed(seed, &mix(40));
            assert!(script.makes_sense(), "seed {seed}");
        }
        let scale = (Duration::ZERO, Act::Scale { name: "web".into(), replicas: 2 });
        assert!(!Script { acts: vec![scale] }.makes_sense(), "nothing is there to be scaled");
    }
}
