//! Running other programs, with errors that tell what was run and what it said.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the error carries the command line and what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    checked(command, output)
}

/// Like [`output`], with `input` on its standard input.
///
/// # Errors
/// As [`output`].
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let output = outcome(command, input)?;
    checked(command, output)
}

/// Runs `command` to its end with `input` on its standard input, and returns what it printed and how it ended.
///
/// # Errors
/// When it cannot be started.
pub fn outcome(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early closes its end; its exit status below tells more than this error.
        drop(stdin.write_all(input.as_bytes()));
    }
    child.wait_with_output().with_context(|| format!("cannot wait for {}", line(command)))
}

/// Like [`output`], with the file at `path` as its standard input.
///
/// # Errors
/// As [`output`], or when the file cannot be opened.
pub fn output_with_file(command: &mut Command, path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    command.stdin(file);
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    checked(command, output)
}

/// Runs `command` with the caller's own terminal.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// The command line of `command`, for messages.
#[must_use]
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn checked(command: &Command, output: Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}\n{}{}", line(command), output.status, stdout, stderr);
    }
    Ok(stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_command_and_what_it_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("oh no") && error.contains('3'), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(output_with_input(&mut Command::new("cat"), "hello").unwrap(), "hello");
    }
}
