//! Skiff's kubelet.
