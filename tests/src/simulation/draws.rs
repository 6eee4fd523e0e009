//! Chance that follows from a seed alone (SplitMix64): what the user wants and what goes wrong must not shift with
//! anybody else's draws, or a run could not be made smaller.

/// Draws, one after the other.
pub struct Draws(u64);

impl Draws {
    /// The draws of a seed for one purpose.
    pub fn new(seed: u64, purpose: u64) -> Draws {
        Draws(seed ^ purpose)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    /// A number between these two, both included.
    pub fn number(&mut self, from: i32, to: i32) -> i32 {
        from + self.below((to - from + 1).unsigned_abs().into()) as i32
    }
}
