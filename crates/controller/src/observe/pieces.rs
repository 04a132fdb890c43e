//! Takes a JSON answer of the API server apart while it arrives, so that one object of it is in memory at a time.

use futures::{AsyncBufRead, AsyncBufReadExt};
use std::{io, pin::Pin};

/// The most text that is kept of one object. etcd takes 1.5 MiB of an object, and as JSON it may be larger: of what
/// is beyond this, only the beginning is kept, which has its name.
pub(super) const MAX_TEXT: usize = 2 * 1024 * 1024;
/// The most text that is kept of what a list has beside its objects.
const MAX_REST: usize = 64 * 1024;
/// A buffer that has grown beyond this is given back after its object.
const KEPT_BUFFER: usize = 64 * 1024;

/// The body of an answer.
pub(super) type Body = Pin<Box<dyn AsyncBufRead + Send>>;

/// An answer, read object by object.
pub(super) struct Pieces {
    body: Body,
    splitter: Splitter,
}

/// The text of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Its text, or the beginning of it.
    pub(super) text: &'a [u8],
    /// How long it was.
    pub(super) length: usize,
}

/// Finds the objects in a text that comes in parts.
struct Splitter {
    /// How many brackets are open.
    depth: usize,
    /// How many are open between two objects; none until the list's `items` begin.
    level: Option<usize>,
    in_string: bool,
    escaped: bool,
    /// Of the object that is being read.
    text: Vec<u8>,
    length: usize,
    /// What is in no object.
    rest: Vec<u8>,
}

impl Pieces {
    /// The objects of a list: the elements of `items`.
    pub(super) fn of_list(body: Body) -> Self {
        Self { body, splitter: Splitter::new(None) }
    }

    /// The events of a watch, one after the other.
    pub(super) fn of_watch(body: Body) -> Self {
        Self { body, splitter: Splitter::new(Some(0)) }
    }

    /// The next object; `None` at the end of the answer. What ends in the middle of an object is not returned.
    pub(super) async fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.splitter.begin();
        loop {
            let part = self.body.fill_buf().await?;
            if part.is_empty() {
                return Ok(None);
            }
            let mut used = 0;
            let ended = part.iter().any(|byte| {
                used += 1;
                self.splitter.ends_with(*byte)
            });
            self.body.consume_unpin(used);
            if ended {
                return Ok(Some(Piece { text: &self.splitter.text, length: self.splitter.length }));
            }
        }
    }

    /// What the list has beside its objects, which is complete after the last.
    pub(super) fn rest(&self) -> &[u8] {
        &self.splitter.rest
    }
}

impl Splitter {
    fn new(level: Option<usize>) -> Self {
        let (text, rest) = (Vec::new(), Vec::new());
        Self { depth: 0, level, in_string: false, escaped: false, text, length: 0, rest }
    }

    /// Makes room for the next object.
    fn begin(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BUFFER);
        self.length = 0;
    }

    /// Takes in a byte, and tells whether an object ends with it.
    fn ends_with(&mut self, byte: u8) -> bool {
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
        let begins_items = self.level.is_none() && byte == b'[' && self.depth == 1 && self.is_after_items();
        self.depth += 1;
        self.keep(byte);
        if begins_items {
            self.level = Some(self.depth);
        }
    }

    fn close(&mut self, byte: u8) -> bool {
        self.keep(byte);
        self.depth = self.depth.saturating_sub(1);
        if self.level.is_some_and(|level| self.depth < level) {
            self.level = None;
        }
        self.level == Some(self.depth)
    }

    fn is_after_items(&self) -> bool {
        let before = self.rest.trim_ascii_end().strip_suffix(b":");
        before.is_some_and(|before| before.trim_ascii_end().ends_with(b"\"items\""))
    }

    fn keep(&mut self, byte: u8) {
        if self.level.is_some_and(|level| self.depth > level) {
            self.length += 1;
            if self.text.len() < MAX_TEXT {
                self.text.push(byte);
            }
            return;
        }
        let is_between_objects = self.level == Some(self.depth) && byte != b']';
        if !is_between_objects && self.rest.len() < MAX_REST {
            self.rest.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{TryStreamExt, stream};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn body(text: &str, part: usize) -> Body {
        let parts: Vec<io::Result<Vec<u8>>> =
            text.as_bytes().chunks(part).map(|part| Ok(part.to_vec())).collect();
        Box::pin(stream::iter(parts).into_async_read())
    }

    async fn all(mut pieces: Pieces) -> (Vec<Value>, Vec<u8>) {
        let mut found = Vec::new();
        while let Some(piece) = pieces.next().await.unwrap() {
            assert_eq!(piece.length, piece.text.len());
            found.push(serde_json::from_slice(piece.text).unwrap());
        }
        (found, pieces.rest().to_vec())
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
        fn a_list_comes_apart_into_its_objects_and_the_rest(
            items in prop::collection::vec(any_object(), 0..5),
            metadata in any_object(),
            part in 1_usize..20,
            pretty: bool,
            metadata_last: bool,
        ) {
            let items = json!(items);
            let list = json!({ "a": metadata, "items": items, "z": if metadata_last { json!("1") } else { json!({}) } });
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) };
            let (found, rest) = block_on(all(Pieces::of_list(body(&text.unwrap(), part))));
            prop_assert_eq!(json!(found), items);
            let rest: Value = serde_json::from_slice(&rest).unwrap();
            prop_assert_eq!(&rest["a"], &metadata);
            prop_assert_eq!(&rest["z"], &list["z"]);
        }

        #[test]
        fn a_watch_comes_apart_into_its_events(
            events in prop::collection::vec(any_object(), 0..5),
            part in 1_usize..20,
        ) {
            let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
            let (found, _) = block_on(all(Pieces::of_watch(body(&lines, part))));
            prop_assert_eq!(found, events);
        }
    }

    #[test]
    fn a_list_without_items_and_an_answer_that_breaks_off_have_no_objects() {
        for text in [r#"{"metadata":{},"items":null}"#, r#"{"items":[]}"#, r#"{"items":[{"a":"#, ""] {
            let (found, _) = block_on(all(Pieces::of_list(body(text, 3))));
            assert!(found.is_empty(), "{text}");
        }
    }

    #[test]
    fn of_an_object_that_is_too_long_the_beginning_is_kept_and_the_next_is_whole() {
        let long = format!(r#"{{"name":"a","text":"{}"}}"#, "x".repeat(3 * MAX_TEXT));
        let text = format!(r#"{{"items":[{long},{{"name":"b"}}]}}"#);
        let mut pieces = Pieces::of_list(body(&text, 8192));
        block_on(async {
            let first = pieces.next().await.unwrap().unwrap();
            assert_eq!((first.length, first.text.len()), (long.len(), MAX_TEXT));
            assert!(first.text.starts_with(br#"{"name":"a","#));
            let second = pieces.next().await.unwrap().unwrap();
            assert_eq!(second.text, br#"{"name":"b"}"#);
            assert!(pieces.splitter.text.capacity() <= KEPT_BUFFER);
            assert!(pieces.next().await.unwrap().is_none());
        });
    }
}
