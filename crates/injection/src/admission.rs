//! The input and the result of an admission.

use crate::Patch;

/// Object under admission.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Namespace in the request. The object itself may lack it.
    pub namespace: &'a str,
    /// Name in the request, for an object that lacks it.
    pub name: Option<&'a str>,
    /// Object as JSON.
    pub object: &'a str,
    /// Former state of the object as JSON. Only an UPDATE has one.
    pub before: Option<&'a str>,
}

/// Changes and warnings for an object that is admitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injection {
    /// Changes. Empty when the object needs none.
    pub patch: Patch,
    /// Sentences for the user, which `kubectl` prints.
    pub warnings: Vec<String>,
}

impl Injection {
    /// Admits an object without changes.
    pub(crate) fn unchanged(warnings: Vec<String>) -> Self {
        Self { patch: Patch::default(), warnings }
    }
}
