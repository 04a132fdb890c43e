//! Errors in annotations, as sentences for the user who wrote the annotation.

use crate::{ErrorCode, keys, spelling};

/// Error in one annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// The value is not allowed for the key.
    #[error("annotation {key}: {why}")]
    Invalid {
        /// The key with its prefix.
        key: String,
        /// The value, the values that are allowed, and the nearest correct spelling if there is one.
        why: String,
    },
    /// The value of `certmint.dev/mode` is reserved for a mode that does not exist yet.
    #[error(
        "annotation {key}: mode \"{0}\" is not supported yet; remove the annotation or write \"secret\"", key = keys::MODE
    )]
    UnsupportedMode(&'static str),
    /// The key has Certmint's prefix, but Certmint has no annotation of that name.
    #[error("annotation {key} does not exist{hint}; known: {known}", hint = spelling::hint(nearest.as_deref()), known = known())]
    Unknown {
        /// The key with its prefix.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
}

/// Maximum characters of an unknown key in a message.
const MAX_KEY_CHARS: usize = 120;

impl AnnotationError {
    pub(super) fn invalid(key: &str, why: &impl std::fmt::Display) -> Self {
        Self::Invalid { key: key.into(), why: why.to_string() }
    }

    pub(super) fn unknown(key: &str) -> Self {
        let key = spelling::truncate(key, MAX_KEY_CHARS);
        let nearest = spelling::nearest(&key, &keys::USER_KEYS).map(Into::into);
        Self::Unknown { key, nearest }
    }

    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid { .. } => ErrorCode::InvalidAnnotation,
            Self::UnsupportedMode(_) => ErrorCode::UnsupportedMode,
            Self::Unknown { .. } => ErrorCode::UnknownAnnotation,
        }
    }
}

fn known() -> String {
    keys::USER_KEYS.map(|key| key.trim_start_matches(keys::PREFIX)).join(", ")
}
