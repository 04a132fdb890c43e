//! Reload hooks, which announce a new certificate to the application.

use std::fmt;
use std::str::FromStr;

use crate::spelling::{excerpt, hint};

/// Value of `certmint.dev/reload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// POST request to a URL on the pod's own loopback address.
    Http(LoopbackUrl),
    /// Signal to every process of that name, except worker processes: those whose parent process has the same name. The
    /// containers of the pod must share a process namespace.
    Signal {
        /// Signal that certmint-fetch sends.
        signal: Signal,
        /// Name of the process as in `/proc/PID/comm`, at most 15 bytes.
        process: Box<str>,
    },
}

/// URL with `http` or `https`, the host 127.0.0.1, `[::1]` or `localhost`, an explicit port, and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopbackUrl {
    /// True for `https`.
    pub tls: bool,
    /// Host: `127.0.0.1`, `::1` or `localhost`.
    pub host: &'static str,
    /// Port, 1 to 65535.
    pub port: u16,
    /// Path, which begins with `/` and has visible ASCII characters only.
    pub path: Box<str>,
}

/// Signals on which servers reload their certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP, for nginx, the master process of HAProxy, and PostgreSQL.
    Hup,
    /// SIGUSR1, on which some applications reload.
    Usr1,
    /// SIGUSR2, on which some applications reload.
    Usr2,
}

/// Error for a text that is not a reload hook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a reload hook{hint}: write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"
)]
pub struct ReloadError {
    text: String,
    hint: String,
}

impl FromStr for Reload {
    type Err = ReloadError;
    fn from_str(text: &str) -> Result<Self, ReloadError> {
        parse(text).ok_or_else(|| ReloadError { text: excerpt(text), hint: hint(suggestion(text)) })
    }
}

fn parse(text: &str) -> Option<Reload> {
    match text.strip_prefix("signal:") {
        Some(rest) => parse_signal(rest),
        None => parse_url(text).map(Reload::Http),
    }
}

/// Returns the hook that the user probably intended with a signal in another notation, or with a URL without scheme or
/// path.
fn suggestion(text: &str) -> Option<Reload> {
    let text = excerpt(text);
    let signal = text.strip_prefix("signal:").unwrap_or(&text).split_once(':').map(|(signal, process)| {
        let signal = signal.to_uppercase();
        format!("signal:SIG{}:{process}", signal.strip_prefix("SIG").unwrap_or(&signal))
    });
    let urls = [format!("http://{text}"), format!("{text}/"), format!("http://{text}/")];
    signal.into_iter().chain(urls).find_map(|text| parse(&text))
}

fn parse_signal(text: &str) -> Option<Reload> {
    let (signal, process) = text.split_once(':')?;
    let signal = match signal {
        "SIGHUP" => Signal::Hup,
        "SIGUSR1" => Signal::Usr1,
        "SIGUSR2" => Signal::Usr2,
        _ => return None,
    };
    // The kernel keeps 15 bytes of the name of a process (TASK_COMM_LEN).
    let is_valid =
        (1..=15).contains(&process.len()) && process.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    is_valid.then(|| Reload::Signal { signal, process: process.into() })
}

fn parse_url(text: &str) -> Option<LoopbackUrl> {
    let (tls, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://")?),
    };
    let slash = rest.find('/')?;
    let (authority, path) = rest.split_at_checked(slash)?;
    let (host, port) = authority.rsplit_once(':')?;
    let host = match host {
        "127.0.0.1" => "127.0.0.1",
        "[::1]" => "::1",
        "localhost" => "localhost",
        _ => return None,
    };
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port != 0)?;
    path.bytes().all(|b| b.is_ascii_graphic()).then(|| LoopbackUrl { tls, host, port, path: path.into() })
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
        })
    }
}

impl fmt::Display for LoopbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host {
            "::1" => write!(f, "{scheme}://[::1]:{}{}", self.port, self.path),
            host => write!(f, "{scheme}://{host}:{}{}", self.port, self.path),
        }
    }
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => url.fmt(f),
            Self::Signal { signal, process } => write!(f, "signal:{signal}:{process}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_hook_parses_to_the_same_value() {
        for text in [
            "signal:SIGHUP:nginx",
            "signal:SIGUSR1:haproxy",
            "http://127.0.0.1:8081/reload",
            "https://[::1]:9/",
            "http://localhost:80/a?b=c",
        ] {
            assert_eq!(text.parse::<Reload>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn hooks_outside_the_pod_are_rejected() {
        for text in [
            "",
            "http://10.0.0.1:80/",
            "http://127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:80",
            "http://127.0.0.1:+80/",
            "http://127.0.0.1:80@evil.example:80/",
            "http://127.0.0.1:80/\r\nHost:x",
            "ftp://127.0.0.1:80/",
            "signal:SIGKILL:nginx",
            "signal:SIGHUP:",
            "signal:SIGHUP:a-name-over-15-bytes",
            "signal:SIGHUP:../x",
        ] {
            assert!(text.parse::<Reload>().is_err(), "{text}");
        }
    }
}
