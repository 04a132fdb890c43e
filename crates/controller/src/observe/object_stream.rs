//! Splits a JSON response of the API server into objects while it arrives, so that only one object is in memory at a
//! time.

use std::io;
use std::pin::Pin;

use futures::{AsyncBufRead, AsyncBufReadExt};

/// Maximum length of the kept text of one object, in bytes. etcd stores at most 1.5 MiB per object; the same object can
/// be longer as JSON. If an object is longer than this limit, only its beginning is kept, which contains its name.
pub(super) const MAX_OBJECT_BYTES: usize = 2 * 1024 * 1024;
/// Maximum length of the kept text of a list without its objects, in bytes.
const MAX_REMAINDER_BYTES: usize = 64 * 1024;
/// Capacity that the buffer keeps from one object to the next, in bytes.
const MAX_IDLE_BUFFER_BYTES: usize = 64 * 1024;

/// Body of a response.
pub(super) type ResponseBody = Pin<Box<dyn AsyncBufRead + Send>>;

/// Response that is read object by object.
pub(super) struct ObjectStream {
    body: ResponseBody,
    splitter: Splitter,
}

/// Text of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ObjectText<'a> {
    /// First [`MAX_OBJECT_BYTES`] bytes of the text.
    pub(super) kept: &'a [u8],
    /// Length of the whole text, in bytes.
    pub(super) full_length: usize,
}

/// Finds the objects in a JSON text that arrives in parts.
struct Splitter {
    /// Number of open brackets.
    depth: usize,
    /// Number of open brackets between two objects. `None` in a list before its `items` begin and after they end.
    object_depth: Option<usize>,
    in_string: bool,
    escaped: bool,
    /// Kept text of the current object.
    text: Vec<u8>,
    /// Length of the current object so far.
    length: usize,
    /// Kept text outside of the objects.
    remainder: Vec<u8>,
}

impl ObjectStream {
    /// Reads a list: its objects are the elements of `items`.
    pub(super) fn of_list(body: ResponseBody) -> Self {
        Self { body, splitter: Splitter::new(None) }
    }

    /// Reads a watch: its objects are the events, one after the other.
    pub(super) fn of_watch(body: ResponseBody) -> Self {
        Self { body, splitter: Splitter::new(Some(0)) }
    }

    /// Returns the next object, or `None` at the end of the response. If the response ends within an object, that
    /// object is not returned.
    pub(super) async fn next(&mut self) -> io::Result<Option<ObjectText<'_>>> {
        self.splitter.start_object();
        loop {
            let part = self.body.fill_buf().await?;
            if part.is_empty() {
                return Ok(None);
            }
            let mut used = 0;
            let object_ended = part.iter().any(|byte| {
                used += 1;
                self.splitter.push(*byte)
            });
            self.body.consume_unpin(used);
            if object_ended {
                let Splitter { text, length, .. } = &self.splitter;
                return Ok(Some(ObjectText { kept: text, full_length: *length }));
            }
        }
    }

    /// Returns the text of a list without its objects. It is complete after [`Self::next`] has returned `None`.
    pub(super) fn remainder(&self) -> &[u8] {
        &self.splitter.remainder
    }
}

impl Splitter {
    fn new(object_depth: Option<usize>) -> Self {
        let (text, remainder) = (Vec::new(), Vec::new());
        Self { depth: 0, object_depth, in_string: false, escaped: false, text, length: 0, remainder }
    }

    /// Empties the buffer for the next object.
    fn start_object(&mut self) {
        self.text.clear();
        self.text.shrink_to(MAX_IDLE_BUFFER_BYTES);
        self.length = 0;
    }

