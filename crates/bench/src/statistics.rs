//! Statistics of repeated measurements.

/// Returns the median, or NaN for no values.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// Returns the quantile of the values for the fraction `share` by the nearest-rank method, or NaN for no values. The
/// result is one of the values: for 0.99, the smallest one with at least 99 % of all values less than or equal to it.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let values = || (1..=200).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(median(values()), 100.0);
        assert_eq!(quantile(values(), 0.99), 198.0);
        assert_eq!(quantile(values(), 1.0), 200.0);
        assert_eq!(quantile(vec![7.0], 0.99), 7.0);
        assert!(median(Vec::new()).is_nan());
    }
}
