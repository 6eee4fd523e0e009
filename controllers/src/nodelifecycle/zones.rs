//! Zones: how many nodes of one are lost decides how fast the lost are given up.
//!
//! | of a zone's nodes | the zone is | a lost node is given up |
//! |---|---|---|
//! | fewer than 55 % are lost, or at most two | well | every 10 s |
//! | at least 55 %, and more than two | partly disrupted | every 100 s; never, if it has 50 nodes or fewer |
//! | all | fully disrupted | every 10 s: other zones have room for its pods |
//!
//! If all zones are fully disrupted, it is more likely that we are deaf: then no node is given up at all, and those
//! that were are taken back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::nodes::NodeView;

/// Between two nodes of a zone that is well.
const PACE: Duration = Duration::from_secs(10);
/// Between two nodes of a large zone that is partly disrupted.
const SLOW_PACE: Duration = Duration::from_secs(100);
/// A zone of more nodes is a large one.
const LARGE: usize = 50;
/// So many percent of its nodes have to be lost to make a zone a disrupted one.
const DISRUPTED_PERCENT: usize = 55;
/// So many may be lost without making it one.
const TOLERATED: usize = 2;

/// What is the matter with a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Most of its nodes are ready.
    Normal,
    /// Many are not.
    PartialDisruption,
    /// None is.
    FullDisruption,
}

/// How many nodes of a zone there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Those that are ready.
    pub ready: usize,
    /// Those that are not.
    pub lost: usize,
}

impl Zone {
    /// What is the matter with it.
    pub fn state(&self) -> ZoneState {
        let nodes = self.ready + self.lost;
        match self.lost {
            lost if self.ready == 0 && lost > 0 => ZoneState::FullDisruption,
            lost if lost > TOLERATED && 100 * lost >= DISRUPTED_PERCENT * nodes => ZoneState::PartialDisruption,
            _ => ZoneState::Normal,
        }
    }

    /// The time between two nodes that are given up; `None`: none is.
    pub fn pace(&self) -> Option<Duration> {
        match self.state() {
            ZoneState::Normal | ZoneState::FullDisruption => Some(PACE),
            ZoneState::PartialDisruption if self.ready + self.lost > LARGE => Some(SLOW_PACE),
            ZoneState::PartialDisruption => None,
        }
    }
}

/// All zones, by `NodeView::place`.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: BTreeMap<String, Zone>,
}

impl Zones {
    /// Counts nodes, by what their conditions say.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a NodeView>) -> Zones {
        let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
        for node in nodes {
            let zone = zones.entry(node.place()).or_default();
            if node.is_ready() { zone.ready += 1 } else { zone.lost += 1 }
        }
        Zones { zones }
    }

    /// One of them.
    pub fn at(&self, place: &str) -> Zone {
        self.zones.get(place).copied().unwrap_or_default()
    }

    /// There are nodes, and not one is ready.
    pub fn all_lost(&self) -> bool {
        !self.zones.is_empty() && self.zones.values().all(|zone| zone.state() == ZoneState::FullDisruption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_of_a_zone_is_lost_the_slower_the_rest_is_given_up() {
        use ZoneState::{FullDisruption, Normal, PartialDisruption};
        // (ready, lost) -> state, seconds between two
        let table = [
            ((3, 0), Normal, Some(10)),
            ((2, 1), Normal, Some(10)),
            ((1, 2), Normal, Some(10)),
            ((3, 3), Normal, Some(10)),
            ((9, 11), PartialDisruption, None),
            ((10, 11), Normal, Some(10)),
            ((1, 3), PartialDisruption, None),
            ((22, 28), PartialDisruption, None),
            ((22, 29), PartialDisruption, Some(100)),
            ((0, 1), FullDisruption, Some(10)),
            ((0, 80), FullDisruption, Some(10)),
        ];
        for ((ready, lost), state, pace) in table {
            let zone = Zone { ready, lost };
            assert_eq!((zone.state(), zone.pace().map(|p| p.as_secs())), (state, pace), "{zone:?}");
        }
    }

    #[test]
    fn all_is_lost_only_if_every_zone_is() {
        let node = |region: &str, zone: &str, ready| NodeView {
            region: region.into(),
            zone: zone.into(),
            ready: Some(ready),
            ..NodeView::default()
        };
        use crate::nodes::ConditionStatus::{False, True, Unknown};
        assert!(!Zones::of([]).all_lost(), "there is nothing to lose");
        assert!(Zones::of(&[node("r", "a", Unknown), node("r", "b", False)]).all_lost());
        // One name in two regions is two zones.
        let zones = Zones::of(&[node("r", "a", Unknown), node("s", "a", True)]);
        assert!(!zones.all_lost());
        assert_eq!(zones.at("r/a"), Zone { ready: 0, lost: 1 });
    }
}
