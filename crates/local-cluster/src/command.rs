//! Execution of other programs. Errors contain the command line and the program's output.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs `command` until it ends, and returns its standard output.
///
/// # Errors
/// When the program cannot be started, or fails. The error contains the command line and the output.
pub fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    checked(command, output)
}

/// Runs `command` like [`output`], with `input` on its standard input.
///
/// # Errors
/// As [`output`].
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let output = outcome(command, input)?;
    checked(command, output)
}

/// Runs `command` with `input` on its standard input until it ends, and returns output and exit status.
///
/// # Errors
/// When the program cannot be started.
pub fn outcome(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early closes its end of the pipe. Its exit status, which is checked below,
        // explains more than this error.
        drop(stdin.write_all(input.as_bytes()));
    }
    child.wait_with_output().with_context(|| format!("cannot wait for {}", line(command)))
}

/// Runs `command` like [`output`], with the file at `path` as its standard input.
///
/// # Errors
/// As [`output`], or when the file cannot be opened.
pub fn output_with_file(command: &mut Command, path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    command.stdin(file);
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    checked(command, output)
}

/// Runs `command` with the terminal of this process.
///
/// # Errors
/// When the program cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Returns the command line of `command` for messages, as a user would type it: quoted for a shell, and without the
/// wrapper by which [`Cluster::command`](crate::cluster::Cluster::command) enters a local cluster.
#[must_use]
pub fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let words: Vec<&str> = words.iter().map(|word| &**word).collect();
    without_wrapper(&words).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Removes `nsenter … -- env --chdir DIRECTORY VARIABLE=VALUE…`.
fn without_wrapper<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    let Some(("nsenter", arguments)) = words.split_first().map(|(program, arguments)| (*program, arguments))
    else {
        return words;
    };
    let end = arguments.iter().position(|word| *word == "--");
    match end.and_then(|end| arguments.get(end + 1..)) {
        Some(["env", "--chdir", _, rest @ ..]) => {
            let variables = rest.iter().take_while(|word| word.contains('=')).count();
            rest.get(variables..).unwrap_or_default()
        }
        _ => words,
    }
}

fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_=./:,@%+".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
    fn the_wrapper_of_a_local_cluster_is_left_out() {
        let mut command = Command::new("nsenter");
        command.args(["--net=/proc/7/ns/net", "--", "env", "--chdir", "/", "KUBECONFIG=/k", "PATH=/p"]);
        command.args(["kubectl", "--selector=app=a", "patch", "--patch", r#"{"a":"it's"}"#]);
        assert_eq!(line(&command), r#"kubectl --selector=app=a patch --patch '{"a":"it'\''s"}'"#);
        assert_eq!(line(Command::new("nsenter").args(["--target", "1"])), "nsenter --target 1");
    }

    #[test]
    fn errors_contain_command_line_and_output() {
        let error =
            output(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("oh no") && error.contains('3'), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(output_with_input(&mut Command::new("cat"), "hello").unwrap(), "hello");
    }
}
