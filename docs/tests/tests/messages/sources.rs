//! Extracts the messages from the programs' sources: the texts in `#[error]`, and every other text of four
//! words or more.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};

/// A message and its place in the sources.
#[derive(Debug)]
pub(crate) struct Message {
    /// Message with `…` for variable parts.
    pub(crate) text: String,
    /// File and line: `crates/…/file.rs:12`.
    pub(crate) place: String,
}

/// Messages and codes in the sources.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) messages: Vec<Message>,
    /// Places of log lines at WARN or ERROR without a field `code`.
    pub(crate) log_lines_without_code: Vec<String>,
    /// Names of all used variants of `ErrorCode`.
    pub(crate) codes: Vec<String>,
}

/// Crates with messages for users.
const CRATES: [&str; 9] = [
    "certificates",
    "certmint",
    "contract",
    "controller",
    "fetch",
    "injection",
    "planner",
    "server",
    "webhook",
];
/// Files without error messages: help texts of metrics and flags, texts of the page on annotations, texts of the error
/// codes, and tests.
const FILES_WITHOUT_MESSAGES: [&str; 7] =
    ["args.rs", "error_code.rs", "logs.rs", "metrics.rs", "reference.rs", "testing.rs", "tests.rs"];
/// Macros whose texts are not error messages.
const OTHER_MACROS: [&str; 4] = ["debug", "info", "trace", "concat"];

pub(crate) fn read(repository: &Path) -> Sources {
    let mut sources = Sources::default();
    for name in CRATES {
        for file in files(&repository.join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let tokens: TokenStream =
                text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let place = file.strip_prefix(repository).unwrap().display().to_string();
            MessageReader { place: &place, sources: &mut sources }.read(tokens, TextContext::Code);
        }
    }
    sources
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            found.extend(files(&path));
        } else if path.is_file() && !FILES_WITHOUT_MESSAGES.contains(&name) && !name.ends_with("_tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Where a text is in the source.
#[derive(Clone, Copy)]
enum TextContext {
    /// In an attribute `#[error]`.
    ErrorAttribute,
    /// In other code.
    Code,
}

impl TextContext {
    /// Returns the number of words from which a text counts as a message. In other code than `#[error]`, texts of fewer
    /// than four words are parts of other messages, or names such as JSON keys.
    fn min_words(self) -> usize {
        match self {
            Self::ErrorAttribute => 1,
            Self::Code => 4,
        }
    }
}

struct MessageReader<'a> {
    place: &'a str,
    sources: &'a mut Sources,
}

impl MessageReader<'_> {
    fn read(&mut self, tokens: TokenStream, context: TextContext) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let [token, after @ ..] = rest {
            rest = after;
            match (token, after) {
                (TokenTree::Punct(hash), [TokenTree::Group(attribute), item @ ..])
                    if hash.as_char() == '#' =>
                {
                    let inner: Vec<TokenTree> = attribute.stream().into_iter().collect();
                    rest = match inner.first() {
                        Some(TokenTree::Ident(name)) if name == "error" => {
                            self.read(attribute.stream(), TextContext::ErrorAttribute);
                            item
                        }
                        Some(TokenTree::Ident(name))
                            if name == "cfg" && attribute.stream().to_string().contains("test") =>
                        {
                            after_item(item)
                        }
                        _ => item,
                    };
                }
                (TokenTree::Punct(hash), [TokenTree::Punct(bang), TokenTree::Group(_), after @ ..])
                    if hash.as_char() == '#' && bang.as_char() == '!' =>
                {
                    rest = after;
                }
                (TokenTree::Ident(name), [TokenTree::Punct(bang), TokenTree::Group(_), after @ ..])
                    if bang.as_char() == '!' && OTHER_MACROS.iter().any(|other| name == other) =>
                {
                    rest = after;
                }
                (TokenTree::Ident(name), [TokenTree::Punct(bang), TokenTree::Group(line), ..])
                    if bang.as_char() == '!' && (name == "warn" || name == "error") =>
                {
                    let has_code = line
                        .stream()
                        .into_iter()
                        .any(|token| matches!(token, TokenTree::Ident(field) if field == "code"));
                    if !has_code {
                        let place = format!("{}:{}", self.place, name.span().start().line);
                        self.sources.log_lines_without_code.push(place);
                    }
                }
                (TokenTree::Ident(name), [TokenTree::Group(_), after @ ..]) if name == "expect" => {
                    rest = after
                }
                (TokenTree::Ident(name), [_, _, TokenTree::Ident(code), ..]) if name == "ErrorCode" => {
                    self.code(code);
                }
                (TokenTree::Group(group), _) => {
                    let is_block = group.delimiter() == Delimiter::Brace;
                    self.read(group.stream(), if is_block { TextContext::Code } else { context });
                }
                (TokenTree::Literal(literal), _) => {
                    self.literal(&literal.to_string(), literal.span(), context)
                }
                _ => {}
            }
        }
    }

    fn code(&mut self, code: &Ident) {
        self.sources.codes.push(code.to_string());
    }

    fn literal(&mut self, source: &str, span: Span, context: TextContext) {
        let Some(text) = value(source) else { return };
        let text = with_placeholders(&text);
        let words = text.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count();
        if words >= context.min_words() {
            let place = format!("{}:{}", self.place, span.start().line);
            self.sources.messages.push(Message { text, place });
        }
    }
}

/// Returns the tokens after an item, which ends with a block or a semicolon.
fn after_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens.iter().position(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    });
    tokens.get(end.map_or(tokens.len(), |end| end + 1)..).unwrap_or_default()
}

/// Returns the value of a string literal.
fn value(source: &str) -> Option<String> {
    let inner = source.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut chars = inner.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                '\n' => while chars.next_if(|next| next.is_whitespace()).is_some() {},
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    Some(value)
}

/// Replaces each `{…}` in a text with `…`, and joins the lines.
fn with_placeholders(text: &str) -> String {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut constant = String::new();
    let mut depth = 0;
    for char in text.chars() {
        match char {
            '{' => {
                depth += 1;
                constant.push('…');
            }
            '}' => depth -= 1,
            _ if depth > 0 => {}
            other => constant.push(other),
        }
    }
    let constant = constant.replace('\u{1}', "{").replace('\u{2}', "}");
    constant.split_whitespace().collect::<Vec<_>>().join(" ")
}