    /// Adds a byte. Returns whether an object ends with it.
    fn push(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.keep(byte);
            let escapes = byte == b'\\' && !self.escaped;
            self.in_string = byte != b'"' || self.escaped;
            self.escaped = escapes;
            return false;
        }
        match byte {
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => return self.close(byte),
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            _ => self.keep(byte),
        }
        false
    }

    fn open(&mut self, byte: u8) {
        // Only the key `items` of the list itself begins the objects. The same key at a deeper level does not.
        let begins_items =
            self.object_depth.is_none() && byte == b'[' && self.depth == 1 && self.is_after_items_key();
        self.depth += 1;
        self.keep(byte);
        if begins_items {
            self.object_depth = Some(self.depth);
        }
    }

    /// Adds a closing bracket. Returns whether it closes an object.
    fn close(&mut self, byte: u8) -> bool {
        self.keep(byte);
        self.depth = self.depth.saturating_sub(1);
        if self.object_depth.is_some_and(|object_depth| self.depth < object_depth) {
            self.object_depth = None;
        }
        self.object_depth == Some(self.depth)
    }

    fn is_after_items_key(&self) -> bool {
        let before = self.remainder.trim_ascii_end().strip_suffix(b":");
        before.is_some_and(|before| before.trim_ascii_end().ends_with(b"\"items\""))
    }

    /// Stores a byte with the current object or with the remainder. Text between two objects is dropped.
    fn keep(&mut self, byte: u8) {
        if self.object_depth.is_some_and(|object_depth| self.depth > object_depth) {
            self.length += 1;
            if self.text.len() < MAX_OBJECT_BYTES {
                self.text.push(byte);
            }
            return;
        }
        let is_between_objects = self.object_depth == Some(self.depth) && byte != b']';
        if !is_between_objects && self.remainder.len() < MAX_REMAINDER_BYTES {
            self.remainder.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt, stream};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn body(text: &str, part: usize) -> ResponseBody {
        let parts: Vec<io::Result<Vec<u8>>> =
            text.as_bytes().chunks(part).map(|part| Ok(part.to_vec())).collect();
        Box::pin(stream::iter(parts).into_async_read())
    }

    async fn read_all(mut objects: ObjectStream) -> (Vec<Value>, Vec<u8>) {
        let mut found = Vec::new();
        while let Some(object) = objects.next().await.unwrap() {
            assert_eq!(object.full_length, object.kept.len());
            found.push(serde_json::from_slice(object.kept).unwrap());
        }
        (found, objects.remainder().to_vec())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            prop::sample::select(vec!["a", "]", "[{", "\"}", "\\", "\\\"", "items\":[", "é\u{1}"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((prop::sample::select(vec!["items", "a", "\"", "]"]), inner), 0..4)
                    .prop_map(|pairs| pairs.into_iter().collect::<Value>()),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::vec((prop::sample::select(vec!["items", "metadata", "spec"]), any_value()), 0..4)
            .prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn splits_a_list_into_its_objects_and_the_remainder(
            items in prop::collection::vec(any_object(), 0..5),
            metadata in any_object(),
            part in 1_usize..20,
            pretty: bool,
            metadata_last: bool,
        ) {
            let items = json!(items);
            let list = json!({ "a": metadata, "items": items, "z": if metadata_last { json!("1") } else { json!({}) } });
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) };
            let (found, remainder) = block_on(read_all(ObjectStream::of_list(body(&text.unwrap(), part))));
            prop_assert_eq!(json!(found), items);
            let remainder: Value = serde_json::from_slice(&remainder).unwrap();
            prop_assert_eq!(&remainder["a"], &metadata);
            prop_assert_eq!(&remainder["z"], &list["z"]);
        }

        #[test]
        fn splits_a_watch_into_its_events(
            events in prop::collection::vec(any_object(), 0..5),
            part in 1_usize..20,
        ) {
            let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
            let (found, _) = block_on(read_all(ObjectStream::of_watch(body(&lines, part))));
            prop_assert_eq!(found, events);
        }
    }

    #[test]
    fn empty_lists_and_broken_responses_have_no_objects() {
        for text in [r#"{"metadata":{},"items":null}"#, r#"{"items":[]}"#, r#"{"items":[{"a":"#, ""] {
            let (found, _) = block_on(read_all(ObjectStream::of_list(body(text, 3))));
            assert!(found.is_empty(), "{text}");
        }
    }

    #[test]
    fn keeps_the_beginning_of_a_long_object_and_the_next_whole() {
        let long = format!(r#"{{"name":"a","text":"{}"}}"#, "x".repeat(3 * MAX_OBJECT_BYTES));
        let text = format!(r#"{{"items":[{long},{{"name":"b"}}]}}"#);
        let mut objects = ObjectStream::of_list(body(&text, 8192));
        block_on(async {
            let first = objects.next().await.unwrap().unwrap();
            assert_eq!((first.full_length, first.kept.len()), (long.len(), MAX_OBJECT_BYTES));
            assert!(first.kept.starts_with(br#"{"name":"a","#));
            let second = objects.next().await.unwrap().unwrap();
            assert_eq!(second.kept, br#"{"name":"b"}"#);
            assert!(objects.splitter.text.capacity() <= MAX_IDLE_BUFFER_BYTES);
            assert!(objects.next().await.unwrap().is_none());
        });
    }
}
