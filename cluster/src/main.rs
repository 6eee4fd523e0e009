//! skiff
fn main(){}
