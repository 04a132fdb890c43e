//! HTTP/2 frame by frame (RFC 9113), because a library would not send what is wrong.

use crate::Target;
use crate::connection::{PATIENCE, Tls, connect, described};
use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The longest frame that nobody has to announce.
const LONGEST: usize = 16 * 1024;

/// An HTTP/2 connection.
pub(crate) struct Frames {
    read: ReadHalf<Tls>,
    write: WriteHalf<Tls>,
}

/// A frame that was received.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    /// Connects and sends the preface.
    pub(crate) async fn open(target: Target) -> Result<Self> {
        Self::open_with(target, &[]).await
    }

    /// Connects and sends the preface with settings, each an identifier and its value.
    pub(crate) async fn open_with(target: Target, settings: &[(u16, u32)]) -> Result<Self> {
        let (read, mut write) = tokio::io::split(connect(target, &["h2"]).await?);
        write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        let mut frames = Self { read, write };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
            .collect();
        frames.send(SETTINGS, 0, 0, &settings).await?;
        Ok(frames)
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.write.write_all(&frame(kind, flags, stream, payload)).await?;
        Ok(self.write.flush().await?)
    }

    /// Opens a stream.
    pub(crate) async fn headers(
        &mut self,
        stream: u32,
        path: &str,
        headers: &[(&str, &str)],
        end: bool,
    ) -> Result<()> {
        let block = head(path, headers);
        let (first, rest) = block.split_at(block.len().min(LONGEST));
        let end_stream = if end { END_STREAM } else { 0 };
        let whole = if rest.is_empty() { END_HEADERS } else { 0 };
        self.send(HEADERS, end_stream | whole, stream, first).await?;
        if !rest.is_empty() {
            self.send(CONTINUATION, END_HEADERS, stream, rest).await?;
        }
        Ok(())
    }

    /// Sends a whole request with a body.
    pub(crate) async fn post(&mut self, stream: u32, path: &str, body: &[u8]) -> Result<()> {
        self.headers(stream, path, &[("content-type", "application/json")], false).await?;
        let mut pieces = body.chunks(LONGEST).peekable();
        while let Some(piece) = pieces.next() {
            self.send(DATA, if pieces.peek().is_none() { END_STREAM } else { 0 }, stream, piece).await?;
        }
        Ok(())
    }

    /// Sends body without regard to flow control until something comes back.
    pub(crate) async fn flood_body(mut self, stream: u32, length: usize) -> Result<String> {
        let data = frame(DATA, 0, stream, &[b' '; LONGEST]);
        let write = &mut self.write;
        let sending = async {
            for _ in 0..length / LONGEST {
                if write.write_all(&data).await.is_err() {
                    break;
                }
            }
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = outcome(&mut self.read, stream) => outcome?,
            () = sending => String::new(),
        };
        // The answer, or stream or connection with FLOW_CONTROL_ERROR: it depends on how fast the server reads.
        let cut_off = ["413 BadRequest", "reset 3", "goaway 3", "ended"].contains(&&*outcome);
        Ok(if cut_off { "cut off".to_owned() } else { outcome })
    }

    /// Sends a head that never ends until something comes back.
    pub(crate) async fn continuation_flood(&mut self) -> Result<String> {
        let headers = frame(HEADERS, 0, 1, &head("/", &[]));
        // A header that is never indexed: its name `x-a`, its value 100 characters.
        let field = [b"\x10\x03x-a\x64".as_slice(), &[b'x'; 100]].concat();
        let continuation = frame(CONTINUATION, 0, 1, &field);
        let write = &mut self.write;
        let sending = async {
            if write.write_all(&headers).await.is_ok() {
                for _ in 0..100_000 {
                    if write.write_all(&continuation).await.is_err() {
                        break;
                    }
                }
            }
            std::future::pending().await
        };
        tokio::select! { outcome = outcome(&mut self.read, 1) => outcome, () = sending => Ok(String::new()) }
    }

    /// Opens streams and cancels each at once, all in one go.
    pub(crate) async fn rapid_reset(&mut self, path: &str, streams: u32) -> Result<()> {
        const CANCEL: u32 = 8;
        let block = head(path, &[]);
        let pairs = (0..streams).map(|number| 2 * number + 1).flat_map(|stream| {
            let opened = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            [opened, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        });
        let pairs: Vec<u8> = pairs.collect();
        // It may be cut off in the middle.
        let _ = timeout(PATIENCE, self.write.write_all(&pairs)).await;
        Ok(())
    }

    /// What becomes of a stream.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Result<String> {
        outcome(&mut self.read, stream).await
    }
}

