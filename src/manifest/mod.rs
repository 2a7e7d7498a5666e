//! Manifests: bytes into entries, or everything that is wrong with them.
