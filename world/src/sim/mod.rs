//! The simulated world.

mod disk;

pub(crate) use disk::{SimDisk, SimFile};