/// What becomes of a stream: `STATUS CODE`, or `reset`, `goaway` with the code, or `ended`.
async fn outcome(read: &mut ReadHalf<Tls>, stream: u32) -> Result<String> {
    let (mut status, mut body) = (None, Vec::new());
    loop {
        let received = timeout(PATIENCE, receive(read)).await.context("neither answered nor ended")?;
        let Some(frame) = received else { return Ok("ended".to_owned()) };
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {}
            GOAWAY if code(&frame.payload, 4) != 0 => {
                return Ok(format!("goaway {}", code(&frame.payload, 4)));
            }
            RST_STREAM if frame.stream == stream && status.is_none() => {
                return Ok(format!("reset {}", code(&frame.payload, 0)));
            }
            HEADERS if frame.stream == stream => status = Some(status_of(&frame.payload)),
            DATA if frame.stream == stream => body.extend(&frame.payload),
            _ => {}
        }
        if let (Some(status), true) = (&status, frame.flags & END_STREAM != 0 && frame.stream == stream) {
            return Ok(described(status, &String::from_utf8_lossy(&body)));
        }
    }
}

async fn receive(read: &mut ReadHalf<Tls>) -> Option<Frame> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?];
    read.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
}

fn code(payload: &[u8], at: usize) -> u32 {
    payload.get(at..at + 4).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// `:status` is the first field: one of the static table (RFC 7541 appendix A), or its name with a literal value.
fn status_of(block: &[u8]) -> String {
    const COMMON: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    match block {
        [index @ 0x88..=0x8e, ..] => COMMON.get(usize::from(index - 0x88)).copied().unwrap_or("?").to_owned(),
        // Not compressed, or as Huffman code: digits have five (0 to 2) or six (3 to 9) bits.
        [_, 3, value @ ..] => String::from_utf8_lossy(value.get(..3).unwrap_or_default()).into_owned(),
        [_, length, value @ ..] if length & 0x80 != 0 => {
            digits(value.get(..usize::from(length & 0x7f)).unwrap_or_default())
        }
        _ => "?".to_owned(),
    }
}

fn digits(huffman: &[u8]) -> String {
    let bits: Vec<u8> =
        huffman.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |from: usize, count: usize| {
        bits.get(from..from + count).map(|bits| bits.iter().fold(0_u8, |number, bit| number << 1 | bit))
    };
    let (mut at, mut text) = (0, String::new());
    while text.len() < 3 {
        match (number(at, 5), number(at, 6)) {
            (Some(short @ 0..=2), _) => (text.push(char::from(b'0' + short)), at += 5),
            (_, Some(long @ 0x19..=0x1f)) => (text.push(char::from(b'3' + (long - 0x19))), at += 6),
            _ => return "?".to_owned(),
        };
    }
    text
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let length = length.get(1..).unwrap_or_default();
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a POST, none of them compressed.
pub(crate) fn head(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    // :method POST and :scheme https of the static table, then literals.
    let mut block = vec![0x83, 0x87];
    for (name, value) in [(":path", path), (":authority", "a")].iter().chain(headers) {
        block.push(0x10);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A length with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(127) else {
        block.extend(u8::try_from(number));
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.extend(u8::try_from(rest % 128 + 128));
        rest /= 128;
    }
    block.extend(u8::try_from(rest));
}
