//! What is wrong with an annotation, in a sentence for whoever wrote it.

use crate::{ErrorCode, keys, spelling};

/// One fault of one annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// The value is not allowed for that key.
    #[error("annotation {key}: {why}")]
    Invalid {
        /// The whole key.
        key: String,
        /// The value, what is allowed, and the nearest right spelling where there is one.
        why: String,
    },
    /// The key stands under our prefix, but does not exist.
    #[error("annotation {key} does not exist{hint}; known: {known}", hint = spelling::hint(nearest.as_deref()), known = known())]
    Unknown {
        /// The whole key.
        key: String,
        /// The nearest known key.
        nearest: Option<String>,
    },
}

impl AnnotationError {
    pub(super) fn invalid(key: &str, why: &impl std::fmt::Display) -> Self {
        Self::Invalid { key: key.into(), why: why.to_string() }
    }

    pub(super) fn unknown(key: &str) -> Self {
        let key: String = key.chars().take(120).collect();
        let nearest = spelling::nearest(&key, &keys::USER_KEYS).map(Into::into);
        Self::Unknown { key, nearest }
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid { .. } => ErrorCode::InvalidAnnotation,
            Self::Unknown { .. } => ErrorCode::UnknownAnnotation,
        }
    }
}

fn known() -> String {
    keys::USER_KEYS.map(|key| key.trim_start_matches(keys::PREFIX)).join(", ")
}
