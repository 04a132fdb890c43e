//! One measured number, with what it is to be judged by.

use serde::Serialize;

/// A measured number.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// The row it belongs to, which can be run alone.
    pub(crate) row: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// How much it was.
    pub(crate) value: f64,
    /// In what.
    pub(crate) unit: &'static str,
    /// What the same run gives for the least or the most that is possible, in the same unit.
    pub(crate) beside: Option<Beside>,
    /// What it is to keep to.
    pub(crate) target: Option<Target>,
    /// Whether it does.
    pub(crate) met: Option<bool>,
}

/// A floor or a ceiling, or another program doing the same.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Beside {
    pub(crate) what: String,
    pub(crate) value: f64,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Target {
    /// No more than this.
    Most(f64),
    /// No less than this.
    Least(f64),
    /// No more than so many times what stands beside it.
    MostTimes(f64),
    /// No less than so many times what stands beside it.
    LeastTimes(f64),
    /// No more than so much above what stands beside it.
    MostAbove(f64),
}

impl Figure {
    /// A number alone.
    pub(crate) fn new(row: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { row, what: what.into(), value, unit, beside: None, target: None, met: None }
    }

    /// Beside what the same run gave for `what`.
    #[must_use]
    pub(crate) fn beside(self, what: impl Into<String>, value: f64) -> Self {
        Self { beside: Some(Beside { what: what.into(), value }), ..self }
    }

    /// Judged.
    #[must_use]
    pub(crate) fn target(self, target: Target) -> Self {
        let met = target.bound(self.beside.as_ref()).map(|bound| match target {
            Target::Least(_) | Target::LeastTimes(_) => self.value >= bound,
            Target::Most(_) | Target::MostTimes(_) | Target::MostAbove(_) => self.value <= bound,
        });
        Self { target: Some(target), met, ..self }
    }

    /// Not judged after all.
    #[must_use]
    pub(crate) fn unjudged(self) -> Self {
        Self { target: None, met: None, ..self }
    }

    /// The bound, as a number in the figure's unit.
    pub(crate) fn bound(&self) -> Option<f64> {
        self.target.and_then(|target| target.bound(self.beside.as_ref()))
    }
}

impl Target {
    fn bound(self, beside: Option<&Beside>) -> Option<f64> {
        match self {
            Self::Most(bound) | Self::Least(bound) => Some(bound),
            Self::MostTimes(times) | Self::LeastTimes(times) => beside.map(|beside| beside.value * times),
            Self::MostAbove(more) => beside.map(|beside| beside.value + more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_what_stands_beside_it() {
        let figure = |value| Figure::new("row", "what", value, "ms").beside("floor", 10.0);
        assert_eq!(figure(20.0).target(Target::MostTimes(2.0)).met, Some(true));
        assert_eq!(figure(20.1).target(Target::MostTimes(2.0)).met, Some(false));
        assert_eq!(figure(4.9).target(Target::Least(5.0)).met, Some(false));
        assert_eq!(figure(5.0).target(Target::LeastTimes(0.5)).met, Some(true));
        assert_eq!(figure(4.9).target(Target::LeastTimes(0.5)).met, Some(false));
        assert_eq!(figure(11.0).target(Target::MostAbove(1.0)).met, Some(true));
        assert_eq!(figure(11.1).target(Target::MostAbove(1.0)).met, Some(false));
        assert_eq!(Figure::new("row", "what", 1.0, "ms").target(Target::MostTimes(2.0)).met, None);
    }
}
