//! Builders of test objects.
