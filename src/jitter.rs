//! Random jitter for backoff. The only place that draws it.

/// A random number in `0.0..=1.0`, so that calls that failed together are not retried together.
#[must_use]
pub fn jitter() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from(u32::try_from(high >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_range() {
        assert!((0..1000).map(|_| jitter()).all(|drawn| (0.0..=1.0).contains(&drawn)));
    }
}
