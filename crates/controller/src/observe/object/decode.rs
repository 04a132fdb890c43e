//! Decodes watched objects and the events of a watch from JSON.
//!
//! Objects are filled in field by field. So the fields that were read before an error, or before the end of a text
//! that was cut, are known: the log and the Event can name the object.

use std::fmt;

use kube::core::Status as ApiStatus;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::WatchedObject;
use crate::observe::metadata::{FillMetadata, Metadata};
use crate::observe::object_stream::ObjectText;

/// One event of a watch.
#[derive(Debug)]
pub(in crate::observe) enum WatchEvent {
    /// The object exists; it is new or has changed.
    Apply(WatchedObject),
    /// The object was deleted.
    Delete(WatchedObject),
    /// No change: only the `resourceVersion` that the watch has reached.
    Bookmark(WatchedObject),
    /// The watch ends with this error of the API server.
    Error(Box<ApiStatus>),
}

#[derive(Deserialize)]
struct ErrorEvent {
    object: ApiStatus,
}

impl WatchedObject {
    /// Decodes an object. If the text was cut, decodes the fields at its beginning.
    pub(in crate::observe) fn read(text: &ObjectText<'_>) -> Result<Self, serde_json::Error> {
        let mut object = Self::default();
        let mut json = serde_json::Deserializer::from_slice(text.kept);
        let result = FillObject(&mut object).deserialize(&mut json);
        object.check(text, result)
    }

    /// Returns the object, or the error of decoding it. If the text was cut, an error is expected. So the error is
    /// ignored, and the object stores the length of the text.
    fn check(
        mut self,
        text: &ObjectText<'_>,
        result: Result<(), serde_json::Error>,
    ) -> Result<Self, serde_json::Error> {
        if text.kept.len() < text.full_length {
            self.too_long = Some(text.full_length);
        } else {
            result?;
        }
        Ok(self)
    }
}

impl WatchEvent {
    /// Decodes an event; `None` for an unknown type of event.
    pub(in crate::observe) fn read(text: &ObjectText<'_>) -> Result<Option<Self>, serde_json::Error> {
        let (mut event_type, mut object) = (String::new(), WatchedObject::default());
        let mut json = serde_json::Deserializer::from_slice(text.kept);
        let result = FillEvent { event_type: &mut event_type, object: &mut object }.deserialize(&mut json);
        if event_type == "ERROR" {
            let error: ErrorEvent = serde_json::from_slice(text.kept)?;
            return Ok(Some(Self::Error(Box::new(error.object))));
        }
        let object = object.check(text, result)?;
        Ok(match &*event_type {
            "ADDED" | "MODIFIED" => Some(Self::Apply(object)),
            "DELETED" => Some(Self::Delete(object)),
            "BOOKMARK" => Some(Self::Bookmark(object)),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for WatchedObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Self::default();
        FillObject(&mut object).deserialize(deserializer)?;
        Ok(object)
    }
}

/// Decodes JSON into an existing object, field by field.
struct FillObject<'a>(&'a mut WatchedObject);

impl<'de> DeserializeSeed<'de> for FillObject<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FillObject<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let object = self.0;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "metadata" => {
                    let mut metadata = Metadata::default();
                    let result = map.next_value_seed(FillMetadata(&mut metadata));
                    object.metadata = metadata.object;
                    object.labels_cut = metadata.labels_cut;
                    object.written_by_certmint = metadata.written_by_certmint;
                    result?;
                }
                "spec" => object.spec = map.next_value()?,
                "status" => object.status = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Decodes an event of a watch into its type and its object.
struct FillEvent<'a> {
    event_type: &'a mut String,
    object: &'a mut WatchedObject,
}

impl<'de> DeserializeSeed<'de> for FillEvent<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FillEvent<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { event_type, object } = self;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "type" => *event_type = map.next_value()?,
                "object" => map.next_value_seed(FillObject(object))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
