//! What the simulated user wants, in order: a script that follows from the seed alone, so that the same user acts in
//! a run with faults and in one without, and both must end in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

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
        }
    }
}

/// The names the user knows.
const NAMES: [&str; 4] = ["web", "api", "db", "queue"];

/// A small generator of the script's own (SplitMix64): what the user wants must not shift with anybody else's draws.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    fn number(&mut self, from: i32, to: i32) -> i32 {
        from + self.below((to - from + 1).unsigned_abs().into()) as i32
    }
}

impl Script {
    /// The script of a seed, with so many acts.
    pub fn from_seed(seed: u64, length: usize) -> Script {
        let mut draws = Draws(seed ^ 0x5c21_7074);
        let mut wanted = Wanted::default();
        let mut images = 0;
        let mut acts = Vec::with_capacity(length);
        for _ in 0..length {
            let act = next(&mut draws, &wanted, &mut images);
            wanted.take(&act);
            // Often in quick succession, so that the acts meet controllers in the middle of something.
            let pause = if draws.below(3) == 0 { draws.below(20_000) } else { draws.below(800) };
            acts.push((Duration::from_millis(pause), act));
        }
        Script { acts }
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

fn next(draws: &mut Draws, wanted: &Wanted, images: &mut u32) -> Act {
    let name = NAMES[draws.below(NAMES.len() as u64) as usize].to_owned();
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
        return Act::Create(Wish { name, replicas: draws.number(1, 5), image: image(), surge, unavailable });
    }
    match draws.below(10) {
        0 => Act::Delete(name),
        1 | 2 if wanted.services.contains(&name) => Act::Unexpose(name),
        1 | 2 => Act::Expose(name),
        3..=5 => Act::Roll { name, image: image() },
        _ => Act::Scale { name, replicas: draws.number(0, 6) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_follows_from_its_seed_and_does_everything_sooner_or_later() {
        assert_eq!(Script::from_seed(7, 30), Script::from_seed(7, 30));
        assert_ne!(Script::from_seed(7, 30), Script::from_seed(8, 30));
        let verbs: BTreeSet<String> = (0..20)
            .flat_map(|seed| Script::from_seed(seed, 30).acts)
            .map(|(_, act)| act.to_string().split(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(verbs.len(), 6, "{verbs:?}");
    }

    #[test]
    fn every_act_is_possible_when_its_turn_comes() {
        for seed in 0..200 {
            let mut wanted = Wanted::default();
            for (_, act) in Script::from_seed(seed, 40).acts {
                let there = |name: &String| wanted.deployments.contains_key(name);
                match &act {
                    Act::Create(wish) => assert!(!there(&wish.name) && wish.surge + wish.unavailable > 0),
                    Act::Scale { name, .. } | Act::Roll { name, .. } | Act::Delete(name) => assert!(there(name)),
                    Act::Expose(name) => assert!(!wanted.services.contains(name)),
                    Act::Unexpose(name) => assert!(wanted.services.contains(name)),
                }
                wanted.take(&act);
            }
        }
    }
}
