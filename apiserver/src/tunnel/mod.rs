//! The tunnel's server end.
use crate::registry::Registry;
use skiff_world::World;
/// All tunnels.
#[derive(Clone)]
pub struct Tunnels;
impl Tunnels {
    /// None.
    pub fn new(_world: World, _registry: Registry) -> Self { Self }
}
